"""The steps' exact meaning against plain numpy in fp64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.compiler.meaning import exact_product, reference
from presilicon.compiler.rowwise import FUNCTIONS
from presilicon.compiler.steps import (
    Attention,
    Binding,
    Convolution,
    Gather,
    Lowered,
    Move,
    Pool,
    Product,
    Reduce,
    Rows,
    Tensor,
)
from presilicon.compiler.vectors import (
    ONE,
    Column,
    Constant,
    Loop,
    Output,
    Scalar,
    Scalars,
    Stream,
    Sum,
    VectorProgram,
    fused,
    interpolated,
    minus,
    product,
    reciprocal,
    reciprocal_root,
    smaller,
)
from presilicon.errors import CheckError

DEQUANTISE = VectorProgram(
    phases=(Loop(outputs=(("y", fused(Sum("bias"), Column("scale"), Stream("residual"))),)),), outputs=(Output("y"),)
)


def layer_norm(columns: int, epsilon: float) -> VectorProgram:
    centred = minus(Stream("x"), Scalar("mean"))
    return VectorProgram(
        phases=(
            Loop(sums=(("total", Stream("x")),)),
            Scalars((("mean", product(Scalar("total"), Constant(1 / columns))),)),
            Loop(sums=(("squares", product(centred, centred)),)),
            Scalars((("root", reciprocal_root(fused(Scalar("squares"), Constant(1 / columns), Constant(epsilon)))),)),
            Loop(outputs=(("y", fused(product(centred, Scalar("root")), Column("gamma"), Column("beta"))),)),
        ),
        outputs=(Output("y"),),
    )


def tensors(*given: Tensor) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in given}


@given(st.integers(1, 9), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_layer_norm(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(1.0, 3.0, (rows, columns)).astype(np.float32)
    gamma, beta = rng.normal(size=(2, columns)).astype(np.float32)
    lowered = Lowered(
        name="norm",
        tensors=tensors(Tensor("x", rows, columns), Tensor("y", rows, columns)),
        constants={"gamma": gamma, "beta": beta},
        steps=(
            Rows(
                name="norm",
                program=layer_norm(columns, 1e-5),
                streams=(Binding("x", "x"),),
                columns=(Binding("gamma", "gamma"), Binding("beta", "beta")),
                outputs=(Binding("y", "y"),),
            ),
        ),
        inputs=("x",),
        outputs=("y",),
    )
    wide = x.astype(np.float64)
    variance = ((wide - wide.mean(1, keepdims=True)) ** 2).mean(1, keepdims=True)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(variance + 1e-5) * gamma + beta
    assert np.allclose(reference(lowered, {"x": x})["y"], expected, rtol=2e-3, atol=2e-3)


def test_product_with_residual() -> None:
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (5, 40), dtype=np.int8), rng.integers(-127, 128, (40, 7), dtype=np.int8)
    bias, scale = rng.integers(-1000, 1000, 7, dtype=np.int32), rng.random(7, dtype=np.float32)
    residual = rng.normal(size=(5, 7)).astype(np.float32)
    lowered = Lowered(
        name="product",
        tensors=tensors(Tensor("x", 5, 40, "int8", 0.1, 3), Tensor("residual", 5, 7), Tensor("y", 5, 7)),
        constants={"w": w, "bias": bias, "scale": scale},
        steps=(
            Product(
                name="product",
                x="x",
                weights="w",
                program=DEQUANTISE,
                streams=(Binding("residual", "residual"),),
                columns=(Binding("scale", "scale"), Binding("bias", "bias")),
                outputs=(Binding("y", "y"),),
            ),
        ),
        inputs=("x", "residual"),
        outputs=("y",),
    )
    expected = (x.astype(int) @ w.astype(int) + bias) * scale.astype(np.float64) + residual
    assert np.allclose(reference(lowered, {"x": x, "residual": residual})["y"], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool) -> None:
    rng = np.random.default_rng(2)
    q, k, v = (rng.integers(-127, 128, (n, 32), dtype=np.int8) for n in (6, 20, 20))
    step = Attention(
        name="attention", q="q", k="k", v="v", out="out", heads=2, kv_heads=1, dim=16, score_scale=2e-4, value_scale=0.9,
        v_column=16, k_column=16, causal=causal, position="position" if causal else "", length="" if causal else "length",
    )  # fmt: skip
    lowered = Lowered(
        name="attention",
        tensors=tensors(
            Tensor("q", 6, 32, "int8"), Tensor("k", 20, 32, "int8"), Tensor("v", 20, 32, "int8"), Tensor("out", 6, 32, "int8")
        ),
        constants={},
        steps=(step,),
        inputs=("q", "k", "v"),
        outputs=("out",),
        arguments={"position": 14} if causal else {"length": 20},
    )
    value = 9 if causal else 13
    out = reference(lowered, {"q": q, "k": k, "v": v}, arguments={"position" if causal else "length": value})["out"]
    for head in range(2):
        scores = q[:, 16 * head : 16 * head + 16].astype(float) @ k[:, 16:].astype(float).T * 2e-4
        seen = np.arange(20)[None, :] < (value + 1 + np.arange(6)[:, None] if causal else value)
        p = np.where(seen, np.exp(scores - scores.max(1, keepdims=True)), 0)
        expected = p / p.sum(1, keepdims=True) @ v[:, 16:].astype(float) * 0.9
        assert np.abs(out[:, 16 * head : 16 * head + 16] - expected).max() < 2.5


def test_convolution_and_pools() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (2 * 7 * 6, 4), dtype=np.int8)
    w = rng.integers(-127, 128, (3 * 2 * 2, 6), dtype=np.int8)
    shape = {"height": 7, "width": 6, "channels": 4, "batch": 2}
    plain = VectorProgram(phases=(Loop(outputs=(("y", product(Sum(), ONE)),)),), outputs=(Output("y"),))
    convolution = Convolution(
        name="conv", x="x", weights="w", out_channels=6, kernel=(3, 2), stride=(2, 1), padding=(1, 0, 1, 1), groups=2,
        program=plain, outputs=(Binding("y", "y"),), **shape,
    )  # fmt: skip
    oh, ow = convolution.out_size
    pools = [
        Pool(name=kind, x="y", out=kind, kind=kind, height=oh, width=ow, channels=6, kernel=(2, 2), batch=2)  # type: ignore[arg-type]
        for kind in ("max", "mean")
    ]
    ph, pw = pools[0].out_size
    lowered = Lowered(
        name="cnn",
        tensors=tensors(
            Tensor("x", 2 * 42, 4, "int8", 1.0, 5),
            Tensor("y", 2 * oh * ow, 6),
            *(Tensor(kind, 2 * ph * pw, 6) for kind in ("max", "mean")),
            Tensor("all", 2, 6),
        ),
        constants={"w": w},
        steps=(convolution, *pools, Reduce(name="all", x="y", out="all", scale=1 / (oh * ow), batch=2)),
        inputs=("x",),
        outputs=("y", "max", "mean", "all"),
    )
    found = reference(lowered, {"x": x})
    image = np.pad(x.reshape(2, 7, 6, 4).astype(int), ((0, 0), (1, 1), (0, 1), (0, 0)), constant_values=5)
    y = np.zeros((2, oh, ow, 6))
    for b, i, j, c in np.ndindex(*y.shape):
        window = image[b, 2 * i : 2 * i + 3, j : j + 2, 2 * (c // 3) : 2 * (c // 3) + 2].reshape(-1)
        y[b, i, j, c] = window @ w[:, c].astype(int)
    assert np.array_equal(found["y"], y.reshape(-1, 6))
    for kind, reduce in (("max", np.max), ("mean", np.mean)):
        expected = [reduce(y[b, i : i + 2, j : j + 2], axis=(0, 1)) for b, i, j in np.ndindex(2, ph, pw)]
        assert np.allclose(found[kind], expected)
    assert np.allclose(found["all"], y.mean((1, 2)), rtol=1e-5, atol=1e-2)


def test_moves_and_gather() -> None:
    table = np.arange(50, dtype=np.float32).reshape(10, 5)
    lowered = Lowered(
        name="moves",
        tensors=tensors(Tensor("index", 3, 1, "int32"), Tensor("rows", 3, 5), Tensor("cache", 8, 5), Tensor("turned", 5, 3)),
        constants={"table": table},
        steps=(
            Gather(name="gather", table="table", index="index", out="rows"),
            Move(name="append", source="rows", out="cache", shape=(3, 5), strides=(5, 1), out_strides=(5, 1),
                 out_row="position", out_pitch=5),
            Move(name="turn", source="rows", out="turned", shape=(3, 5), strides=(5, 1), out_strides=(1, 3)),
        ),
        inputs=("index",),
        outputs=("turned",),
        states=("cache",),
        arguments={"position": 5},
    )  # fmt: skip
    found = reference(lowered, {"index": np.array([7, 0, 9])}, arguments={"position": 4}, states={"cache": np.ones((8, 5))})
    assert np.array_equal(found["turned"], table[[7, 0, 9]].T)
    assert np.array_equal(found["cache"], np.concatenate([np.ones((4, 5)), table[[7, 0, 9]], np.ones((1, 5))]))
    with pytest.raises(CheckError, match="are moved"):
        reference(lowered, {"index": np.array([7, 0, 9])}, arguments={"position": 6})


def test_functions() -> None:
    x = np.linspace(-9, 9, 301, dtype=np.float32).reshape(1, -1)
    table = FUNCTIONS["gelu"]
    image = table.image()
    program = VectorProgram(
        phases=(Loop(outputs=(("y", interpolated(Stream("x"), table)), ("low", smaller(Stream("x"), Constant(2.0))))),),
        outputs=(Output("y"), Output("low")),
        tables=(image[:1024], image[1024:]),
    )
    from presilicon.compiler.vectors import evaluate

    found = evaluate(program, (1, 301), streams={"x": x})
    assert np.array_equal(np.asarray(found["y"]).view(np.uint32), table(x.view(np.uint32)))
    assert np.array_equal(found["low"], np.minimum(x, 2))


def test_laws() -> None:
    with pytest.raises(CheckError, match="before it is named"):
        VectorProgram(phases=(Loop(outputs=(("y", plain := reciprocal(Scalar("s"))),)),), outputs=(Output("y"),))
    with pytest.raises(CheckError, match="row scalars only"):
        VectorProgram(phases=(Scalars((("s", product(Stream("x"), ONE)),)),), outputs=(Output("s", scalar=True),))
    with pytest.raises(CheckError, match="is not written once"):
        VectorProgram(phases=(Loop(outputs=()),), outputs=(Output("y"),))
    assert plain.op == "product"
    big = np.full((1, 1 << 18), -128, np.int8)
    assert exact_product(big, big.T)[0, 0] == np.int64(1 << 32).astype(np.int32)
