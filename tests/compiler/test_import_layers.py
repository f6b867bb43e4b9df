"""Operators that hold a whole layer: written out they compute what ONNX Runtime computes, and the chip comes close."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from import_models import INT64, Net, close, cosine, float_outputs, kinds, on_chip

from presilicon.compiler.lower import lower
from presilicon.compiler.steps import Attention

TOKENS, WIDE, HEADS = 8, 32, 4


def original(net: Net, output: str, inputs: dict[str, Any]) -> Any:
    """The file's own output by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    ready = onnxruntime.InferenceSession(net.model(output).SerializeToString(), options, providers=["CPUExecutionProvider"])
    return ready.run(None, inputs)[0]


def drawn(net: Net, *shape: int) -> Any:
    return net.rng.standard_normal(shape).astype(np.float32)


def same(net: Net, output: str, inputs: dict[str, Any], least: float = 0.99) -> list[str]:
    """The steps of a network, after what was written out was found equal to the file and the chip near to it."""
    wanted = original(net, output, inputs)
    found = float_outputs(net.source(output), inputs)[output]
    assert np.allclose(found, wanted, atol=2e-5), np.abs(found - wanted).max()
    rng = np.random.default_rng(5)
    calibration = {
        name: np.stack([rng.standard_normal(v.shape).astype(v.dtype) if v.dtype == np.float32 else v for _ in range(12)])
        for name, v in inputs.items()
    }
    return kinds(close(net.source(output), calibration, inputs, least))


@pytest.mark.parametrize("mask", ["none", "keys", "causal"])
def test_attention_of_onnx_runtime(mask: str) -> None:
    net = Net()
    x = net.input("x", 1, TOKENS, WIDE)
    weights, bias = net.weight(WIDE, 3 * WIDE), net.weight(3 * WIDE)
    inputs = {"x": drawn(net, 1, TOKENS, WIDE)}
    more = ()
    if mask == "keys":
        more = (net.op("Cast", net.input("attention_mask", 1, TOKENS, kind=INT64), to=6),)
        inputs["attention_mask"] = np.ones((1, TOKENS), np.int64)
    attributes = {"unidirectional": 1} if mask == "causal" else {}
    y = net.op("Attention", x, weights, bias, *more, domain="com.microsoft", num_heads=HEADS, **attributes)
    y = net.op("MatMul", y, net.weight(WIDE, WIDE))
    assert same(net, y, inputs) == ["Rows", "Product", "Attention", "Product"]


@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention_of_onnx_runtime(bias: bool) -> None:
    net = Net()
    x = net.input("x", 1, TOKENS, WIDE)
    q, k, v = (net.op("MatMul", x, net.weight(WIDE, WIDE)) for _ in range(3))
    more = (net.weight(3 * WIDE),) if bias else ()
    y = net.op("MultiHeadAttention", q, k, v, *more, domain="com.microsoft", num_heads=HEADS)
    y = net.op("MatMul", y, net.weight(WIDE, WIDE))
    assert same(net, y, {"x": drawn(net, 1, TOKENS, WIDE)}) == ["Rows", "Product", "Attention", "Product"]


