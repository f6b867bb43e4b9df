"""The trained decoder as an ONNX file, and samples to calibrate it with.

python examples/decoder/model.py --out licences.onnx --samples samples.npz
presilicon compile licences.onnx --chip core-8x8 --dim sequence=1 --dim past=255 --calibrate samples.npz -o licences.prog
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from presilicon.frontend.decoder_file import write_decoder
from presilicon.frontend.decoder_shape import DecoderShape

WEIGHTS = Path(__file__).with_name("licences.npz")


def weights() -> dict[str, NDArray[np.generic]]:
    """What ``train.py`` wrote."""
    with np.load(WEIGHTS) as archive:
        return dict(archive)


def shape_of(given: Mapping[str, NDArray[np.generic]]) -> DecoderShape:
    """The sizes of the decoder, from its weights."""
    vocabulary, width = given["model.embed_tokens.weight"].shape
    heads = int(given["heads"])
    dim = given["model.layers.0.self_attn.q_proj.weight"].shape[0] // heads
    return DecoderShape(
        layers=sum(name.endswith("q_proj.weight") for name in given),
        width=width,
        heads=heads,
        kv_heads=given["model.layers.0.self_attn.k_proj.weight"].shape[0] // dim,
        dim=dim,
        hidden=given["model.layers.0.mlp.up_proj.weight"].shape[0],
        vocabulary=vocabulary,
        context=int(given["context"]),
        rope_base=float(given["rope_base"]),
        epsilon=float(given["epsilon"]),
    )


def write(path: str | Path) -> DecoderShape:
    """Writes the ONNX file; the decoder's sizes."""
    given = weights()
    shape = shape_of(given)
    write_decoder(path, shape, given)
    return shape


def samples() -> dict[str, NDArray[np.int64]]:
    """Windows of the text that it was trained on, as inputs of the file."""
    ids = weights()["samples"].astype(np.int64)
    return {"input_ids": ids, "position_ids": np.tile(np.arange(ids.shape[1]), (len(ids), 1))}


def held_out() -> NDArray[np.int64]:
    """Tokens of the text that it was not trained on."""
    return weights()["held_out"].astype(np.int64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="licences.onnx")
    parser.add_argument("--samples", default="samples.npz")
    arguments = parser.parse_args()
    write(arguments.out)
    np.savez(arguments.samples, **samples())
