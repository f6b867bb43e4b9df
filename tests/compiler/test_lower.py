"""Lowering: small networks come close to ONNX Runtime by the exact meaning of their steps, in the steps one would expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from import_models import INT64, Net, close, cosine, float_outputs, kinds, on_chip

from presilicon.compiler.compiled import HostPart
from presilicon.compiler.importing import Source
from presilicon.compiler.lower import LoweredPart, lower
from presilicon.compiler.meaning import reference
from presilicon.compiler.ports import handed_out, taken
from presilicon.compiler.steps import Attention, Product
from presilicon.errors import ModelError
from presilicon.frontend.encoder_onnx import bert


def data(shape: tuple[int, ...], count: int = 16, seed: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration data and one more input, normal numbers."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((count + 1, *shape)).astype(np.float32)
    return {"x": drawn[:-1]}, {"x": drawn[-1]}


# Products and what is joined to them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["Relu", "Sigmoid", "Tanh", "Gelu", "HardSwish", "Elu", "Softplus", "Abs", "LeakyRelu"])
def test_an_activation_is_joined_to_its_product(act: str) -> None:
    net = Net(20)
    x = net.input("x", 6, 32)
    h = net.op(act, net.op("Gemm", x, net.weight(24, 32), net.weight(24), transB=1))
    y = net.op("MatMul", h, net.weight(24, 8))
    model = close(net.source(y), *data((6, 32)))
    assert kinds(model) == ["Rows", "Product", "Product"]
    assert model.report.counts == {"on-chip": len(net.nodes)}


def test_a_residual_and_a_scale_are_joined_to_the_product() -> None:
    net = Net()
    x = net.input("x", 6, 16)
    y = net.op("Mul", net.op("Add", x, net.op("MatMul", x, net.weight(16, 16))), net.weight(16))
    assert kinds(close(net.source(y), *data((6, 16)))) == ["Rows", "Product", "Rows"]  # five streams are one too many
    net = Net()
    x = net.input("x", 6, 16)
    y = net.op("Add", x, net.op("Mul", net.op("MatMul", x, net.weight(16, 16)), 0.25))
    assert kinds(close(net.source(y), *data((6, 16)))) == ["Rows", "Product"]


def test_one_matrix_in_two_forms_is_written_at_once() -> None:
    net = Net()
    x = net.input("x", 6, 16)
    h = net.op("MatMul", x, net.weight(16, 16))
    y = net.op("Add", h, net.op("MatMul", h, net.weight(16, 16)))
    model = close(net.source(y), *data((6, 16)))
    first = next(step for step in model.lowered.steps if isinstance(step, Product))
    assert len(first.outputs) == 2


@pytest.mark.parametrize("group", [16, 32])
def test_int4_weights_are_levels_times_their_group(group: int) -> None:
    net = Net()
    x = net.input("x", 6, 64)
    y = net.op("MatMul", x, net.weight(64, 24))
    calibration, inputs = data((6, 64))
    model = close(net.source(y), calibration, inputs, 0.98, weights="int4", group=group)
    product = next(step for step in model.lowered.steps if isinstance(step, Product))
    levels, multipliers = (model.lowered.constants[name] for name in (product.weights, product.multipliers))
    assert levels.min() >= -8
    assert levels.max() <= 7
    assert multipliers.shape == (64 // group, 24)
    assert 1 <= multipliers.min() <= multipliers.max() <= 15


def test_zero_columns_and_constant_inputs_have_scales() -> None:
    net = Net()
    x = net.input("x", 2, 8)
    name = net.weight(8, 4)
    net.stored[name][:, 1] = 0
    y = net.op("MatMul", net.op("Mul", x, 0.0), name)
    model = lower(net.source(y), calibration={"x": np.ones((2, 2, 8), np.float32)})
    assert not on_chip(model, {"x": np.ones((2, 8), np.float32)})[y].any()


# Rows -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["LayerNormalization", "Softmax", "norm", "ArgMax", "Sqrt", "Exp", "Erf", "Floor"])
def test_rows(op: str) -> None:
    net = Net()
    x = net.input("x", 5, 24)
    least = 0.9999
    if op == "LayerNormalization":
        y = net.op(op, x, net.weight(24, scale=1.0), net.weight(24, scale=1.0))
    elif op == "norm":
        y = net.op("Div", x, net.op("Clip", net.op("ReduceL2", x, axes=[-1]), 1e-12))
    elif op == "Sqrt":
        y = net.op("Sqrt", net.op("Abs", x))
    else:
        y = net.op(op, x, **({"axis": -1} if op in ("Softmax", "ArgMax") else {}))
    calibration, inputs = data((5, 24))
    model = close(net.source(y), calibration, inputs, least)
    assert kinds(model) == ["Rows"]
    if op == "ArgMax":
        assert np.array_equal(on_chip(model, inputs)[y][:, 0], inputs["x"].argmax(1))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("other", ["matrix", "row", "number", "computed", "self"])
def test_two_operands(op: str, other: str) -> None:
    net = Net()
    x = net.input("x", 5, 24)
    near = net.op("Add", net.op("Abs", x), 0.5)
    second = {
        "matrix": lambda: net.constant(net.rng.uniform(0.5, 2, (5, 24))),
        "row": lambda: net.constant(net.rng.uniform(0.5, 2, 24)),
        "number": lambda: 1.5,
        "computed": lambda: net.op("Relu", near),
        "self": lambda: near,
    }[other]()
    for y in (net.op(op, near, second), net.op(op, second, near)):
        calibration, inputs = data((5, 24))
        model = lower(net.source(y), calibration=calibration)
        got, wanted = on_chip(model, inputs)[y], float_outputs(net.source(y), inputs)[y]
        assert np.abs(got - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


def test_reductions_over_tokens() -> None:
    for op in ("ReduceMean", "ReduceSum", "ReduceMax"):
        net = Net()
        x = net.input("x", 1, 12, 16)
        y = net.op("MatMul", net.op(op, x, **({} if op == "ReduceSum" else {"axes": [1]})), net.weight(16, 4))
        if op == "ReduceSum":
            net.nodes[0].input.append(net.constant([1], np.int64))
        assert kinds(close(net.source(y), *data((1, 12, 16)))) == ["Reduce", "Rows", "Product"]


# Arrangements ---------------------------------------------------------------------------------------------------------


def arranged(net: Net, x: str, form: str) -> str:
    match form:
        case "columns":
            return net.op("Add", *net.op("Split", x, outputs=2, axis=2))
        case "rows":
            return net.op("Relu", net.op("Slice", x, [1], [5], [1], [2]))
        case "transposed":
            return net.op("Relu", net.op("Transpose", x, perm=[0, 2, 1]))
        case "joined":
            return net.op("Concat", net.op("Relu", x), x, axis=2)
        case "stacked":
            return net.op("Concat", x, net.op("Relu", x), axis=1)
        case "led":
            return net.op("Relu", net.op("Concat", net.weight(1, 1, 16), x, axis=1))
        case "token":
            return net.op("Tanh", net.op("Gather", x, 0, axis=1))
    return net.op("Softmax", net.op("Reshape", x, [1, 12, 2, 4]), axis=-1)


@pytest.mark.parametrize("form", ["columns", "rows", "transposed", "joined", "stacked", "led", "token", "heads"])
def test_arrangements(form: str) -> None:
    net = Net()
    y = arranged(net, net.input("x", 1, 6, 16), form)
    close(net.source(y), *data((1, 6, 16)), 0.9999)


# Attention ------------------------------------------------------------------------------------------------------------


def attention(net: Net, x: str, form: str, tokens: int, heads: int = 2, dim: int = 8, kv_heads: int = 2) -> str:
    """An attention layer as different exporters write it."""
    wide = heads * dim

    def part(count: int, order: list[int]) -> Any:
        split = net.op("Reshape", net.op("MatMul", x, net.weight(wide, count * dim)), [1, tokens, count, dim])
        return net.op("Transpose", split, perm=order)

    q, v = part(heads, [0, 2, 1, 3]), part(kv_heads, [0, 2, 1, 3])
    k = part(kv_heads, [0, 2, 3, 1] if form != "apart" else [0, 2, 1, 3])
    if form == "apart":
        k = net.op("Transpose", k, perm=[0, 1, 3, 2])
    if kv_heads != heads:
        group = heads // kv_heads

        def repeated(value: str, *last: int) -> Any:
            wide = net.op("Expand", net.op("Unsqueeze", value, [2]), [1, kv_heads, group, *last])
            return net.op("Reshape", wide, [1, heads, *last])

        k, v = repeated(k, dim, tokens), repeated(v, tokens, dim)
    scale = dim**-0.5
    if form == "shared scale":
        q, k = (net.op("Mul", value, float(np.sqrt(scale))) for value in (q, k))
    scores = net.op("MatMul", q, k)
    if form in ("divided", "apart", "causal"):
        scores = net.op("Div", scores, float(1 / scale))
    elif form != "shared scale":
        scores = net.op("Mul", scores, scale)
    if form == "causal":
        triangle = np.triu(np.full((tokens, tokens), -1e9, np.float32), 1)
        scores = net.op("Add", scores, net.constant(triangle[None, None]))
    if form == "where":
        scores = net.op("Where", net.constant(np.tril(np.ones((1, 1, tokens, tokens))), bool), scores, -3.4e38)
    chances = net.op("Softmax", scores, axis=-1)
    if form == "guarded":
        chances = net.op("Where", net.op("IsNaN", chances), 0.0, chances)
    mixed = net.op("Transpose", net.op("MatMul", chances, v), perm=[0, 2, 1, 3])
    return net.op("MatMul", net.op("Reshape", mixed, [1, tokens, wide]), net.weight(wide, wide))


@pytest.mark.parametrize("form", ["divided", "scaled", "shared scale", "apart", "causal", "where", "guarded"])
def test_attention_as_exporters_write_it(form: str) -> None:
    net = Net()
    y = attention(net, net.input("x", 1, 12, 16), form, 12)
    model = close(net.source(y), *data((1, 12, 16)), 0.99)
    assert kinds(model) == ["Rows", "Product", "Attention", "Product"]
    step = next(step for step in model.lowered.steps if isinstance(step, Attention))
    assert step.causal == (form in ("causal", "where"))


def test_shared_heads_of_keys_are_not_repeated() -> None:
    net = Net()
    y = attention(net, net.input("x", 1, 12, 32), "scaled", 12, heads=4, kv_heads=2)
    model = close(net.source(y), *data((1, 12, 32)), 0.98)
    step = next(step for step in model.lowered.steps if isinstance(step, Attention))
    assert (step.heads, step.kv_heads) == (4, 2)
    assert model.lowered.tensors[step.k].columns == (4 + 2 + 2) * 8


def test_a_bias_on_scores_is_refused_with_its_reason() -> None:
    net = Net()
    x = net.input("x", 1, 6, 16)
    y = attention(net, x, "causal", 6)
    triangle = next(name for name, array in net.stored.items() if array.shape == (1, 1, 6, 6))
    net.stored[triangle] = np.linspace(-2, 0, 36, dtype=np.float32).reshape(1, 1, 6, 6)
    with pytest.raises(ModelError, match="a constant that is not causal, or adds a bias to scores"):
        lower(net.source(y))


@pytest.mark.parametrize("form", ["added", "where", "product"])
def test_masks_by_length(form: str) -> None:
    net = Net()
    x, mask = net.input("x", 1, 10, 16), net.input("attention_mask", 1, 10, kind=INT64)
    heads = [net.op("Transpose", net.op("Reshape", net.op("MatMul", x, net.weight(16, 16)), [1, 10, 2, 8]), perm=p)
             for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])]  # fmt: skip
    scores = net.op("Mul", net.op("MatMul", heads[0], heads[1]), 8**-0.5)
    wide = net.op("Unsqueeze", mask, [1, 2])
    if form == "added":
        low = net.op("Mul", net.op("Sub", 1.0, net.op("Cast", wide, to=1)), -10000.0)
        scores = net.op("Add", scores, low)
    elif form == "where":
        scores = net.op("Where", net.op("Equal", wide, 0), -1e9, scores)
    else:
        scores = net.op("Where", net.op("Cast", net.op("Mul", wide, wide), to=9), scores, -1e9)
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), heads[2])
    rng = np.random.default_rng(0)
    many = rng.standard_normal((9, 1, 10, 16)).astype(np.float32)
    ones = np.ones((8, 1, 10), np.int64)
    model = lower(net.source(y), calibration={"x": many[:8], "attention_mask": ones})
    for length in (1, 4, 10):
        given = {"x": many[8], "attention_mask": (np.arange(10) < length).astype(np.int64)[None]}
        assert cosine(on_chip(model, given)[y], float_outputs(net.source(y), given)[y]) > 0.99
    holes = np.ones((1, 10), np.int64)
    holes[0, 3] = 0
    with pytest.raises(ModelError, match="attention_mask is no mask that the program can take"):
        on_chip(model, {"x": many[8], "attention_mask": holes})


# Whole networks -------------------------------------------------------------------------------------------------------


def small_bert(tokens: int = 12) -> tuple[Source, dict[str, Any], dict[str, Any]]:
    """A BERT of two layers with random weights, calibration data and an input of 7 tokens."""
    rng = np.random.default_rng(3)
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_eps": 1e-12}
    sizes = {"embeddings.word_embeddings.weight": (50, 32), "embeddings.token_type_embeddings.weight": (2, 32),
             "embeddings.position_embeddings.weight": (16, 32), "embeddings.LayerNorm.weight": (32,),
             "embeddings.LayerNorm.bias": (32,)}  # fmt: skip
    for number in range(2):
        own = f"encoder.layer.{number}"
        shapes = dict.fromkeys(
            (f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense")), (32, 32)
        )
        norms = dict.fromkeys(("attention.output.LayerNorm", "output.LayerNorm"), (32,))
        for name, shape in {**shapes, "intermediate.dense": (64, 32), "output.dense": (32, 64), **norms}.items():
            sizes |= {f"{own}.{name}.weight": shape, f"{own}.{name}.bias": shape[:1]}
    weights = {
        name: (rng.standard_normal(shape) * 0.2 + ("LayerNorm.weight" in name)).astype(np.float32)
        for name, shape in sizes.items()
    }

    def drawn(count: int, length: int) -> dict[str, Any]:
        mask = np.broadcast_to(np.arange(tokens) < length, (count, tokens)).astype(np.int64)
        return {"input_ids": rng.integers(0, 50, (count, tokens)) * mask, "attention_mask": mask, "token_type_ids": 0 * mask}

    return Source(bert(config, weights), "bert"), drawn(16, tokens), drawn(1, 7)


def test_a_bert() -> None:
    source, calibration, inputs = small_bert()
    model = close(source, calibration, inputs, 0.99, dims={"sequence": 12})
    layer = ["Product", "Attention", "Product", "Rows", "Product", "Product", "Rows"]
    assert kinds(model) == ["Gather", "Gather", "Rows", "Rows", *layer, *layer, "Reduce", "Rows"]
    assert {port.name: port.role for port in model.inputs}["attention_mask"] == "length"
    assert not model.report.refused
    assert all(model.lowered.origin[step.name] for step in model.lowered.steps)


def test_indices_outside_of_their_table_are_refused() -> None:
    source, calibration, inputs = small_bert()
    model = lower(source, calibration=calibration, dims={"sequence": 12})
    for number in (50, -1):
        inputs["input_ids"][0, 3] = number
        with pytest.raises(ModelError, match=f"input_ids holds {number}, its table has 50 rows"):
            on_chip(model, inputs)


@pytest.mark.parametrize("method", ["range", "percentile", "error"])
def test_ways_to_choose_ranges(method: Any) -> None:
    source, calibration, inputs = small_bert()
    close(source, calibration, inputs, 0.98, dims={"sequence": 12}, method=method)


def test_without_calibration_data_the_report_says_so() -> None:
    source, _, inputs = small_bert()
    model = lower(source, dims={"sequence": 12})
    assert model.report.calibration == "8 random inputs"
    assert np.isfinite(on_chip(model, inputs)["sentence_embedding"]).all()


def test_the_same_file_gives_the_same_steps() -> None:
    source, calibration, _ = small_bert()
    one, two = (lower(source, calibration=calibration, dims={"sequence": 12}).lowered for _ in range(2))
    assert one.steps == two.steps
    assert all(np.array_equal(one.constants[name], two.constants[name]) for name in one.constants)


def test_a_file_of_onnx_runtimes_quantiser(tmp_path: Path) -> None:
    """Its levels are taken as they are, so no data is needed; the result is as near to float as ONNX Runtime's own int8."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, calibration, inputs = small_bert()
    for i in source.model.graph.input:
        i.type.tensor_type.shape.dim[1].dim_value = 12
    onnx.save(source.model, tmp_path / "float.onnx")
    rows = iter([{name: array[i : i + 1] for name, array in calibration.items()} for i in range(16)])
    reader = type("Reader", (quantization.CalibrationDataReader,), {"get_next": lambda self: next(rows, None)})()
    more = {"op_types_to_quantize": ["MatMul"], "extra_options": {"WeightSymmetric": True}, "per_channel": True}
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "int8.onnx",
        reader,
        weight_type=quantization.QuantType.QInt8,
        quant_format=quantization.QuantFormat.QDQ,
        **more,
    )
    model = lower(Source.file(tmp_path / "int8.onnx"))
    assert model.report.calibration.startswith("the file's own levels of")
    wanted = float_outputs(source, inputs)["sentence_embedding"]
    ready = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    near, theirs = (
        cosine(found, wanted) for found in (on_chip(model, inputs)["sentence_embedding"], ready.run(None, inputs)[0])
    )
    assert near > 0.999
    assert near > theirs - 0.0005


