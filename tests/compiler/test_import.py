"""Import: constants folded, patterns of several exporters as the operators they stand for, broken files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from import_models import FLOAT, INT64, Net, cosine
from onnx import TensorProto, helper, numpy_helper

from presilicon.compiler.importing import FloatGraph, Source, import_model
from presilicon.compiler.importing.match import matches, patterns
from presilicon.compiler.importing.runtime import evaluate
from presilicon.compiler.lower import lower, lower_onnx
from presilicon.errors import ModelError


def ops(graph: FloatGraph) -> list[str]:
    return [node.op for node in graph.nodes]


def canonical(net: Net, *outputs: str) -> FloatGraph:
    return import_model(net.model(*outputs), "net").graph


# Folding and sizes ----------------------------------------------------------------------------------------------------


def test_shapes_are_computed_before_the_run() -> None:
    net = Net()
    x = net.input("x", 1, "n", 8)
    size = net.op("Shape", x)
    n = net.op("Gather", size, 1, axis=0)
    flat = net.op("Concat", net.op("Unsqueeze", n, [0]), net.constant([8], np.int64), axis=0)
    y = net.op("Relu", net.op("Reshape", x, flat))
    raw = import_model(net.model(y), "net", {"n": 5})
    assert ops(raw.graph) == ["Reshape", "Relu"]
    assert raw.graph.shape(y) == (5, 8)
    assert len(raw.raw.all_nodes) == 6  # the folded ones are known too


def test_the_taken_branch_is_written_out() -> None:
    net = Net()
    x = net.input("x", 1, 4)
    rate = net.input("rate", kind=INT64)
    branches = []
    for name, op in (("then", "Relu"), ("other", "Neg")):
        body = helper.make_graph([helper.make_node(op, [x], [f"{name}_y"])], name, [], [onnx.ValueInfoProto(name=f"{name}_y")])
        branches.append(body)
    y = net.op("If", net.op("Equal", rate, 16000), then_branch=branches[0], else_branch=branches[1])
    model = net.model(y)
    assert ops(import_model(model, "net", {"rate": 16000}).graph) == ["Relu"]
    assert ops(import_model(model, "net", {"rate": 8000}).graph) == ["Neg"]
    with pytest.raises(ModelError, match="its condition depends on data"):
        import_model(model, "net")


def test_halves_become_fp32_and_weights_in_half_precision_are_only_storage() -> None:
    net = Net()
    x = net.input("x", 2, 8)
    net.stored["half"] = np.arange(32, dtype=np.float16).reshape(8, 4)
    y = net.op("MatMul", x, net.op("Cast", "half", to=1))
    graph = canonical(net, y)
    assert ops(graph) == ["Linear"]
    assert next(iter(graph.constants.values())).dtype == np.float32


@pytest.mark.parametrize("opset", [11, 18])
def test_arrangements_have_one_form_in_all_operator_sets(opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 1, 6, 8)
    if opset < 13:
        mean = net.op("ReduceMean", x, axes=[-1], keepdims=1)
        wide = net.op("Unsqueeze", x, axes=[0])
    else:
        mean = net.op("ReduceMean", x, [2], keepdims=1)
        wide = net.op("Unsqueeze", x, [0])
    part = net.op("Slice", x, [-2], [2**31], [2])
    graph = canonical(net, mean, wide, part)
    by_op = {node.op: node for node in graph.nodes}
    assert by_op["ReduceMean"].attributes == {"axes": (2,), "keepdims": True}
    assert by_op["Slice"].attributes == {"starts": (0, 0, 6), "steps": (1, 1, 1)}
    assert "Unsqueeze" not in by_op


# Patterns -------------------------------------------------------------------------------------------------------------


def test_a_pattern_binds_names_and_takes_sums_in_either_order() -> None:
    net = Net()
    x, y = net.input("x", 1, 4), net.input("y", 1, 4)
    total = net.op("Add", net.op("Sigmoid", y), x)
    graph = import_model(net.model(total), "net").graph
    (pattern,) = patterns("Add(a, Sigmoid(b))")
    assert list(matches(graph, total, pattern)) == [{"a": x, "b": y}]
    (same,) = patterns("Add(a, Sigmoid(a))")
    assert not list(matches(graph, total, same))
    assert len(patterns("{Relu(x)|Neg(x)}")) == 2


def layer_norm(net: Net, x: str, form: str) -> str:
    gamma, beta = net.weight(8, scale=1.0), net.weight(8, scale=1.0)
    if form == "operator":
        return net.op("LayerNormalization", x, gamma, beta, epsilon=1e-5)
    mean = net.op("ReduceMean", x, axes=[-1])
    centred = net.op("Sub", x, mean)
    square = net.op("Pow", centred, 2.0) if form == "torch" else net.op("Mul", centred, centred)
    variance = net.op("Add", net.op("ReduceMean", square, axes=[-1]), 1e-5)
    if form == "torch":
        return net.op("Add", net.op("Mul", net.op("Div", centred, net.op("Sqrt", variance)), gamma), beta)
    inverse = net.op("Mul", net.op("Reciprocal", net.op("Sqrt", variance)), gamma)
    return net.op("Add", net.op("Mul", x, inverse), net.op("Sub", beta, net.op("Mul", mean, inverse)))  # Keras


@pytest.mark.parametrize("form", ["operator", "torch", "keras"])
def test_layer_norms(form: str) -> None:
    net = Net()
    y = layer_norm(net, net.input("x", 3, 8), form)
    graph = canonical(net, y)
    assert ops(graph) == ["LayerNormalization"]
    assert graph.nodes[0].attributes["epsilon"] == pytest.approx(1e-5)
    assert len(graph.nodes[0].inputs) == 3


@pytest.mark.parametrize("form", ["rsqrt", "division", "power"])
def test_rms_norms(form: str) -> None:
    net = Net()
    x = net.input("x", 3, 8)
    mean = net.op("Add", net.op("ReduceMean", net.op("Mul", x, x), axes=[-1]), 1e-6)
    if form == "rsqrt":
        y = net.op("Mul", x, net.op("Div", 1.0, net.op("Sqrt", mean)))
    elif form == "division":
        y = net.op("Div", x, net.op("Sqrt", mean))
    else:
        y = net.op("Mul", x, net.op("Pow", mean, -0.5))
    graph = canonical(net, net.op("Mul", net.weight(8), y))
    assert ops(graph) == ["RMSNormalization"]


def gelu(net: Net, x: str, form: str) -> str:
    if form == "microsoft":
        return net.op("Gelu", x, domain="com.microsoft")
    if form.startswith("tanh"):
        cube = net.op("Pow", x, 3.0) if form == "tanh" else net.op("Mul", net.op("Mul", x, x), x)
        inner = net.op("Mul", net.op("Add", x, net.op("Mul", cube, 0.044715)), float(np.sqrt(2 / np.pi)))
        return net.op("Mul", net.op("Mul", 0.5, x), net.op("Add", 1.0, net.op("Tanh", inner)))
    inner = net.op("Div", x, float(np.sqrt(2))) if form == "torch" else net.op("Mul", x, float(np.sqrt(0.5)))
    one = net.op("Add", net.op("Erf", inner), 1.0)
    return net.op("Mul", net.op("Mul", x, one), 0.5) if form == "torch" else net.op("Mul", x, net.op("Mul", 0.5, one))


@pytest.mark.parametrize("form", ["torch", "keras", "microsoft", "tanh", "tanh-products"])
def test_gelus(form: str) -> None:
    net = Net()
    graph = canonical(net, gelu(net, net.input("x", 3, 8), form))
    assert ops(graph) == ["Gelu"]
    assert graph.nodes[0].attributes["approximate"] == ("tanh" if form.startswith("tanh") else "none")


def test_sources_name_every_node_that_an_operator_stands_for() -> None:
    net = Net()
    y = gelu(net, net.input("x", 3, 8), "torch")
    graph = canonical(net, y)
    assert graph.nodes[0].sources == tuple(node.name for node in net.nodes)


def test_what_only_looks_like_a_pattern_stays() -> None:
    net = Net()
    x = net.input("x", 3, 8)
    y = net.op("Mul", net.op("Mul", x, net.op("Add", net.op("Erf", net.op("Div", x, 1.5)), 1.0)), 0.5)
    assert "Gelu" not in ops(canonical(net, y))
    net = Net()
    x = net.input("x", 3, 8)
    y = net.op("Mul", x, net.op("Sigmoid", net.op("Add", x, 1.0)))
    assert "Silu" not in ops(canonical(net, y))


# Quantised files ------------------------------------------------------------------------------------------------------


def test_levels_of_a_quantised_file_are_taken_as_given() -> None:
    net = Net(21)
    x = net.input("x", 4, 16)
    rng = np.random.default_rng(1)
    net.stored["q"] = rng.integers(-127, 128, (16, 8)).astype(np.int8)
    net.stored["scale"] = rng.uniform(0.01, 0.02, 8).astype(np.float32)
    net.stored["none"] = np.zeros(8, np.int8)
    net.stored["xs"], net.stored["xz"] = np.float32(0.05), np.uint8(120)
    levels = net.op("DequantizeLinear", net.op("QuantizeLinear", x, "xs", "xz"), "xs", "xz")
    y = net.op("MatMul", levels, net.op("DequantizeLinear", "q", "scale", "none", axis=1))
    source = net.source(y)
    model = lower(source)
    product = next(step for step in model.lowered.steps if type(step).__name__ == "Product")
    assert np.array_equal(model.lowered.constants[product.weights], net.stored["q"])
    tensor = model.lowered.tensors[product.x]
    assert (tensor.scale, tensor.zero_point) == (pytest.approx(0.05), 120 - 128)


# Broken files ---------------------------------------------------------------------------------------------------------


def refused(net: Net, output: str, match: str, **options: object) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        lower(net.source(output), **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_refused_nodes_are_named_with_their_reason() -> None:
    net = Net()
    x = net.input("x", 2, 8)
    y = net.op("MatMul", net.op("Asinh", x), net.weight(8, 4))
    z = net.op("Acosh", y)
    refused(net, z, r"2 nodes cannot go onto the chip: Asinh_0 \(Asinh\): the compiler has no rule for this operator; Acosh_2")


def test_missing_external_weights(tmp_path: Path) -> None:
    net = Net()
    y = net.op("MatMul", net.input("x", 2, 8), net.weight(8, 400))
    onnx.save_model(net.model(y), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert lower_onnx(tmp_path / "m.onnx").lowered.steps
    (tmp_path / "m.data").unlink()
    with pytest.raises(ModelError, match=r"m\.data.*missing"):
        lower_onnx(tmp_path / "m.onnx")


def test_open_sizes_and_unknown_ones() -> None:
    net = Net()
    y = net.op("Relu", net.input("x", 1, "length", 8))
    refused(net, y, "sizes are not set")
    refused(net, y, "no input has a size of that name", dims={"lenght": 4})


def test_calibration_data_that_does_not_match() -> None:
    net = Net()
    y = net.op("MatMul", net.input("x", 2, 8), net.weight(8, 4))
    good = np.ones((3, 2, 8), np.float32)
    for data, match in (
        ({"y": good}, "the model has no input 'y'"),
        ({"x": good[..., :4]}, "a sample of x is 2 x 4, the model takes 2 x 8"),
        ({"x": good * np.nan}, "not finite"),
        ({"x": good.astype(complex)}, "of type complex128"),
        ({"x": good[:0]}, "x holds no samples"),
        ({"x": good, "z": good[:2]}, "different numbers of samples"),
        ({}, "is empty"),
    ):
        refused(net, y, match, calibration=data)


def test_values_that_are_not_finite_on_the_data() -> None:
    net = Net()
    x = net.input("x", 2, 8)
    y = net.op("MatMul", net.op("Exp", net.op("Mul", x, 1e3)), net.weight(8, 4))
    refused(net, y, "not finite on the calibration data", calibration={"x": np.ones((2, 2, 8), np.float32)})


def test_loops_are_refused_in_one_sentence() -> None:
    net = Net()
    x = net.input("x", 2, 8)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["going"]), helper.make_node("Relu", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info(n, k, s)
            for n, k, s in (("i", INT64, []), ("go", TensorProto.BOOL, []), ("v", FLOAT, [2, 8]))
        ],
        [onnx.ValueInfoProto(name="going"), onnx.ValueInfoProto(name="w")],
    )
    net.stored["yes"] = np.asarray(True)
    y = net.op("Loop", net.constant(3, np.int64), "yes", x, body=body)
    refused(net, y, "loops are not compiled")


def test_the_graph_that_was_read_computes_what_the_file_does() -> None:
    import onnxruntime

    net = Net()
    x = net.input("x", 3, 8)
    y = layer_norm(net, net.op("MatMul", x, net.weight(8, 8)), "torch")
    given = {"x": net.rng.standard_normal((3, 8)).astype(np.float32)}
    raw = Source(net.model(y), "net").raw()
    (own,) = evaluate(raw, given, [y])
    ready = onnxruntime.InferenceSession(net.model(y).SerializeToString(), providers=["CPUExecutionProvider"])
    assert cosine(own, ready.run(None, given)[0]) > 0.999999
    assert numpy_helper.to_array(numpy_helper.from_array(own)).shape == (3, 8)