@pytest.mark.parametrize("causal", [0, 1])
def test_the_standards_attention_with_shared_heads(causal: int) -> None:
    net = Net(23)
    x = net.input("x", 1, TOKENS, WIDE)
    q, k, v = (net.op("MatMul", x, net.weight(WIDE, n)) for n in (WIDE, WIDE // 2, WIDE // 2))
    y = net.op("Attention", q, k, v, q_num_heads=HEADS, kv_num_heads=HEADS // 2, is_causal=causal)
    y = net.op("MatMul", y, net.weight(WIDE, WIDE))
    inputs = {"x": drawn(net, 1, TOKENS, WIDE)}
    model = close(net.source(y), {"x": drawn(net, 12, 1, TOKENS, WIDE)}, inputs, 0.98)
    step = next(step for step in model.lowered.steps if isinstance(step, Attention))
    assert (step.heads, step.kv_heads, step.causal) == (HEADS, HEADS // 2, bool(causal))
    assert np.allclose(float_outputs(net.source(y), inputs)[y], original(net, y, inputs), atol=2e-5)


def test_rotations_of_onnx_runtime() -> None:
    net = Net()
    x = net.input("x", 1, TOKENS, WIDE)
    angle = np.arange(TOKENS)[:, None] * 10.0 ** -np.arange(0, 1, 0.25)
    cos, sin = (net.constant(f(angle)) for f in (np.cos, np.sin))
    places = net.constant(np.arange(TOKENS)[None], np.int64)
    q, k, v = (net.op("MatMul", x, net.weight(WIDE, WIDE)) for _ in range(3))
    q, k = (net.op("RotaryEmbedding", n, places, cos, sin, domain="com.microsoft", num_heads=HEADS) for n in (q, k))
    y = net.op("MultiHeadAttention", q, k, v, domain="com.microsoft", num_heads=HEADS)
    y = net.op("MatMul", y, net.weight(WIDE, WIDE))
    steps = same(net, y, {"x": drawn(net, 1, TOKENS, WIDE)})
    assert steps.count("Rows") == 3
    assert "Move" not in steps


def test_embeddings_and_skipped_norms() -> None:
    net = Net()
    ids, kinds_of = (net.input(name, 1, TOKENS, kind=6) for name in ("input_ids", "segment_ids"))
    tables = [net.weight(n, WIDE, scale=1.0) for n in (50, 16, 2)]
    gamma, beta = net.weight(WIDE, scale=1.0), net.weight(WIDE, scale=1.0)
    x = net.op("EmbedLayerNormalization", ids, kinds_of, *tables, gamma, beta, domain="com.microsoft", outputs=2)[0]
    y = net.op("MatMul", x, net.weight(WIDE, WIDE))
    y = net.op("SkipLayerNormalization", y, x, gamma, beta, net.weight(WIDE), domain="com.microsoft")
    y = net.op("BiasGelu", net.op("MatMul", y, net.weight(WIDE, WIDE)), net.weight(WIDE), domain="com.microsoft")
    inputs = {"input_ids": net.rng.integers(0, 50, (1, TOKENS)).astype(np.int32), "segment_ids": np.ones((1, TOKENS), np.int32)}
    calibration = {
        "input_ids": net.rng.integers(0, 50, (16, 1, TOKENS)).astype(np.int32),
        "segment_ids": np.ones((16, 1, TOKENS), np.int32),
    }
    close(net.source(y), calibration, inputs, 0.995)
    assert np.allclose(float_outputs(net.source(y), inputs)[y], original(net, y, inputs), atol=1e-4)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_are_written_out(op: str, direction: str) -> None:
    net, wide, steps = Net(), 16, 4
    gates, ways = (4 if op == "LSTM" else 3), (2 if direction == "bidirectional" else 1)
    x = net.input("x", steps, 1, 8)
    parts = [net.weight(ways, gates * wide, n, scale=0.4) for n in (8, wide)]
    bias = net.weight(ways, 2 * gates * wide, scale=0.2)
    more = {"linear_before_reset": 1} if op == "GRU" else {}
    y = net.op(op, x, *parts, bias, outputs=2, direction=direction, hidden_size=wide, **more)
    y = net.op("MatMul", net.op("Reshape", y[0], [steps, ways * wide]), net.weight(ways * wide, 4))
    inputs = {"x": drawn(net, steps, 1, 8)}
    assert np.allclose(float_outputs(net.source(y), inputs)[y], original(net, y, inputs), atol=1e-5)
    model = close(net.source(y), {"x": drawn(net, 16, steps, 1, 8)}, inputs, 0.995)
    assert not model.report.refused


def test_a_cell_that_keeps_its_state_outside() -> None:
    net, wide = Net(), 16
    x, h, c = net.input("x", 1, 1, 8), net.input("h", 1, 1, wide), net.input("c", 1, 1, wide)
    parts = [net.weight(1, 4 * wide, n, scale=0.4) for n in (8, wide)]
    y, last, cell = net.op("LSTM", x, *parts, net.weight(1, 8 * wide), "", h, c, outputs=3, hidden_size=wide)
    model = lower(net.source(last, cell), calibration={"x": drawn(net, 16, 1, 1, 8), "h": np.tanh(drawn(net, 16, 1, 1, wide)),
                                                       "c": drawn(net, 16, 1, 1, wide)})  # fmt: skip
    inputs = {"x": drawn(net, 1, 1, 8), "h": np.tanh(drawn(net, 1, 1, wide)), "c": drawn(net, 1, 1, wide)}
    got, wanted = on_chip(model, inputs), float_outputs(net.source(last, cell), inputs)
    assert all(cosine(got[name], wanted[name]) > 0.999 for name in (last, cell))
    assert y not in wanted


def test_layers_of_another_form_stay_and_are_refused_by_name() -> None:
    net = Net()
    x = net.input("x", 4, 1, 8)
    y = net.op("LSTM", x, net.weight(1, 64, 8), net.weight(1, 64, 16), outputs=2, hidden_size=16, clip=1.0)[0]
    from presilicon.errors import ModelError

    with pytest.raises(ModelError, match=r"LSTM_0 \(LSTM\): the compiler has no rule"):
        lower(net.source(y))