# The host -------------------------------------------------------------------------------------------------------------


def run_parts(parts: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    values = dict(inputs)
    for part in parts:
        if isinstance(part, HostPart):
            ready = onnxruntime.InferenceSession(part.model, providers=["CPUExecutionProvider"])
            made = dict(zip(part.outputs, ready.run(None, {n: values[n] for n in part.inputs}), strict=True))
        else:
            tensors, arguments = taken(part.lowered, part.inputs, {port.name: values[port.name] for port in part.inputs})
            made = handed_out(part.lowered, part.outputs, reference(part.lowered, tensors, arguments=arguments))
        values |= made
    return values


def odd_middle(net: Net, x: str) -> str:
    return net.op("MatMul", net.op("Atan", net.op("MatMul", x, net.weight(16, 16))), net.weight(16, 8))


def odd_end(net: Net, x: str) -> str:
    return net.op("Asinh", net.op("MatMul", x, net.weight(16, 16)))


def odd_start(net: Net, x: str) -> str:
    return net.op("MatMul", net.op("Asinh", x), net.weight(16, 16))


def odd_twice(net: Net, x: str) -> str:
    h = net.op("MatMul", net.op("Asinh", x), net.weight(16, 16))
    return net.op("Add", h, net.op("Relu", net.op("Asinh", h)))


@pytest.mark.parametrize(("build", "sides"), [(odd_middle, "chc"), (odd_end, "ch"), (odd_start, "hc"), (odd_twice, "hchc")])
def test_refused_nodes_run_on_the_host(build: Callable[[Net, str], str], sides: str) -> None:
    net = Net()
    y = build(net, net.input("x", 1, 6, 16))
    calibration, inputs = data((1, 6, 16))
    model = lower(net.source(y), calibration=calibration, host_fallback=True)
    assert "".join("c" if isinstance(part, LoweredPart) else "h" for part in model.parts) == sides
    assert cosine(run_parts(model.parts, inputs)[y], float_outputs(net.source(y), inputs)[y]) > 0.995
    assert {node.op for node in model.report.refused} <= {"Atan", "Asinh"}
    assert {node.status for node in model.report.refused} == {"host"}
    assert [port.name for port in model.inputs] == ["x"]
    assert [port.name for port in model.outputs] == [y]


def test_a_length_reaches_the_part_that_asks_for_it() -> None:
    source, calibration, inputs = small_bert()
    for node in source.model.graph.node:  # the first GELU becomes something that the chip does not have
        if node.op_type == "Erf":
            node.op_type = "Atan"
            break
    model = lower(source, calibration=calibration, dims={"sequence": 12}, host_fallback=True)
    assert len(model.parts) == 3
    assert {port.role for part in model.parts[::2] for port in part.inputs if port.name == "attention_mask"} == {"length"}
    found = run_parts(model.parts, inputs)["sentence_embedding"]
    assert cosine(found, float_outputs(source, inputs, {"sequence": 12})["sentence_embedding"]) > 0.99


def test_a_mask_of_another_kind_goes_to_the_host_with_its_attention() -> None:
    net = Net()
    x = net.input("x", 1, 6, 16)
    y = attention(net, x, "causal", 6)
    triangle = next(name for name, array in net.stored.items() if array.shape == (1, 1, 6, 6))
    net.stored[triangle] = np.linspace(-2, 0, 36, dtype=np.float32).reshape(1, 1, 6, 6)
    calibration, inputs = data((1, 6, 16))
    model = lower(net.source(y), calibration=calibration, host_fallback=True)
    assert cosine(run_parts(model.parts, inputs)[y], float_outputs(net.source(y), inputs)[y]) > 0.99
    assert any("adds a bias" in node.reason for node in model.report.refused)
