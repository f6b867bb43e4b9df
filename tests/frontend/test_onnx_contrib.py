"""Operators of com.microsoft, as ONNX Runtime's optimiser and quantiser write them: parameters and MACs by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx_models import INT64, UINT8, Net, last

from presilicon.dtypes import Formats
from presilicon.frontend.onnx_file import load_onnx
from presilicon.graph import Attention, ExpertMatmul, Graph

MS = "com.microsoft"


def load(net: Net, tmp_path: Path) -> Graph:
    return load_onnx(net.save(tmp_path / "m.onnx", last(net))).inference(batch=2, formats=Formats())


def counts(graph: Graph) -> tuple[float, float]:
    return float(graph.macs), float(graph.parameters)


@pytest.fixture
def net() -> Net:
    return Net(com_microsoft=1)


@pytest.fixture
def x(net: Net) -> str:
    return net.input("x", "batch", 6, 16)


def test_fused_matmul_and_gemm(net: Net, x: str, tmp_path: Path) -> None:
    y = net.op("FusedMatMul", x, net.weight("w", 24, 16), transB=1, alpha=0.5, domain=MS)
    net.op("FusedGemm", net.op("Reshape", y, net.constant("s", [-1, 24])), net.weight("v", 24, 8), net.weight("b", 8),
           activation="Relu", domain=MS)  # fmt: skip
    assert counts(load(net, tmp_path)) == (2 * 6 * 16 * 24 + 2 * 6 * 24 * 8, 16 * 24 + 24 * 8 + 8)


def test_fused_convolution(net: Net, tmp_path: Path) -> None:
    net.op("FusedConv", net.input("x", "batch", 4, 9, 9), net.weight("w", 8, 4, 3, 3), net.weight("b", 8), activation="Relu",
           strides=[2, 2], domain=MS)  # fmt: skip
    assert counts(load(net, tmp_path)) == (2 * 16 * 8 * 36, 8 * 37)


def test_dynamic_quantised_matmul(net: Net, x: str, tmp_path: Path) -> None:
    net.op(
        "DynamicQuantizeMatMul", x, net.weight("w", 16, 8, kind=np.int8), net.weight("s", 8), "", net.weight("b", 8), domain=MS
    )
    graph = load(net, tmp_path)
    assert counts(graph) == (2 * 6 * 16 * 8, 16 * 8 + 8)
    assert str(graph.operators[0].weights) == "int8"  # type: ignore[attr-defined]


def test_quantised_elementwise_and_pooling(net: Net, tmp_path: Path) -> None:
    s, z = net.constant("s", 0.1, np.float32), net.constant("z", 0, np.uint8)
    x = net.input("x", "batch", 4, 8, 8, kind=UINT8)
    y = net.op("QLinearAdd", x, s, z, x, s, z, s, z, domain=MS)
    y = net.op("QLinearSigmoid", y, s, z, s, z, domain=MS)
    y = net.op("QLinearConcat", s, z, y, s, z, x, s, z, axis=1, domain=MS)
    y = net.op("QLinearAveragePool", y, s, z, s, z, kernel_shape=[2, 2], strides=[2, 2], domain=MS)
    y = net.op("QLinearGlobalAveragePool", y, s, z, s, z, domain=MS)
    y = net.op("Flatten", y)
    net.op("QGemm", y, s, z, net.weight("w", 8, 3, kind=np.int8), s, z, net.weight("c", 3, kind=np.int32), s, z, domain=MS)
    assert counts(load(net, tmp_path)) == (2 * 24, 24 + 3)


def test_multi_head_attention(net: Net, x: str, tmp_path: Path) -> None:
    kv = net.input("kv", "batch", 9, 16)
    net.op("MultiHeadAttention", x, kv, kv, num_heads=4, domain=MS)
    (attention,) = load(net, tmp_path)
    assert isinstance(attention, Attention)
    assert float(attention.macs) == 2 * 2 * 6 * 9 * 16


def test_packed_group_query_attention(net: Net, tmp_path: Path) -> None:
    packed = net.input("x", "batch", 6, (4 + 2 * 2) * 8)
    lengths = [net.input("l", "batch", kind=6), net.input("t", kind=6)]
    net.op("GroupQueryAttention", packed, "", "", "", "", *lengths, num_heads=4, kv_num_heads=2, outputs=3, domain=MS)
    (attention,) = load(net, tmp_path)
    assert isinstance(attention, Attention)
    assert float(attention.macs) == 2 * 4 * (6 * 7 / 2) * 16  # causal


def test_quantised_attention(net: Net, x: str, tmp_path: Path) -> None:
    q = net.op("QuantizeLinear", x, net.constant("s", 0.1, np.float32), net.constant("z", 0, np.uint8))
    net.op("QAttention", q, net.weight("w", 16, 48, kind=np.int8), net.weight("b", 48), "s", net.weight("ws", 1), num_heads=2,
           domain=MS)  # fmt: skip
    assert counts(load(net, tmp_path)) == (2 * (6 * 16 * 48 + 2 * 36 * 16), 16 * 48 + 48)


def test_embedding_and_norms(net: Net, tmp_path: Path) -> None:
    ids = net.input("ids", "batch", 6, kind=6)
    y = net.op("EmbedLayerNormalization", ids, "", net.weight("word", 50, 16), net.weight("pos", 8, 16), "",
               net.weight("g", 16), net.weight("b", 16), outputs=2, domain=MS)  # fmt: skip
    y = net.op("SkipSimplifiedLayerNormalization", y, y, net.weight("g2", 16), domain=MS)
    y = net.op("SimplifiedLayerNormalization", y, net.weight("g3", 16))
    y = net.op("QuickGelu", net.op("BiasGelu", y, net.weight("b4", 16), domain=MS), domain=MS)
    net.op("RotaryEmbedding", y, net.input("pos", "batch", 6, kind=INT64), net.weight("cos", 32, 4), net.weight("sin", 32, 4),
           num_heads=2, domain=MS)  # fmt: skip
    assert counts(load(net, tmp_path)) == (0, 50 * 16 + 8 * 16 + 2 * 16 + 16 + 16 + 16)


def test_block_quantised_look_up(net: Net, tmp_path: Path) -> None:
    net.op("GatherBlockQuantized", net.weight("w", 100, 32, kind=np.uint8), net.input("i", "batch", 5, kind=INT64),
           net.weight("s", 100, 2), gather_axis=0, domain=MS)  # fmt: skip
    assert counts(load(net, tmp_path)) == (0, 3200)


def test_mixture_of_experts(net: Net, tmp_path: Path) -> None:
    rows, width, inner, experts = 12, 16, 64, 8
    x, router = net.input("x", rows, width), net.input("r", rows, experts)
    net.op(
        "MoE", x, router, net.weight("up", experts, width, inner), "", net.weight("down", experts, inner, width), k=2, domain=MS
    )
    graph = load_onnx(net.save(tmp_path / "m.onnx", last(net))).inference(batch=1, formats=Formats())
    assert counts(graph) == (rows * 2 * 2 * width * inner, experts * 2 * width * inner)
    assert sum(isinstance(o, ExpertMatmul) for o in graph) == 2
