"""How near MiniLM's embeddings on the chip are to the float model's, by the way ranges are chosen and the format of weights.

Real sentences, other than those it was calibrated on; at the reference level, which simulator and hardware equal bit for bit.
Exits with 1 where the first row misses the bars: mean cosine 0.99, least 0.98, rank correlation of similarities 0.98.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "compiler"))
from minilm import NAME, encoded, sentences, source

from presilicon.compiler.importing.runtime import run, session
from presilicon.compiler.lower import lower
from presilicon.compiler.meaning import reference
from presilicon.compiler.ports import handed_out, taken
from presilicon.frontend.encoder_onnx import calibration

TOKENS = 32
WAYS: tuple[dict[str, Any], ...] = (
    {"method": "range"},
    {"method": "error"},
    {"method": "percentile"},
    {"method": "range", "weights": "int4", "group": 64},
    {"method": "range", "weights": "int4", "group": 128},
)


def main() -> int:
    """Prints the table; 1 where the default misses a bar."""
    raw = source().raw({"sequence": TOKENS})
    ready = session(raw, list(raw.inputs), ["sentence_embedding"])
    data = encoded(sentences("judge"), TOKENS)
    singles = [{name: array[i : i + 1] for name, array in data.items()} for i in range(len(data["input_ids"]))]
    floats = np.array([run(ready, one, "")[0][0] for one in singles])
    pairs = np.triu_indices(len(floats), 1)
    given = calibration(NAME, TOKENS)
    print(f"{len(floats)} sentences of {TOKENS} tokens, calibrated on {len(sentences('calibrate'))} others, alone and in a row")
    print(
        "| ranges | weights | mean cosine | least | rank correlation | lowering, s |\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    missed = 0
    for number, way in enumerate(WAYS):
        began = time.process_time()
        model = lower(source(), dims={"sequence": TOKENS}, calibration=given, **way)
        seconds = time.process_time() - began
        found = []
        for one in singles:
            tensors, arguments = taken(model.lowered, model.inputs, one)
            values = reference(model.lowered, tensors, arguments=arguments)
            found.append(handed_out(model.lowered, model.outputs, values)["sentence_embedding"][0])
        chip = np.array(found)
        cosines = (floats * chip).sum(1) / np.linalg.norm(floats, axis=1) / np.linalg.norm(chip, axis=1)
        rank = spearmanr((floats @ floats.T)[pairs], (chip @ chip.T)[pairs])[0]
        weights = way.get("weights", "int8") + (f" by {way['group']}" if "group" in way else "")
        print(
            f"| {way['method']} | {weights} | {cosines.mean():.4f} | {cosines.min():.4f} | {rank:.4f} | {seconds:.1f} |",
            flush=True,
        )
        if number == 0:
            missed = int(cosines.mean() < 0.99 or cosines.min() < 0.98 or rank < 0.98)
    return missed


if __name__ == "__main__":
    sys.exit(main())
