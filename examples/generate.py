"""Text from a small trained decoder, token by token on a simulated chip; the first tokens on its RTL too.

python examples/generate.py --prompt "The licensor" --tokens 200
python examples/generate.py --chip core-4x4 --rtl-tokens 3 --weights int4 --temperature 0.7

The decoder (455,552 weights, one character a token) was trained by ``examples/decoder/train.py`` on licences that the Debian
package base-files carries. Embedding, attention over the KV cache and arg-max are on the chip, as all else; with a temperature
the host draws from the chip's logits.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import islice
from pathlib import Path

from decoder import model

import presilicon
from presilicon.generate import Characters, Generator, Token
from presilicon.session import Level, Session


def main(argv: list[str] | None = None) -> int:
    """Prints the text as it comes, then what it took; 1 where the levels disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chip", default="core-8x8")
    parser.add_argument("--prompt", default="The licensor")
    parser.add_argument("--tokens", type=int, default=120)
    parser.add_argument("--rtl-tokens", type=int, default=0, help="tokens that the RTL makes too; 0: none")
    parser.add_argument("--weights", choices=("int8", "int4"), default="int8")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "licences.onnx"
        shape = model.write(path)
        built = presilicon.compile(
            path,
            given.chip,
            dims={"sequence": 1, "past": shape.context - 1},
            calibration=model.samples(),
            weights=given.weights,
        )
    vocabulary, prompt = Characters(), Characters().encode(given.prompt)

    def text(level: Level, count: int, show: bool) -> list[Token]:
        made = []
        with Session(built.compiled, level) as session:
            tokens = Generator(session).tokens(prompt, temperature=given.temperature, seed=given.seed)
            for token in islice(tokens, count):
                made.append(token)
                if show:
                    print(vocabulary.decode([token.number]), end="", flush=True)
        return made

    print(given.prompt, end="", flush=True)
    made = text("simulate", given.tokens, True)
    clock = built.compiled.chip.need("clock_hz")
    cycles = sum(token.cycles for token in made)
    rate = len(made) * clock / cycles
    print(f"\n\n{len(made)} tokens, {cycles / len(made):,.0f} cycles a token on {given.chip}: {rate:,.0f} tokens/s")
    if not given.rtl_tokens:
        return 0
    rtl = text("rtl", given.rtl_tokens, False)
    same = rtl == made[: len(rtl)]
    print(f"RTL, first {len(rtl)} tokens: {'the same tokens in the same cycles' if same else f'{rtl} differ'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
