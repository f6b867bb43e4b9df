"""ONNX files: counts against hand counts and published ones, number formats, fusion, control flow, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper, numpy_helper
from onnx_models import BOOL, FLOAT, INT64, Net, cnn, last, mlp, qdq, subgraph, transformer

from presilicon.dtypes import BF16, FP16, FP32, INT4, INT8, Formats
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend.onnx_file import load_onnx
from presilicon.frontend.vision import mobilenet, resnet50
from presilicon.graph import Attention, Convolution, Elementwise, Embedding, Graph, Matmul, Normalization

FP16S = Formats(FP16, FP16, FP16)


def load(net: Net, tmp_path: Path, /, *, batch: int = 1, formats: Formats = FP16S, **dims: int) -> Graph:
    return load_onnx(net.save(tmp_path / "m.onnx", last(net)), dims).inference(batch=batch, formats=formats)


def kinds(graph: Graph) -> list[str]:
    return [o.kind for o in graph]


# counts by hand


def test_mlp(tmp_path: Path) -> None:
    graph = load(mlp(), tmp_path)
    assert (graph.parameters, graph.macs) == (784 * 256 + 256 + 256 * 10 + 10, 784 * 256 + 256 * 10)
    first, relu, second = graph
    assert isinstance(first, Matmul)
    assert (first.m, first.k, first.n, first.bias, first.weights) == (1, 784, 256, True, FP16)
    assert isinstance(relu, Elementwise)
    assert relu.fused
    assert isinstance(second, Matmul)
    assert second.bias  # the Add became the bias


def test_convolutions(tmp_path: Path) -> None:
    graph = load(cnn(), tmp_path)
    stem = 16 * 16 * 16 * 3 * 9
    depthwise, grouped, pointwise, fc = 16 * 16 * 16 * 9, 16 * 16 * 32 * 4 * 9, 16 * 16 * 32 * 32, 320
    assert graph.macs == stem + depthwise + grouped + pointwise + fc
    weights = 16 * 27 + 2 * 16 + 16 * 9 + 16 + 32 * 36 + 32 * 32 + 330  # a batch norm counts scale and shift
    assert graph.parameters == weights
    convolutions = [o for o in graph if isinstance(o, Convolution)]
    assert [(c.groups, c.out_height) for c in convolutions] == [(1, 16), (16, 16), (4, 16), (1, 16)]
    fused = [o.name for o in graph if isinstance(o, Elementwise) and o.fused]
    assert fused == ["batchnormalization1", "relu2", "add6", "relu7"]


def test_transformer_block_has_one_attention_and_fused_gelu(tmp_path: Path) -> None:
    tokens, width = 10, 64
    graph = load(transformer(), tmp_path, tokens=tokens, batch=1)
    assert graph.macs == tokens * width * width * 12 + 2 * tokens * tokens * width
    assert graph.parameters == 1000 * width + 12 * width * width + 9 * width + 4 * width
    (attention,) = [o for o in graph if isinstance(o, Attention)]
    assert (attention.batch, attention.query_tokens, attention.kv_tokens, attention.heads) == (1, tokens, tokens, 4)
    assert (attention.head_dim, attention.value_dim, attention.causal, attention.cached) == (16, 16, False, False)
    assert attention.split == "heads"
    (embedding,) = [o for o in graph if isinstance(o, Embedding)]
    assert (embedding.rows, embedding.width, embedding.table_rows) == (tokens, width, 1000)
    assert sum(isinstance(o, Normalization) for o in graph) == 2
    unfused = [o.name for o in graph if type(o) is Elementwise and not o.fused]
    assert not unfused


def test_attention_stays_as_written_where_scores_are_used_twice(tmp_path: Path) -> None:
    net = Net()
    q, k = net.input("q", 1, 2, 5, 8), net.input("k", 1, 2, 8, 5)
    v = net.input("v", 1, 2, 5, 8)
    scores = net.op("MatMul", q, k)
    net.op("MatMul", net.op("Softmax", scores), v)
    path = net.save(tmp_path / "m.onnx", last(net), scores)
    graph = load_onnx(path).inference(batch=1, formats=FP16S)
    assert kinds(graph) == ["matmul", "elementwise", "matmul"]
    assert all(isinstance(o, Elementwise) or (isinstance(o, Matmul) and not o.has_weights and o.groups == 2) for o in graph)
    assert graph.macs == 2 * (2 * 5 * 5 * 8)
    assert graph.parameters == 0


def test_transposed_convolution(tmp_path: Path) -> None:
    net = Net()
    net.op("ConvTranspose", net.input("x", "n", 8, 5, 7), net.weight("w", 8, 3, 2, 2), net.weight("b", 3), strides=[2, 2])
    graph = load(net, tmp_path)
    assert (graph.macs, graph.parameters) == (5 * 7 * 8 * 3 * 4, 8 * 3 * 4 + 3)
    assert graph.operators[0].output_bytes == 10 * 14 * 3 * 2


@pytest.mark.parametrize("rank", [1, 3])
def test_convolutions_of_other_ranks(tmp_path: Path, rank: int) -> None:
    net = Net()
    net.op("Conv", net.input("x", "n", 4, *(10,) * rank), net.weight("w", 6, 4, *(3,) * rank))
    graph = load(net, tmp_path)
    assert (graph.macs, graph.parameters) == (8**rank * 6 * 4 * 3**rank, 6 * 4 * 3**rank)


@pytest.mark.parametrize(("kind", "gates", "directions"), [("LSTM", 4, 1), ("GRU", 3, 2), ("RNN", 1, 1)])
def test_recurrent(tmp_path: Path, kind: str, gates: int, directions: int) -> None:
    net = Net()
    tokens, k, hidden = 7, 5, 6
    more = {"direction": "bidirectional"} if directions == 2 else {}
    net.op(kind, net.input("x", tokens, "batch", k), net.weight("w", directions, gates * hidden, k),
           net.weight("r", directions, gates * hidden, hidden), net.weight("b", directions, 2 * gates * hidden),
           hidden_size=hidden, **more)  # fmt: skip
    graph = load(net, tmp_path, batch=1)
    assert graph.macs == tokens * directions * gates * hidden * (k + hidden)
    assert round(float(graph.parameters)) == directions * gates * hidden * (k + hidden + 2)
    steps = [o for o in graph if o.count == tokens]
    assert [o.kind for o in steps] == ["matmul", "elementwise"]
    assert float(steps[0].touched_weight_bytes) == directions * gates * hidden * (hidden + 1) * 2  # read at every step


def test_einsum(tmp_path: Path) -> None:
    net = Net()
    net.op("Einsum", net.input("x", 2, 5, 8), net.weight("w", 8, 3, 4), equation="btd,dhk->bthk")
    graph = load(net, tmp_path)
    assert (graph.macs, graph.parameters) == (2 * 5 * 8 * 12, 96)


def test_batched_and_broadcast_matmuls(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 3, 2, 5, 8)
    y = net.op("MatMul", x, net.input("y", 2, 8, 4))
    net.op("MatMul", y, net.weight("w", 2, 4, 6))
    graph = load(net, tmp_path)
    assert graph.macs == 3 * 2 * 5 * 8 * 4 + 3 * 2 * 5 * 4 * 6
    assert graph.parameters == 2 * 4 * 6


def test_stored_left_operand_is_the_weight(tmp_path: Path) -> None:
    net = Net()
    net.op("MatMul", net.weight("w", 16, 8), net.input("x", 1, 8, 20))
    (operator,) = load(net, tmp_path)
    assert isinstance(operator, Matmul)
    assert (operator.m, operator.k, operator.n, operator.has_weights) == (20, 8, 16, True)


def test_tied_weights_are_held_once(tmp_path: Path) -> None:
    net = Net()
    x = net.op("Gather", net.weight("table", 100, 8), net.input("ids", "batch", 4, kind=INT64))
    net.op("MatMul", x, net.op("Transpose", "table", perm=[1, 0]))
    graph = load(net, tmp_path)
    assert graph.parameters == 800
    assert graph.macs == 4 * 8 * 100
    lookup, head = graph
    assert isinstance(lookup, Embedding)
    assert not lookup.held  # the projection holds the table
    assert head.weight_bytes == 1600


def test_weights_of_twin_branches_are_held_once_and_read_twice(tmp_path: Path) -> None:
    net = Net()
    net.weight("w", 6, 4, 3, 3)
    net.weight("b", 6)
    a, b = (net.op("Conv", net.input(name, "batch", 4, 8, 8), "w", "b") for name in ("x1", "x2"))
    graph = load_onnx(net.save(tmp_path / "m.onnx", a, b)).inference(batch=1, formats=FP16S)
    assert graph.parameters == 6 * 36 + 6
    assert graph._sum("touched_weight_bytes") == 2 * 2 * (6 * 36 + 6)


def test_a_loop_boundary_is_not_fused_across(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "batch", 8)
    net.weight("w", 8, 8)
    body = subgraph([helper.make_node("Identity", ["c"], ["go"]), helper.make_node("MatMul", ["h", "w"], ["m"])],
                    {"i": (INT64, ()), "c": (BOOL, ()), "h": (FLOAT, (1, 8))}, ["go", "m"])  # fmt: skip
    net.op("Relu", net.op("Loop", net.constant("trips", 5), "", x, body=body))
    assert [getattr(o, "fused", None) for o in load(net, tmp_path)] == [None, False]


def test_shapes_and_constants_cost_nothing(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "batch", 4, 6)
    size = net.op("Mul", net.op("Gather", net.op("Shape", x), net.constant("i", [1])), net.constant("six", [6]))
    shape = net.op("Concat", net.constant("all", [-1]), size, axis=0)
    net.op("Identity", net.op("Reshape", x, shape))
    graph = load(net, tmp_path)
    assert graph.operators == ()
    assert graph.macs == graph.unique_bytes == 0


# number formats


def test_quantised_operators_keep_their_format(tmp_path: Path) -> None:
    graph = load(qdq(), tmp_path, formats=Formats())
    convolution, matmul = (o for o in graph if isinstance(o, Convolution | Matmul))
    assert isinstance(convolution, Convolution)
    assert isinstance(matmul, Matmul)
    assert (convolution.weights, convolution.activations, convolution.source, convolution.output) == (INT8,) * 4
    assert (matmul.weights, matmul.activations, matmul.source, matmul.output) == (INT8, INT8, INT8, BF16)
    assert graph.parameters == 4 * 8 * 9 + 4 + 10240
    assert [o.name for o in graph if isinstance(o, Elementwise) and not o.fused] == ["quantizelinear0"]


def test_formats_apply_to_real_numbers(tmp_path: Path) -> None:
    graph = load(mlp(), tmp_path, formats=Formats(INT4, FP16, FP16))
    assert {(o.weights, o.activations) for o in graph if isinstance(o, Matmul)} == {(INT4, FP16)}
    full = load(mlp(), tmp_path, formats=Formats(FP32, FP32, FP32))
    assert full.weight_bytes == 203_530 * 4


def test_weight_only_quantisation(tmp_path: Path) -> None:
    net = Net()
    w = net.op("DequantizeLinear", net.weight("w", 64, 32, kind=np.int8), net.weight("s", 32), axis=1)
    net.op("MatMul", net.input("x", "batch", 64), w)
    (operator,) = load(net, tmp_path)
    assert isinstance(operator, Matmul)
    assert (operator.weights, operator.activations, operator.source) == (INT8, FP16, FP16)


def test_integer_operators(tmp_path: Path) -> None:
    net = Net(13)
    zero = net.constant("z", 0, np.uint8)
    scale = net.constant("s", 0.5, np.float32)
    x = net.input("x", "batch", 4, 8, 8, kind=onnx.TensorProto.UINT8)
    w = net.weight("w", 6, 4, 3, 3, kind=np.uint8)
    x = net.op("QLinearConv", x, scale, zero, w, scale, zero, scale, zero, net.weight("b", 6, kind=np.int32))
    x = net.op("Reshape", x, net.constant("flat", [-1, 216]))
    x = net.op("QLinearMatMul", x, scale, zero, net.weight("v", 216, 5, kind=np.uint8), scale, zero, scale, zero)
    net.op("MatMulInteger", x, net.weight("u", 5, 3, kind=np.uint8))
    graph = load(net, tmp_path)
    assert graph.macs == 36 * 6 * 36 + 216 * 5 + 15
    assert graph.parameters == 6 * 36 + 6 + 216 * 5 + 15
    assert {o.weights for o in graph if isinstance(o, Convolution | Matmul)} == {INT8}
    assert [str(o.output) for o in graph if isinstance(o, Matmul)] == ["int8", "int32"]


def test_matmul_nbits(tmp_path: Path) -> None:
    net = Net(com_microsoft=1)
    net.op("MatMulNBits", net.input("x", "batch", 7, 64), net.weight("w", 32, 2, 16, kind=np.uint8), net.weight("s", 64),
           K=64, N=32, bits=4, block_size=32, domain="com.microsoft")  # fmt: skip
    graph = load(net, tmp_path)
    assert isinstance(graph.operators[0], Matmul)
    assert graph.operators[0].weights == INT4
    assert (graph.macs, graph.operators[0].weight_bytes, graph.parameters) == (7 * 64 * 32, 64 * 32 / 2, 64 * 32 + 64)


# fused attention


def test_standard_attention(tmp_path: Path) -> None:
    net = Net(23)
    q, k, v = net.input("q", "batch", 6, 32), net.input("k", "batch", 9, 16), net.input("v", "batch", 9, 16)
    net.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=2)
    (attention,) = load(net, tmp_path, batch=3)
    assert isinstance(attention, Attention)
    assert (attention.batch, attention.heads, attention.kv_heads, attention.head_dim) == (3, 4, 2, 8)
    assert attention.macs == 3 * 2 * 6 * 9 * 32


def test_group_query_attention_with_a_cache(tmp_path: Path) -> None:
    net = Net(com_microsoft=1)
    q, k, v = net.input("q", "batch", 1, 32), net.input("k", "batch", 1, 16), net.input("v", "batch", 1, 16)
    past = [net.input(f"past_{x}", "batch", 2, "past_len", 8) for x in "kv"]
    lengths = [net.input("len", "batch", kind=onnx.TensorProto.INT32), net.input("total", kind=onnx.TensorProto.INT32)]
    net.op("GroupQueryAttention", q, k, v, *past, *lengths, num_heads=4, kv_num_heads=2, outputs=3, domain="com.microsoft")
    (attention,) = load(net, tmp_path, past_len=99)
    assert isinstance(attention, Attention)
    assert (attention.kv_tokens, attention.query_tokens, attention.cached, attention.causal) == (100, 1, True, True)
    assert attention.kv_cache_bytes == 100 * 2 * 16 * 2


def test_microsoft_encoder_block(tmp_path: Path) -> None:
    net = Net(com_microsoft=1)
    x = net.input("x", "batch", 10, 64)
    y = net.op("Attention", x, net.weight("w", 64, 192), net.weight("b", 192), num_heads=4, domain="com.microsoft")
    y = net.op("SkipLayerNormalization", y, x, net.weight("g", 64), net.weight("n", 64), domain="com.microsoft")
    y = net.op("FastGelu", net.op("MatMul", y, net.weight("u", 64, 256)), net.weight("ub", 256), domain="com.microsoft")
    graph = load(net, tmp_path)
    assert graph.macs == 10 * 64 * 192 + 2 * 10 * 10 * 64 + 10 * 64 * 256
    assert graph.parameters == 64 * 192 + 192 + 128 + 64 * 256 + 256
    norm = next(o for o in graph if isinstance(o, Normalization))
    assert norm.reads == 2


# control flow


def test_if_with_a_known_condition_takes_that_branch(tmp_path: Path) -> None:
    for size, expected in ((16, 16 * 4), (8, 8 * 2)):
        net = Net()
        x = net.input("x", "batch", "width")
        w = net.weight("w16", 16, 4), net.weight("w8", 8, 2)
        condition = net.op("Equal", net.op("Gather", net.op("Shape", x), net.constant("i", 1)), net.constant("n", 16))
        branches = [subgraph([helper.make_node("MatMul", [x, name], ["r"])], {}, ["r"]) for name in w]
        net.op("If", condition, then_branch=branches[0], else_branch=branches[1])
        assert load(net, tmp_path, width=size).macs == expected


def test_if_on_data_counts_the_costlier_branch(tmp_path: Path) -> None:
    net = Net()
    x, flag = net.input("x", "batch", 8), net.input("flag", kind=BOOL)
    net.weight("w", 8, 8)
    then = subgraph([helper.make_node("Relu", [x], ["r"])], {}, ["r"])
    other = subgraph([helper.make_node("MatMul", [x, "w"], ["r"])], {}, ["r"])
    net.op("If", flag, then_branch=then, else_branch=other)
    assert load(net, tmp_path).macs == 64
    assert load(net, tmp_path, flag=1).macs == 0


def test_loop_repeats_its_body_with_one_set_of_weights(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", "batch", 8)
    net.weight("w", 8, 8)
    body = subgraph(
        [helper.make_node("Identity", ["c"], ["go"]), helper.make_node("MatMul", ["h", "w"], ["m"]),
         helper.make_node("Relu", ["m"], ["r"])],
        {"i": (INT64, ()), "c": (BOOL, ()), "h": (FLOAT, (1, 8))}, ["go", "r", "r"],
    )  # fmt: skip
    net.op("Loop", net.constant("trips", 5), net.constant("yes", True, np.bool_), x, body=body, outputs=2)
    graph = load(net, tmp_path, batch=2)
    assert (graph.macs, float(graph.parameters)) == (5 * 2 * 64, 64)
    assert [o.count for o in graph] == [5, 5]


def test_loop_on_data_is_refused(tmp_path: Path) -> None:
    net = Net()
    x, trips = net.input("x", "batch", 8), net.input("trips", kind=INT64)
    body = subgraph([helper.make_node("Identity", ["c"], ["go"]), helper.make_node("Relu", ["h"], ["r"])],
                    {"i": (INT64, ()), "c": (BOOL, ()), "h": (FLOAT, (1, 8))}, ["go", "r"])  # fmt: skip
    net.op("Loop", trips, "", x, body=body)
    with pytest.raises(ModelError, match="how often it loops depends on data"):
        load(net, tmp_path)
    assert [o.count for o in load(net, tmp_path, trips=4)] == [4]


def test_scan_runs_over_its_axis(tmp_path: Path) -> None:
    net = Net()
    state, xs = net.input("s", "batch", 8), net.input("xs", 12, "batch", 8)
    net.weight("w", 8, 8)
    body = subgraph(
        [helper.make_node("Add", ["h", "x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["n"]),
         helper.make_node("Identity", ["n"], ["y"])],
        {"h": (FLOAT, (1, 8)), "x": (FLOAT, (1, 8))}, ["n", "y"],
    )  # fmt: skip
    net.op("Scan", state, xs, body=body, num_scan_inputs=1, outputs=2)
    graph = load(net, tmp_path)
    assert graph.macs == 12 * 64


def test_functions_are_written_out(tmp_path: Path) -> None:
    net = Net(local=1)
    body = [helper.make_node("MatMul", ["a", "b"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
    function = helper.make_function("local", "Dense", ["a", "b"], ["y"], body, [helper.make_opsetid("", 21)])
    net.op("Dense", net.input("x", "batch", 8), net.weight("w", 8, 3), domain="local")
    path = tmp_path / "m.onnx"
    net.save(path, last(net), functions=[function])
    assert load_onnx(path).macs_per_sample == 24


# batch and symbolic sizes


def test_batches_scale_and_broadcast(tmp_path: Path) -> None:
    network = load_onnx(transformer().save(tmp_path / "m.onnx", last(transformer())), {"tokens": 12})
    one = network.inference(batch=1, formats=FP16S)
    for batch in (2, 5, 64):
        graph = network.inference(batch=batch, formats=FP16S)
        assert graph.macs == batch * one.macs
        assert graph.parameters == one.parameters
        assert graph.samples == batch
    batches = np.array([1, 4, 9])
    grid = network.inference(batch=batches, formats=FP16S)
    each = [network.inference(batch=int(b), formats=FP16S) for b in batches]
    assert np.array_equal(grid.macs, [g.macs for g in each])
    assert np.allclose(grid.unique_bytes, [g.unique_bytes for g in each], rtol=1e-12)
    assert np.allclose(grid.activation_bytes, [g.activation_bytes for g in each], rtol=1e-12)
    assert network.macs_per_sample == one.macs


def test_a_fixed_batch_is_run_repeatedly(tmp_path: Path) -> None:
    network = load_onnx(mlp(4).save(tmp_path / "m.onnx", last(mlp())))
    assert network.macs_per_sample == 4 * 203_264
    twice = network.inference(batch=2, formats=FP16S)
    assert (twice.macs, float(twice.parameters)) == (8 * 203_264, 203_530)
    with pytest.raises(WorkloadError, match="batch is fixed"):
        network.inference(batch=np.array([1, 2]), formats=FP16S)


def test_setting_the_batch_fixes_it(tmp_path: Path) -> None:
    network = load_onnx(mlp().save(tmp_path / "m.onnx", last(mlp())), {"batch": 3})
    assert network.macs_per_sample == 3 * 203_264


def test_open_sizes_are_listed(tmp_path: Path) -> None:
    net = Net()
    net.op("Add", net.input("x", "batch", "seq", None), net.input("y", "seq", "w"))
    with pytest.raises(ModelError) as error:
        load(net, tmp_path)
    for part in ("'x' axis 1 ('seq')", "'x' axis 2, as x[2]", "'y' axis 0 ('seq')", "'y' axis 1 ('w')", "--dim name=N"):
        assert part in str(error.value)
    path = net.save(tmp_path / "m.onnx", last(net))
    graph = load_onnx(path, {"seq": 3, "w": 4, "x[2]": 4}).inference(batch=2, formats=FP16S)
    assert [float(o.elements) for o in graph if isinstance(o, Elementwise)] == [24.0]


def test_unknown_and_impossible_sizes_are_refused(tmp_path: Path) -> None:
    path = mlp().save(tmp_path / "m.onnx", last(mlp()))
    with pytest.raises(ModelError, match="no input has a size of that name") as error:
        load_onnx(path, {"bath": 2})
    assert "batch" in error.value.hint
    for size in (-1, 2**60, True, 1.5):
        with pytest.raises(ModelError, match="is not a size"):
            load_onnx(path, {"batch": size})  # type: ignore[dict-item]


def test_sizes_that_do_not_fit_name_the_node(tmp_path: Path) -> None:
    net = Net()
    net.op("MatMul", net.input("x", "batch", "k"), net.weight("w", 8, 2))
    with pytest.raises(ModelError, match="MatMul") as error:
        load(net, tmp_path, k=7)
    assert "matmul0" in error.value.where


def test_a_size_that_depends_on_data_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.op("Reshape", net.input("x", "batch", 4), net.input("shape", 2, kind=INT64))
    with pytest.raises(ModelError, match="depends on data"):
        load(net, tmp_path)


def test_a_batch_anywhere_by_its_name(tmp_path: Path) -> None:
    net = Net()
    net.op("Add", net.input("x", 7, "batch_size", 3), net.input("y", "n", 3))
    graph = load(net, tmp_path, batch=5, n=1)
    assert [float(o.elements) for o in graph if isinstance(o, Elementwise)] == [105.0]


# what is refused


def test_unsupported_operators_are_all_listed(tmp_path: Path) -> None:
    net = Net(my_domain=1)
    x = net.op("Foo", net.input("x", "batch", 4), domain="my.domain")
    x = net.op("Foo", x, domain="my.domain")
    net.op("Det", x)
    with pytest.raises(ModelError) as error:
        load(net, tmp_path)
    assert "my.domain:Foo (foo0, foo1)" in error.value.message
    assert "Det (det2)" in error.value.message


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"PK\x03\x04 a zip", b"{}", b"\x08\x0a"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="no ONNX"):
        load_onnx(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is no file"):
        load_onnx(tmp_path)
    with pytest.raises(ModelError):
        load_onnx("nul\0byte.onnx")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    data = mlp().model("x").SerializeToString()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        load_onnx(path)


def test_a_tensor_with_too_little_data_is_refused(tmp_path: Path) -> None:
    model = mlp().model(last(mlp()))
    model.graph.initializer[0].raw_data = b"\0" * 16
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="has 16 bytes of data, its shape needs 802816"):
        load_onnx(tmp_path / "m.onnx")


def test_dangling_inputs_and_cycles_are_refused(tmp_path: Path) -> None:
    net = Net()
    net.op("Relu", "nowhere")
    with pytest.raises(ModelError, match="nothing before it produces 'nowhere'"):
        load(net, tmp_path)
    net = Net()
    net.nodes = [helper.make_node("Relu", ["b"], ["a"], name="one"), helper.make_node("Relu", ["a"], ["b"], name="two")]
    with pytest.raises(ModelError, match="topological order"):
        load(net, tmp_path)


def test_functions_that_call_themselves_or_explode_are_refused(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    calls = [helper.make_node("F0", ["a"], ["y"], domain="local")]
    circle = helper.make_function("local", "F0", ["a"], ["y"], calls, opsets)
    net = Net(local=1)
    net.op("F0", net.input("x", 1), domain="local")
    net.save(tmp_path / "m.onnx", last(net), functions=[circle])
    with pytest.raises(ModelError, match="calls itself"):
        load_onnx(tmp_path / "m.onnx")
    functions = [helper.make_function("local", "F40", ["a"], ["y"], [helper.make_node("Relu", ["a"], ["y"])], opsets)]
    for i in range(40):
        two = [helper.make_node(f"F{i + 1}", [a], [b], domain="local") for a, b in (("a", "m"), ("m", "y"))]
        functions.append(helper.make_function("local", f"F{i}", ["a"], ["y"], two, opsets))
    net.save(tmp_path / "m.onnx", last(net), functions=functions)
    with pytest.raises(ModelError, match="nodes with its functions written out"):
        load_onnx(tmp_path / "m.onnx")


# external data


def external(tmp_path: Path, location: str, **entries: int) -> Path:
    model = mlp().model(last(mlp()))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(text))
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return folder / "m.onnx"


def test_external_data_is_checked_but_not_read(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin", offset=64, length=256 * 784 * 4)
    (path.parent / "weights.bin").write_bytes(b"\0" * (64 + 256 * 784 * 4))
    assert load_onnx(path).parameters == 203_530
    small = onnx.load(path, load_external_data=False)
    shape = numpy_helper.from_array(np.array([-1, 784]), "shape")
    (path.parent / "shape.bin").write_bytes(shape.raw_data)
    shape.ClearField("raw_data")
    shape.data_location = onnx.TensorProto.EXTERNAL
    shape.external_data.add(key="location", value="shape.bin")
    small.graph.initializer.append(shape)
    small.graph.node.insert(0, helper.make_node("Reshape", ["x", "shape"], ["flat"]))
    small.graph.node[1].input[0] = "flat"
    path.write_bytes(small.SerializeToString())
    assert load_onnx(path).parameters == 203_530  # a shape kept outside is read


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        ("missing.bin", {}, "is missing"),
        ("", {}, "is not a path inside"),
        ("/etc/passwd", {}, "is not a path inside"),
        ("../outside.bin", {}, "lies outside"),
        ("link.bin", {}, "lies outside"),
        ("short.bin", {}, "has 100 bytes"),
        ("short.bin", {"offset": 90}, "has 100 bytes"),
        ("short.bin", {"length": 100}, "length of 100 bytes"),
        ("short.bin", {"offset": -4}, "offset or length of '-4'"),
        ("short.bin", {"offset": 10**30}, "offset or length"),
        ("a\0b", {}, "is not a path inside"),
        ("x" * 5000, {}, "external data"),
    ],
)
def test_bad_external_data_is_refused(tmp_path: Path, location: str, entries: dict[str, int], message: str) -> None:
    path = external(tmp_path, location, **entries)
    (tmp_path / "outside.bin").write_bytes(b"\0" * 256 * 784 * 4)
    (path.parent / "short.bin").write_bytes(b"\0" * 100)
    (path.parent / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match=message):
        load_onnx(path)


# real graphs


def _light(name: str) -> Path:
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("resnet50", 25_557_032, 4_089_184_256),  # torchvision: 25,557,032 and 4.09 GMAC
        ("vgg19", 143_667_240, 19_632_062_464),  # torchvision: 143,667,240 and 19.63 GMAC
        ("squeezenet", 1_235_496, 349_151_936),  # torchvision squeezenet1_1: 1,235,496 and 0.35 GMAC
        ("inception_v1", 6_998_552, None),  # BVLC GoogLeNet without its auxiliary classifiers: 6,998,552
        ("bvlc_alexnet", 60_965_224, None),  # BVLC CaffeNet family: 60,965,224
    ],
)
def test_published_networks(name: str, parameters: int, macs: int | None) -> None:
    network = load_onnx(_light(name))
    assert network.parameters == parameters
    assert macs is None or network.macs_per_sample == macs


def test_resnet50_equals_the_named_network() -> None:
    file, named = load_onnx(_light("resnet50")), resnet50()
    assert (file.parameters, file.macs_per_sample) == (named.parameters, named.macs_per_sample)
    graphs = [n.inference(batch=1, formats=FP16S) for n in (file, named)]
    convolutions = [sum(o.count for o in g if isinstance(o, Convolution)) for g in graphs]
    moved = [sum(float(o.count * o.unique_bytes) for o in g if isinstance(o, Convolution | Matmul)) for g in graphs]
    assert convolutions == [53, 53]
    assert moved[0] == pytest.approx(moved[1], rel=1e-9)


def test_mobilenet_built_by_hand_equals_the_named_network(tmp_path: Path) -> None:
    net = Net()
    x, channels = net.input("x", "batch", 3, 224, 224), 3

    def conv(x: str, out: int, size: int, stride: int, groups: int) -> str:
        i = len(net.nodes)
        pads = ([0, 0, 1, 1] if stride == 2 else [1] * 4) if size == 3 else [0] * 4
        x = net.op("Conv", x, net.weight(f"w{i}", out, channels // groups, size, size), strides=[stride] * 2, pads=pads,
                   group=groups)  # fmt: skip
        x = net.op("BatchNormalization", x, *(net.weight(f"n{i}_{j}", out) for j in range(4)))
        return net.op("Clip", x, net.constant(f"lo{i}", 0, np.float32), net.constant(f"hi{i}", 6, np.float32))

    x, channels = conv(x, 32, 3, 2, 1), 32
    for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1)):
        x = conv(x, channels, 3, stride, channels)
        x, channels = conv(x, out, 1, 1, 1), out
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    named = mobilenet().inference(batch=1, formats=FP16S)
    classes = next(int(o.n) for o in named if isinstance(o, Matmul))
    net.op("Gemm", x, net.weight("fc", 1024, classes), net.weight("fcb", classes))
    graph = load(net, tmp_path)
    assert (graph.macs, graph.parameters) == (named.macs, named.parameters)


def _wheel(package: str, file: str) -> Path:
    found = importlib.util.find_spec(package)
    assert found is not None, f"./install all brings {package}"
    assert found.submodule_search_locations
    path = Path(next(iter(found.submodule_search_locations))) / file
    assert path.exists(), f"the pinned version of {package} has {file}"
    return path


def stored_numbers(path: Path) -> int:
    """Real numbers that a file stores in tensors of more than one element."""
    model = onnx.load(path)
    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute)]
    return sum(int(np.prod(t.dims)) for t in tensors if t.data_type in (1, 10) and int(np.prod(t.dims)) > 1)


SILERO_16K = (
    258 * 256 + 129 * 128 * 3 + 128 + 128 * 64 * 3 + 64 + 64 * 64 * 3 + 64 + 64 * 128 * 3 + 128 + 512 * 256 + 1024 + 129
)
"""Fourier basis, four convolutions, LSTM, output: silero-vad v5 at 16 kHz."""


@pytest.mark.parametrize(
    ("file", "dims"),
    [
        ("silero_vad.onnx", {"input[1]": 512, "state[1]": 1, "sr": 16000}),
        ("silero_vad_16k_op15.onnx", {"sequence": 512, "sr": 16000}),
        ("silero_vad_half.onnx", {"sequence": 512}),
        ("silero_vad_op18_ifless.onnx", {"sequence": 512, "sr": 16000}),
    ],
)
def test_silero_vad(file: str, dims: dict[str, int]) -> None:
    network = load_onnx(_wheel("silero_vad", f"data/{file}"), dims)
    assert network.parameters == SILERO_16K


@pytest.mark.parametrize(
    ("file", "dims", "scales"),
    [
        ("ch_PP-OCRv4_det_infer.onnx", {"p2o.DynamicDimension.1": 640, "p2o.DynamicDimension.2": 640}, 24),
        ("ch_PP-OCRv4_rec_infer.onnx", {"x[2]": 48, "p2o.DynamicDimension.1": 320}, 0),
        ("ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x[2]": 48, "x[3]": 192}, 0),
    ],
)
def test_rapidocr(file: str, dims: dict[str, int], scales: int) -> None:
    path = _wheel("rapidocr_onnxruntime", f"models/{file}")
    network = load_onnx(path, dims)
    graph = network.inference(batch=1, formats=FP16S)
    model = onnx.load(path)
    sizes = {t.name: int(np.prod(t.dims)) for t in model.graph.initializer}
    for n in model.graph.node:
        if n.op_type == "Constant":
            sizes[n.output[0]] = int(np.prod(n.attribute[0].t.dims))
    folded = sum(sizes[i] for n in model.graph.node if n.op_type == "BatchNormalization" for i in n.input[3:5])
    # mean and variance are folded into scale and shift; the four scales of a Resize are no parameters
    assert network.parameters == stored_numbers(path) - folded - scales
    if "rec" in file:
        assert kinds(graph).count("attention") == 2
    batch = network.inference(batch=6, formats=FP16S)
    assert float(batch.macs) == pytest.approx(6 * float(graph.macs), rel=1e-12)


def test_magika() -> None:
    path = _wheel("magika", "models/standard_v3_3/model.onnx")
    network = load_onnx(path)
    # 2,048 bytes to 64 by a look-up as matmul of 257; four side by side; a convolution of 5 to 512; 214 classes
    assert network.macs_per_sample == 2048 * 257 * 64 + 508 * 5 * 256 * 512 + 512 * 214
    assert network.parameters == 257 * 64 + 64 + 2 * 512 + 5 * 256 * 512 + 512 + 2 * 512 + 512 * 214 + 214
