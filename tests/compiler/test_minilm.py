"""MiniLM-L6 from its published weights: close to the float model on sentences it was not calibrated on."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from import_models import kinds
from minilm import encoded, sentences, source
from scipy.stats import spearmanr

from presilicon.compiler.importing.runtime import run, session
from presilicon.compiler.lower import LoweredModel, lower
from presilicon.compiler.meaning import reference
from presilicon.compiler.ports import handed_out, taken
from presilicon.frontend.encoder_onnx import calibration

TOKENS, JUDGED = 32, 52


@pytest.fixture(scope="module")
def model() -> LoweredModel:
    began = time.process_time()
    lowered = lower(source(), dims={"sequence": TOKENS}, calibration=calibration("all-MiniLM-L6-v2", TOKENS))
    assert time.process_time() - began < 10
    return lowered


def test_its_export_is_the_published_model() -> None:
    """The similarities that the README of sentence-transformers gives for these sentences."""
    raw = source().raw({"sequence": TOKENS})
    ready = session(raw, list(raw.inputs), ["sentence_embedding"])
    data = encoded(["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."], TOKENS)
    rows = [run(ready, {name: array[i : i + 1] for name, array in data.items()}, "")[0][0] for i in range(3)]
    found = np.array(rows) @ np.array(rows).T
    assert np.allclose(found[np.triu_indices(3, 1)], [0.6660, 0.1046, 0.1411], atol=1e-4)


def test_its_own_calibration_data_are_its_sentences() -> None:
    texts = sentences("calibrate")
    own, tokenised = calibration("all-MiniLM-L6-v2", TOKENS), encoded(texts, TOKENS)
    assert all(np.array_equal(own[name][: len(texts)], array) for name, array in tokenised.items())
    full = own["attention_mask"][len(texts) :].sum(1)
    assert (full[:-1] == TOKENS).all()
    short = calibration("all-MiniLM-L6-v2", 6)["input_ids"]
    assert short.shape[1] == 6
    assert (short[:, 0] == 101).all()
    assert not set(texts) & set(sentences("judge"))


def test_every_node_is_on_the_chip(model: LoweredModel) -> None:
    assert not model.report.refused
    counted = Counter(kinds(model))
    assert (counted["Product"], counted["Attention"], counted["Gather"], counted["Reduce"]) == (24, 6, 2, 1)
    assert model.report.calibration == "49 samples, range"


def test_its_embeddings_are_those_of_the_float_model(model: LoweredModel) -> None:
    raw = source().raw({"sequence": TOKENS})
    ready = session(raw, list(raw.inputs), ["sentence_embedding"])
    data = encoded(sentences("judge")[:JUDGED], TOKENS)
    floats, found = [], []
    for number in range(JUDGED):
        one = {name: array[number : number + 1] for name, array in data.items()}
        floats.append(run(ready, one, "")[0][0])
        tensors, arguments = taken(model.lowered, model.inputs, one)
        values = reference(model.lowered, tensors, arguments=arguments)
        found.append(handed_out(model.lowered, model.outputs, values)["sentence_embedding"][0])
    a, b = np.array(floats), np.array(found)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    pairs = np.triu_indices(JUDGED, 1)
    assert cosines.mean() >= 0.99
    assert cosines.min() >= 0.98
    assert spearmanr((a @ a.T)[pairs], (b @ b.T)[pairs])[0] >= 0.98


def test_the_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    example = importlib.import_module("minilm_similarity")
    assert (
        example.main(["--tokens", "8", "--level", "reference", "Bread is food.", "He eats bread.", "Stars are far away."]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    found = [tuple(map(float, line.split()[:2])) for line in lines[1:4]]
    assert found[0] == pytest.approx((1.0, 1.0), abs=0.01)
    assert all(abs(chip - exact) < 0.05 for chip, exact in found)
    assert found[1][0] > found[2][0]
