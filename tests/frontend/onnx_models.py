"""Small ONNX models made on the spot, for the tests of the ONNX frontend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT8, UINT8, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL


class Net:
    """Collects nodes and weights, then writes a model."""

    def __init__(self, opset: int = 21, **domains: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.opsets = [helper.make_opsetid("", opset)]
        self.opsets += [helper.make_opsetid(domain.replace("_", "."), version) for domain, version in domains.items()]

    def input(self, name: str, *shape: int | str | None, kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def weight(self, name: str, *shape: int, kind: Any = np.float32) -> str:
        self.weights.append(numpy_helper.from_array(np.ones(shape, dtype=kind), name))
        return name

    def constant(self, name: str, data: Any, kind: Any = np.int64) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(data, dtype=kind), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        outs = [f"{name}_y"] + [f"{name}_y{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), outs, name=name, domain=domain, **attributes))
        return outs[0]

    def model(self, *outputs: str, functions: Sequence[onnx.FunctionProto] = ()) -> onnx.ModelProto:
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, results, initializer=self.weights)
        return helper.make_model(graph, opset_imports=self.opsets, functions=list(functions), ir_version=10)

    def save(self, path: Path, *outputs: str, **more: Any) -> Path:
        path.write_bytes(self.model(*outputs, **more).SerializeToString())
        return path


def mlp(batch: int | str = "batch") -> Net:
    """784 -> 256 -> 10 with biases: 203,530 parameters, 203,264 MACs."""
    net = Net()
    x = net.input("x", batch, 784)
    h = net.op("Gemm", x, net.weight("w1", 256, 784), net.weight("b1", 256), transB=1)
    h = net.op("Relu", h)
    net.op("Add", net.op("MatMul", h, net.weight("w2", 256, 10)), net.weight("b2", 10))
    return net


def cnn() -> Net:
    """Convolutions with strides, depthwise, grouped and dilated ones, pooling and a classifier."""
    net = Net()
    x = net.input("x", "batch", 3, 32, 32)
    x = net.op("Conv", x, net.weight("c1", 16, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.op("BatchNormalization", x, *(net.weight(f"bn{i}", 16) for i in range(4)))
    x = net.op("Relu", x)
    x = net.op("Conv", x, net.weight("dw", 16, 1, 3, 3), net.weight("dwb", 16), group=16, pads=[1, 1, 1, 1])
    x = net.op("Conv", x, net.weight("gr", 32, 4, 3, 3), group=4, pads=[2, 2, 2, 2], dilations=[2, 2])
    y = net.op("Conv", x, net.weight("res", 32, 32, 1, 1))
    x = net.op("Relu", net.op("Add", y, x))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.op("Gemm", x, net.weight("fc", 32, 10), net.weight("fcb", 10))
    return net


def transformer(tokens: int | str = "tokens", width: int = 64, heads: int = 4) -> Net:
    """An embedding and one encoder block as exporters write it, with a mask and erf-GELU."""
    net = Net(17)
    ids = net.input("ids", "batch", tokens, kind=INT64)
    mask = net.input("mask", "batch", 1, 1, tokens)
    x = net.op("Gather", net.weight("table", 1000, width), ids)
    head = width // heads
    shape = net.op("Shape", x)
    split = net.op("Concat", net.op("Slice", shape, net.constant("zero", [0]), net.constant("two", [2])),
                   net.constant("heads", [heads, head]), axis=0)  # fmt: skip

    def projected(name: str, perm: list[int]) -> str:
        y = net.op("Add", net.weight(f"b{name}", width), net.op("MatMul", x, net.weight(f"w{name}", width, width)))
        return net.op("Transpose", net.op("Reshape", y, split), perm=perm)

    q, k, v = projected("q", [0, 2, 1, 3]), projected("k", [0, 2, 3, 1]), projected("v", [0, 2, 1, 3])
    scores = net.op("Div", net.op("MatMul", q, k), net.constant("root", np.sqrt(head), np.float32))
    mixed = net.op("MatMul", net.op("Softmax", net.op("Add", scores, mask), axis=-1), v)
    mixed = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant("flat", [0, 0, width]))
    out = net.op("Add", net.op("MatMul", mixed, net.weight("wo", width, width)), net.weight("bo", width))
    x = net.op("LayerNormalization", net.op("Add", out, x), net.weight("g1", width), net.weight("n1", width))
    up = net.op("Add", net.op("MatMul", x, net.weight("wu", width, 4 * width)), net.weight("bu", 4 * width))
    erf = net.op("Erf", net.op("Div", up, net.constant("root2", np.sqrt(2), np.float32)))
    gelu = net.op("Mul", net.op("Mul", up, net.op("Add", erf, net.constant("one", 1, np.float32))),
                  net.constant("half", 0.5, np.float32))  # fmt: skip
    down = net.op("Add", net.op("MatMul", gelu, net.weight("wd", 4 * width, width)), net.weight("bd", width))
    net.op("LayerNormalization", net.op("Add", down, x), net.weight("g2", width), net.weight("n2", width))
    return net


def qdq() -> Net:
    """An int8 matmul and an int8 convolution with quantise and dequantise nodes around them."""
    net = Net(13)
    x = net.input("x", "batch", 8, 16, 16)
    scale, zero = net.constant("s", 0.1, np.float32), net.constant("z", 0, np.uint8)
    signed = net.constant("zs", 0, np.int8)

    def around(value: str) -> str:
        return net.op("DequantizeLinear", net.op("QuantizeLinear", value, scale, zero), scale, zero)

    x = around(x)
    w = net.op("DequantizeLinear", net.weight("w", 4, 8, 3, 3, kind=np.int8), scale, signed)
    b = net.op("DequantizeLinear", net.weight("b", 4, kind=np.int32), scale)
    x = around(net.op("Relu", net.op("Conv", x, w, b, pads=[1, 1, 1, 1])))
    x = net.op("Reshape", x, net.constant("flat", [0, 1024]))
    fc = net.op("DequantizeLinear", net.weight("fc", 1024, 10, kind=np.int8), scale, signed)
    net.op("MatMul", x, fc)
    return net


def last(net: Net) -> str:
    """What the last node returns."""
    return str(net.nodes[-1].output[0])


def subgraph(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, tuple[int, Sequence[int]]], outputs: Sequence[str]
) -> onnx.GraphProto:
    """A body of If, Loop or Scan."""
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    return helper.make_graph(list(nodes), "body", given, [onnx.ValueInfoProto(name=name) for name in outputs])
