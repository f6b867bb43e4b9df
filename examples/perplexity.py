"""Perplexity of the trained decoder on text it has not seen: in float, and as the chip has it with int8 and int4 weights.

python examples/perplexity.py
python examples/perplexity.py --windows 8

Each window of the held-out text goes through at once, as a prefill. What a chip computes is the exact meaning of the lowered
model, which simulator and RTL equal bit for bit, on cores of every size.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from decoder import model
from numpy.typing import NDArray

from presilicon.compiler.lower import lower_onnx
from presilicon.compiler.meaning import reference
from presilicon.compiler.steps import Lowered

# Tokens of a window: of each the first half is only looked back at, so that all that count have a past.
WINDOW = 128
Logits = Callable[[NDArray[np.int64]], NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Perplexity; what of the float model's distribution is lost, in nats a token; how often the likeliest token is its."""

    perplexity: float
    divergence: float
    agreement: float


def distribution(logits: NDArray[np.generic]) -> NDArray[np.float64]:
    """Logarithms of the shares that a window's second half gives to each token."""
    found = logits.astype(np.float64)[WINDOW // 2 - 1 :]
    found -= found.max(axis=1, keepdims=True)
    return found - np.log(np.exp(found).sum(axis=1, keepdims=True))


def judged(logits: Logits, text: NDArray[np.int64], floats: Logits) -> Quality:
    """A model beside the float model, on the second half of each window."""
    losses, lost, same = [], [], []
    for window in text:
        own, of_float = distribution(logits(window[:-1])), distribution(floats(window[:-1]))
        losses.append(-own[np.arange(len(own)), window[WINDOW // 2 :]])
        lost.append((np.exp(of_float) * (of_float - own)).sum(axis=1))
        same.append(own.argmax(axis=1) == of_float.argmax(axis=1))
    return Quality(math.exp(float(np.mean(losses))), float(np.mean(lost)), float(np.mean(same)))


def windows(count: int) -> NDArray[np.int64]:
    """The held-out text in windows that advance by half their length: ``count`` of them spread over it, or (0) all."""
    text = model.held_out()
    starts = range(0, len(text) - WINDOW + 1, WINDOW // 2)
    found = np.stack([text[start : start + WINDOW] for start in starts])
    return found[np.linspace(0, len(found) - 1, count).round().astype(int)] if count else found


def measured(count: int) -> dict[str, Quality]:
    """Float, int8 and int4."""
    text = windows(count)
    positions = np.arange(WINDOW - 1)[None]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "licences.onnx"
        shape = model.write(path)
        session = onnxruntime.InferenceSession(path)
        empty = np.zeros((1, shape.kv_heads, 0, shape.dim), np.float32)
        past = {i.name: empty for i in session.get_inputs() if i.name.startswith("past")}

        def floats(ids: NDArray[np.int64]) -> NDArray[np.float32]:
            return session.run(["logits"], {"input_ids": ids[None], "position_ids": positions, **past})[0][0]

        found["float"] = judged(floats, text, floats)
        for weights in ("int8", "int4"):
            dims = {"sequence": WINDOW - 1, "past": shape.context - WINDOW + 1}
            lowered = lower_onnx(path, dims=dims, calibration=model.samples(), weights=weights).lowered

            def integers(ids: NDArray[np.int64], lowered: Lowered = lowered) -> NDArray[np.generic]:
                return reference(lowered, {"input_ids": ids}, arguments={"position": 0})["logits"]

            found[weights] = judged(integers, text, floats)
    return found


def main(argv: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=0, help="windows of the text; 0: all")
    given = parser.parse_args(argv)
    found = measured(given.windows)
    print("weights  perplexity   change  lost nats  same likeliest")
    for name, one in found.items():
        change = 100 * (one.perplexity / found["float"].perplexity - 1)
        print(f"{name:8}{one.perplexity:11.4f}{change:+8.2f} %{one.divergence:10.4f}{100 * one.agreement:14.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
