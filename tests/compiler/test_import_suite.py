"""ONNX's own node tests through the compiler: each is right, or refused in one sentence; none is wrong, none crashes."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import onnx
from import_models import on_chip
from onnx import numpy_helper

from presilicon.compiler.importing import Source
from presilicon.compiler.lower import lower
from presilicon.errors import ModelError

EVERY = 3
"""Every third of the suite's 1,900 cases, the first of each operator among them."""


def cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [case for case in collect_testcases(None) if case.model is not None and case.data_sets]
    seen: Counter[str] = Counter()
    kept = []
    for case in found:
        op = case.model.graph.node[0].op_type
        if seen[op] % EVERY == 0:
            kept.append(case)
        seen[op] += 1
    return kept


def known_before(case: Any) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The case's model with small whole numbers stored in it, which may set shapes, and its other inputs."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    given = dict(zip([i.name for i in case.model.graph.input], case.data_sets[0][0], strict=False))
    kept = []
    for i in list(model.graph.input):
        content = given.get(i.name)
        if (
            i.type.tensor_type.elem_type in (6, 7, 9)
            and isinstance(content, np.ndarray | np.generic)
            and np.size(content) <= 16
        ):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(given.pop(i.name)), i.name))
        else:
            kept.append(i)
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, {n: np.asarray(v) for n, v in given.items() if isinstance(v, np.ndarray | np.generic)}


def on_the_chip(model: onnx.ModelProto, inputs: dict[str, Any]) -> dict[str, Any] | str:
    """The outputs, or the sentence by which the model (or an input that is no tensor) is refused."""
    try:
        lowered = lower(Source(model, "case"), calibration={n: np.stack([v] * 3) for n, v in inputs.items()} or None)
        return on_chip(lowered, inputs)
    except ModelError as problem:
        return str(problem)


def test_the_onnx_suite() -> None:
    right: Counter[str] = Counter()
    for case in cases():
        found = on_the_chip(*known_before(case))
        if isinstance(found, str):
            assert "\n" not in found
            continue
        wanted = dict(zip([o.name for o in case.model.graph.output], case.data_sets[0][1], strict=True))
        for name, value in found.items():
            reach = max(1e-6, np.abs(wanted[name].astype(np.float64)).max(initial=0))
            assert value.shape == wanted[name].shape, case.name
            assert np.abs(value.astype(np.float64) - wanted[name]).max(initial=0) <= 0.05 * reach, case.name
        right[case.model.graph.node[0].op_type] += 1
    assert len(right) > 40
    assert right.keys() >= {"AveragePool", "Gelu", "MaxPool", "Slice", "Softmax", "Split", "Transpose"}
