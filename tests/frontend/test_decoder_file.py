"""Decoder files against a float model in numpy and ONNX Runtime, token by token and as a whole."""

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.errors import InputError, ModelError
from presilicon.frontend import decoder_file
from presilicon.frontend.decoder_file import write_decoder
from presilicon.frontend.decoder_shape import LLAMA_1B, LLAMA_100M, DecoderShape, RandomWeights

SIZES = {"layers": 2, "width": 24, "heads": 4, "dim": 6, "hidden": 40, "vocabulary": 31, "context": 20}


def shape_of(family, **changes):
    return DecoderShape(**{"family": family, **SIZES, "kv_heads": 2 if family == "llama" else 4, **changes})


class Checkpoint(dict):
    """Random weights with gains and biases that matter."""

    def __init__(self, shape, seed=0):
        draw = np.random.default_rng(seed)
        for name, size in shape.weights().items():
            plain = draw.standard_normal(size).astype(np.float32)
            self[name] = plain * 0.2 + (1 if len(size) == 1 and not name.endswith("bias") else 0)


def float_model(shape, w, ids):
    """Logits (tokens, vocabulary) of the definition of either family, in float64, without a cache."""
    w = {name: value.astype(np.float64) for name, value in w.items()}
    t, d = len(ids), shape.dim

    def split(x, heads):
        return x.reshape(t, heads, d).transpose(1, 0, 2)

    def attend(q, k, v):
        k, v = (np.repeat(a, shape.heads // shape.kv_heads, axis=0) for a in (k, v))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(d) + np.where(np.tril(np.ones((t, t))), 0, -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        return (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(t, -1)

    def rms(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + shape.epsilon) * w[name + ".weight"]

    def layer_norm(x, name):
        c = x - x.mean(-1, keepdims=True)
        return c / np.sqrt((c**2).mean(-1, keepdims=True) + shape.epsilon) * w[name + ".weight"] + w[name + ".bias"]

    def rotate(x):
        angle = np.arange(t)[:, None] / shape.rope_base ** (np.arange(0, d, 2) / d)
        pairs = (x[..., : d // 2] + 1j * x[..., d // 2 :]) * np.exp(1j * angle)
        return np.concatenate([pairs.real, pairs.imag], -1)

    if shape.family == "llama":
        x = w["model.embed_tokens.weight"][ids]
        for i in range(shape.layers):
            of = f"model.layers.{i}"
            h = rms(x, f"{of}.input_layernorm")
            q, k, v = (h @ w[f"{of}.self_attn.{c}_proj.weight"].T for c in "qkv")
            a = attend(rotate(split(q, shape.heads)), rotate(split(k, shape.kv_heads)), split(v, shape.kv_heads))
            x = x + a @ w[f"{of}.self_attn.o_proj.weight"].T
            h = rms(x, f"{of}.post_attention_layernorm")
            g, u = (h @ w[f"{of}.mlp.{c}_proj.weight"].T for c in ("gate", "up"))
            x = x + (g / (1 + np.exp(-g)) * u) @ w[f"{of}.mlp.down_proj.weight"].T
        x, head = rms(x, "model.norm"), "model.embed_tokens.weight"
    else:
        x = w["wte.weight"][ids] + w["wpe.weight"][:t]
        for i in range(shape.layers):
            h = layer_norm(x, f"h.{i}.ln_1")
            qkv = h @ w[f"h.{i}.attn.c_attn.weight"] + w[f"h.{i}.attn.c_attn.bias"]
            a = attend(*(split(part, shape.heads) for part in np.split(qkv, 3, axis=-1)))
            x = x + a @ w[f"h.{i}.attn.c_proj.weight"] + w[f"h.{i}.attn.c_proj.bias"]
            h = layer_norm(x, f"h.{i}.ln_2") @ w[f"h.{i}.mlp.c_fc.weight"] + w[f"h.{i}.mlp.c_fc.bias"]
            h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
            x = x + h @ w[f"h.{i}.mlp.c_proj.weight"] + w[f"h.{i}.mlp.c_proj.bias"]
        x, head = layer_norm(x, "ln_f"), "wte.weight"
    return x @ w[head if shape.tied else "lm_head.weight"].T


def run(path, shape, ids, cuts):
    """Logits and tokens of ONNX Runtime that is given ``ids`` in pieces, the cache going from one to the next."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    cache = {
        f"past_key_values.{i}.{what}": np.zeros((1, shape.kv_heads, 0, shape.dim), np.float32)
        for i in range(shape.layers)
        for what in ("key", "value")
    }
    logits, tokens, names = [], [], list(cache)
    for start, stop in zip([0, *cuts], [*cuts, len(ids)], strict=True):
        feed = {"input_ids": ids[None, start:stop], "position_ids": np.arange(start, stop)[None]}
        out = session.run(None, {**feed, **cache})
        cache = dict(zip(names, out[2:], strict=True))
        logits.append(out[0][0])
        tokens.append(out[1][0])
    return np.concatenate(logits), np.concatenate(tokens)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_equals_the_float_model_for_any_cut(tmp_path, family, tied):
    shape = shape_of(family, tied=tied)
    weights = Checkpoint(shape)
    (path,) = write_decoder(tmp_path / "d.onnx", shape, weights)
    onnx.checker.check_model(str(path), full_check=True)
    ids = np.random.default_rng(1).integers(0, shape.vocabulary, 13)
    expected = float_model(shape, weights, ids)
    for cuts in ([], [1], [4, 5], list(range(1, 13))):
        logits, tokens = run(path, shape, ids, cuts)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())
        assert (tokens == logits.argmax(-1)).all()


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_shared_keys(tmp_path, kv_heads):
    shape = shape_of("llama", kv_heads=kv_heads)
    weights = Checkpoint(shape, 2)
    (path,) = write_decoder(tmp_path / "d.onnx", shape, weights)
    ids = np.arange(9) % shape.vocabulary
    expected = float_model(shape, weights, ids)
    np.testing.assert_allclose(run(path, shape, ids, [3])[0], expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


def test_stored_as_float16_and_beside_the_graph(tmp_path, monkeypatch):
    shape = shape_of("llama")
    weights = Checkpoint(shape)
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}
    monkeypatch.setattr(decoder_file, "MOST_INSIDE_BYTES", 100)
    path, data = write_decoder(tmp_path / "d.onnx", shape, weights, stored="float16")
    assert data.name == "d.onnx.data"
    assert data.stat().st_size == 2 * shape.parameters
    ids = np.arange(5)
    expected = float_model(shape, rounded, ids)
    np.testing.assert_allclose(run(path, shape, ids, [])[0], expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 8), st.booleans())
def test_parameters_are_those_of_the_weights(layers, kv_heads, share, half, tied):
    shape = DecoderShape(
        layers=layers, width=16, heads=kv_heads * share, kv_heads=kv_heads, dim=2 * half, hidden=8, vocabulary=5, context=4,
        tied=tied,
    )  # fmt: skip
    made = RandomWeights(shape, 3)
    assert {name: value.shape for name, value in made.items()} == shape.weights()
    assert sum(value.size for value in made.values()) == shape.parameters
    assert all((made[name] == again).all() for name, again in RandomWeights(shape, 3).items())


def test_shapes_for_measurements():
    assert LLAMA_100M.parameters == 14 * (6 * 2**20 + 2 * 768) + 768 + 16384 * 768
    assert LLAMA_1B.parameters == 1_100_048_384


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "rnn"}, "'rnn'"),
        ({"heads": 3}, "3 heads cannot share 2"),
        ({"dim": 5}, "dim is 5"),
        ({"layers": 0}, "layers is 0"),
        ({"family": "gpt2"}, "4 heads of 6, 2 of them with keys"),
    ],
)
def test_shapes_that_cannot_be(changes, message):
    with pytest.raises(ModelError, match=message):
        shape_of("llama", **changes) if "family" not in changes else DecoderShape(**{**SIZES, "kv_heads": 2, **changes})


def test_bad_checkpoints_write_nothing(tmp_path):
    shape = shape_of("llama")
    good = Checkpoint(shape)
    name = "model.layers.1.mlp.up_proj.weight"
    bad = good[name].copy()
    bad[0, 0] = np.nan
    for value, message in ((None, "no such weight"), (good[name].T, "has shape"), (bad, "NaN")):
        broken = {k: v for k, v in {**good, name: value}.items() if v is not None}
        with pytest.raises(ModelError, match=message) as caught:
            write_decoder(tmp_path / "d.onnx", shape, broken)
        assert caught.value.where == name
    with pytest.raises(ModelError, match="bfloat16"):
        write_decoder(tmp_path / "d.onnx", shape, good, stored="bfloat16")
    with pytest.raises(InputError, match="cannot be written"):
        write_decoder(tmp_path / "none" / "d.onnx", shape, good)
    assert list(tmp_path.iterdir()) == []
