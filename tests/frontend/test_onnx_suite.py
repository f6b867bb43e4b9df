"""Every node test of ONNX's own suite is either refused in one sentence or counted with the shapes it returns."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import numpy_helper

from presilicon.dtypes import Formats
from presilicon.errors import ModelError
from presilicon.frontend.onnx_file import load_onnx
from presilicon.frontend.onnx_trace import Trace

_LARGEST = ("Compress", "NonMaxSuppression", "Unique", "NonZero")
"""Operators whose output is counted at its largest."""


def _cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in collect_testcases(None) if case.model is not None and case.data_sets]


def _fixed(case: Any) -> onnx.ModelProto:
    """The case's model with small integer inputs, which may set shapes, stored in it."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, data = list(model.graph.input), case.data_sets[0][0]
    kept = []
    for given, content in zip(inputs, data, strict=False):
        kind = given.type.tensor_type.elem_type
        if kind in (6, 7, 9) and isinstance(content, np.ndarray | np.generic) and np.size(content) <= 16:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(content), given.name))
        else:
            kept.append(given)
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model


def test_shapes_of_the_onnx_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    returned: list[Any] = []
    run = Trace.run

    def noted(self: Trace, graph: Any, inputs: Any) -> None:
        run(self, graph, inputs)
        returned[:] = self.returned

    monkeypatch.setattr(Trace, "run", noted)
    seen: Counter[str] = Counter()
    wrong = []
    path = tmp_path / "m.onnx"
    for case in _cases():
        path.write_bytes(_fixed(case).SerializeToString())
        try:
            graph = load_onnx(path).inference(batch=1, formats=Formats())
        except ModelError:
            seen["refused"] += 1
            continue
        seen["counted"] += 1
        assert float(graph.macs) >= 0
        assert float(graph.unique_bytes) >= 0
        kinds = {node.op_type for node in case.model.graph.node}
        for value, expected in zip(returned, case.data_sets[0][1], strict=False):
            shape = tuple(expected.dims) if isinstance(expected, onnx.TensorProto) else np.shape(expected)
            larger = len(value.shape) == len(shape) and all(a >= b for a, b in zip(value.shape, shape, strict=True))
            if value.shape != shape and not (larger and kinds & set(_LARGEST)):
                wrong.append(f"{case.name}: {value.shape} instead of {shape}")
    assert not wrong
    assert seen["counted"] > 3 * seen["refused"]
