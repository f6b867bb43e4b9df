"""MiniLM-L6 with its tokenizer and real sentences, for the tests and benches of whole models."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from presilicon.compiler.importing import Source
from presilicon.frontend.encoder_onnx import encoder_model, installed

NAME = "all-MiniLM-L6-v2"
SENTENCES = Path(__file__).with_name("sentences.txt")


@cache
def sentences(part: str) -> list[str]:
    """Those that the package calibrates on, or those of the file beside this one that it is judged on."""
    if part == "calibrate":
        text = (resources.files("presilicon") / "data" / "calibration" / "all-minilm-l6-v2.toml").read_text(encoding="utf-8")
        return [sentence["text"] for sentence in tomllib.loads(text)["sentence"]]
    return [line for line in SENTENCES.read_text().splitlines() if line and not line.startswith("#")]


@cache
def source() -> Source:
    folder = installed(NAME)
    assert folder is not None
    return Source(encoder_model(folder), NAME)


def encoded(texts: list[str], tokens: int) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of the model for texts, (texts, tokens) each."""
    folder = installed(NAME)
    assert folder is not None
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens)
    lines = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([line.ids for line in lines]),
        "attention_mask": np.array([line.attention_mask for line in lines]),
        "token_type_ids": np.array([line.type_ids for line in lines]),
    }
