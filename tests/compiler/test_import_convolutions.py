"""Convolutions and poolings in their one form compute what the file says, by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from cnn_models import Builder, mobile, resnet, session
from onnx import TensorProto, helper, numpy_helper

from presilicon.compiler.importing import FloatGraph, import_model


def results(graph: FloatGraph, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes of a graph whose convolutions are in our form."""
    nodes = []
    for node in graph.nodes:
        attributes = dict(node.attributes)
        if "padding" in attributes:
            rank = len(graph.shape(node.inputs[0])) - 2
            pads = attributes["padding"]
            attributes = {
                "kernel_shape": attributes["kernel"][-rank:],
                "strides": attributes["stride"][-rank:],
                "pads": pads if rank == 2 else pads[1::2],
                **({"dilations": attributes["dilation"][-rank:], "group": attributes["groups"]} if node.op == "Conv" else {}),
                **({"count_include_pad": int(attributes["count_padding"])} if node.op == "AveragePool" else {}),
            }
        op, inputs = node.op, node.inputs
        if op == "Linear":
            op, attributes = "Gemm", {"transB": int(attributes.get("transposed", False))}
        if op == "Reshape":
            shape = np.array(graph.shape(node.outputs[0]), np.int64)
            nodes.append(helper.make_node("Constant", [], [f"{node.name}.shape"], value=numpy_helper.from_array(shape)))
            inputs = (node.inputs[0], f"{node.name}.shape")
        nodes.append(helper.make_node(op, inputs, node.outputs, node.name, **attributes))
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for _, name in graph.outputs],
        [numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return session(model).run(None, {"x": x})[0]


def same(model: onnx.ModelProto, shape: tuple[int, ...], tolerance: float = 2e-5) -> FloatGraph:
    """Checks the folded graph against the file's own results."""
    graph = import_model(model, "m").graph
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    want = session(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(results(graph, x), want, rtol=tolerance, atol=tolerance * np.abs(want).max())
    return graph


@pytest.mark.parametrize("model", [mobile(), resnet(18, image=32, width=8, classes=10)], ids=["mobile", "resnet-18"])
def test_batch_norm_goes_into_the_weights(model: onnx.ModelProto) -> None:
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    graph = same(model, (1, 3, size, size))
    assert not any(node.op == "BatchNormalization" for node in graph.nodes)
    assert all("groups" in node.attributes for node in graph.nodes if node.op == "Conv")
    # The nodes of the file that a convolution stands for are kept.
    assert graph.nodes[0].sources == ("conv_0", "batchnormalization_1")


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_automatic_padding(auto: str, stride: int) -> None:
    b = Builder(1)
    weights = b.constant(b.rng.standard_normal((4, 3, 4, 3)).astype(np.float32))
    b.node("Conv", "x", weights, auto_pad=auto, strides=[stride, stride])
    graph = same(b.model((1, 3, 11, 10), "conv_0", None), (1, 3, 11, 10))
    assert graph.nodes[0].attributes["kernel"] == (4, 3)


def test_one_axis_is_the_width() -> None:
    b = Builder(2)
    weights = b.constant(b.rng.standard_normal((6, 2, 3)).astype(np.float32))
    y = b.node("Conv", "x", weights, strides=[2], pads=[1, 0], dilations=[2])
    b.node("Relu", b.node("Add", b.constant(b.rng.standard_normal((6, 1)).astype(np.float32)), y))
    graph = same(b.model((1, 2, 20), "relu_2", None), (1, 2, 20))
    assert [node.op for node in graph.nodes] == ["Conv", "Relu"]
    attributes = graph.nodes[0].attributes
    assert (attributes["kernel"], attributes["stride"]) == ((1, 3), (1, 2))
    assert (attributes["padding"], attributes["dilation"]) == ((0, 1, 0, 0), (1, 2))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil", [0, 1])
def test_poolings(op: str, ceil: int) -> None:
    b = Builder(3)
    b.node(op, "x", kernel_shape=[3, 4], strides=[2, 3], pads=[1, 0, 1, 1], ceil_mode=ceil)
    graph = same(b.model((1, 5, 10, 12), f"{op.lower()}_0", None), (1, 5, 10, 12))
    assert graph.nodes[0].attributes["count_padding"] is False


def test_what_another_node_reads_is_not_folded() -> None:
    b = Builder(4)
    y = b.convolution("x", 3, 4, 3)
    b.node("Add", y, b.nodes[0].output[0])
    graph = same(b.model((1, 3, 6, 6), "add_2", None), (1, 3, 6, 6))
    # The batch norm stands apart then, as a product and a sum.
    assert [node.op for node in graph.nodes] == ["Conv", "Mul", "Add", "Add"]
    assert graph.nodes[1].sources == graph.nodes[2].sources == ("batchnormalization_1",)
