"""Products and rows of vector programs, emitted for arrays of every size: simulator equals reference, the verifier passes."""

import numpy as np
import pytest
from emission_checks import SIZES, agrees

from presilicon.compiler.rowwise import FUNCTIONS
from presilicon.compiler.steps import Binding, Lowered, Product, Rows, Tensor
from presilicon.compiler.vectors import (
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
    plus,
    product,
    reciprocal_root,
)

GELU = FUNCTIONS["gelu"]
TABLES = (GELU.image()[:1024], GELU.image()[1024:])


def epilogue(*, residual=False, gelu=False, fp32=False, int8=True):
    """Dequantise, bias, perhaps a function, perhaps a residual; fp32 or int8 results or both."""
    value = product(Sum("bias"), Column("scale"))
    if residual:
        value = plus(value, Stream("residual"))
    if gelu:
        value = interpolated(value, GELU)
    outputs, written = [], []
    if fp32:
        outputs.append(Output("y"))
        written.append(("y", value))
    if int8:
        outputs.append(Output("q", "int8", 3))
        written.append(("q", product(value, Constant(9.0))))
    tables = TABLES if gelu else (b"", b"")
    return VectorProgram(phases=(Loop(outputs=tuple(written)),), outputs=tuple(outputs), tables=tables)


def product_model(m, k, n, *, group=0, seed=0, **options):
    """One product."""
    rng = np.random.default_rng(seed)
    program = epilogue(**options)
    weights = rng.integers(-8, 8, (k, n)) if group else rng.integers(-127, 128, (k, n))
    constants = {
        "w": weights.astype(np.int8),
        "bias": rng.integers(-999, 999, n).astype(np.int32),
        "scale": rng.uniform(1e-4, 4e-4, n).astype(np.float32),
    }
    if group:
        constants["multipliers"] = rng.integers(1, 16, (-(-k // group), n)).astype(np.uint8)
    tensors = {"x": Tensor("x", m, k, "int8")}
    inputs = ["x"]
    if options.get("residual"):
        tensors["r"] = Tensor("r", m, n)
        inputs.append("r")
    for output in program.outputs:
        tensors[output.name] = Tensor(output.name, m, n, output.dtype, zero_point=output.zero_point)
    step = Product(
        name="product",
        program=program,
        streams=(Binding("residual", "r"),) if options.get("residual") else (),
        columns=(Binding("bias", "bias"), Binding("scale", "scale")),
        outputs=tuple(Binding(output.name, output.name) for output in program.outputs),
        x="x",
        weights="w",
        multipliers="multipliers" if group else "",
        group=group,
    )
    return Lowered(
        name="product",
        tensors=tensors,
        constants=constants,
        steps=(step,),
        inputs=tuple(inputs),
        outputs=tuple(output.name for output in program.outputs),
    )


def norm_program(n):
    x = Stream("x")
    centred = minus(x, Scalar("mean"))
    y = fused(product(centred, Scalar("root")), Column("gamma"), Column("beta"))
    return VectorProgram(
        phases=(
            Loop(sums=(("total", x),)),
            Scalars((("mean", product(Scalar("total"), Constant(1 / n))),)),
            Loop(sums=(("squares", product(minus(x, Scalar("mean")), minus(x, Scalar("mean")))),)),
            Scalars((("root", reciprocal_root(fused(Scalar("squares"), Constant(1 / n), Constant(1e-5)))),)),
            Loop(outputs=(("y", y), ("q", product(y, Constant(21.0))))),
        ),
        outputs=(Output("y"), Output("q", "int8", -7)),
    )


def norm_model(m, n):
    rng = np.random.default_rng(m)
    step = Rows(
        name="norm",
        program=norm_program(n),
        streams=(Binding("x", "x"),),
        columns=(Binding("gamma", "gamma"), Binding("beta", "beta")),
        outputs=(Binding("y", "y"), Binding("q", "q")),
    )
    return Lowered(
        name="norm",
        tensors={"x": Tensor("x", m, n), "y": Tensor("y", m, n), "q": Tensor("q", m, n, "int8", zero_point=-7)},
        constants={name: rng.normal(1.0, 0.2, n).astype(np.float32) for name in ("gamma", "beta")},
        steps=(step,),
        inputs=("x",),
        outputs=("y", "q"),
    )


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_products_of_every_kind_on_arrays_of_every_size(core):
    agrees(product_model(1, 40, 30), core)
    agrees(product_model(37, 65, 50, residual=True, fp32=True), core)
    agrees(product_model(19, 130, 70, gelu=True), core, strands=1)
    agrees(product_model(70, 24, 100, fp32=True, int8=False), core, strands=2)


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_four_bit_weights_with_groups(core):
    agrees(product_model(5, 256, 50, group=64), core)


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("m", "n"), [(1, 40), (23, 60), (9, 300)])
def test_a_norm_writes_both_formats(core, m, n):
    agrees(norm_model(m, n), core)
