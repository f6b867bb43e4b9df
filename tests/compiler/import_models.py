"""Small networks as exporters write them, with random weights, and what ONNX Runtime and the chip's steps make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from presilicon.compiler.importing import Source
from presilicon.compiler.importing.runtime import evaluate
from presilicon.compiler.lower import LoweredModel, lower
from presilicon.compiler.meaning import reference
from presilicon.compiler.ports import handed_out, taken

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Arrays = Mapping[str, np.ndarray[Any, Any]]


class Net:
    """Nodes and random weights; every value is known by the name of the node that makes it."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, np.ndarray[Any, Any]] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.opset = opset

    def input(self, name: str, *shape: int | str, kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        name = f"w{len(self.stored)}"
        spread = scale if scale is not None else shape[0] ** -0.5
        self.stored[name] = (self.rng.standard_normal(shape) * spread).astype(np.float32)
        return name

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.stored)}"
        self.stored[name] = np.asarray(value, kind)
        return name

    def op(
        self, kind: str, *inputs: str | float | int | list[int], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        given = [
            i if isinstance(i, str) else self.constant(i) if isinstance(i, float) else self.constant(i, np.int64)
            for i in inputs
        ]
        name = f"{kind}_{len(self.nodes)}"
        made = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, given, made, name=name, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            self.inputs,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            initializer=[numpy_helper.from_array(array, name) for name, array in self.stored.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def source(self, *outputs: str) -> Source:
        return Source(self.model(*outputs), "net")


def on_chip(model: LoweredModel, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs by the steps' exact meaning."""
    tensors, arguments = taken(model.lowered, model.inputs, inputs)
    return handed_out(model.lowered, model.outputs, reference(model.lowered, tensors, arguments=arguments))


def float_outputs(source: Source, inputs: Arrays, dims: Mapping[str, int] | None = None) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs by ONNX Runtime in fp32."""
    raw = source.raw(dims)
    values = evaluate(raw, inputs, [value for _, value in raw.outputs])
    return dict(zip([name for name, _ in raw.outputs], values, strict=True))


def cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-30))


def kinds(model: LoweredModel) -> list[str]:
    """The steps' kinds in order."""
    return [type(step).__name__ for step in model.lowered.steps]


def close(source: Source, calibration: Arrays, inputs: Arrays, least: float = 0.995, **options: Any) -> LoweredModel:
    """The lowered model, after its outputs were found to be close to ONNX Runtime's."""
    dims = options.get("dims")
    model = lower(source, calibration=calibration, **options)
    got, wanted = on_chip(model, inputs), float_outputs(source, inputs, dims)
    for name in got:
        assert got[name].shape == wanted[name].shape
        assert cosine(got[name], wanted[name]) >= least, name
    return model
