"""Poolings and reductions over rows, emitted for arrays of every size: simulator equals reference, the verifier passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from emission_checks import SIZES, agrees, sized
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.compiler.steps import Lowered, Pool, Reduce, Tensor
from presilicon.errors import CapacityError


def pool_model(dtype: str = "float32", **fields: object) -> Lowered:
    step = Pool(name="pool", x="x", out="y", **fields)
    rows = step.batch * step.out_size[0] * step.out_size[1]
    return Lowered(
        name="pool",
        tensors={
            "x": Tensor("x", step.batch * step.height * step.width, step.channels, dtype),
            "y": Tensor("y", rows, step.channels, dtype),
        },
        constants={},
        steps=(step,),
        inputs=("x",),
        outputs=("y",),
    )


def reduce_model(rows: int, columns: int, **fields: object) -> Lowered:
    step = Reduce(name="reduce", x="x", out="y", **fields)
    return Lowered(
        name="reduce",
        tensors={"x": Tensor("x", step.batch * rows, columns), "y": Tensor("y", step.batch, columns)},
        constants={},
        steps=(step,),
        inputs=("x",),
        outputs=("y",),
        arguments={step.length: rows} if step.length else {},
    )


PAD = (1, 1, 1, 1)


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
def test_poolings_on_arrays_of_every_size(core):
    agrees(pool_model(kind="max", height=9, width=8, channels=20, kernel=(3, 3), stride=(2, 2), padding=PAD), core, strands=1)
    agrees(pool_model("int8", kind="max", height=6, width=6, channels=40, kernel=(2, 2), stride=(2, 2)), core)
    agrees(pool_model(kind="mean", height=7, width=7, channels=12, kernel=(3, 3), padding=PAD, batch=2), core, strands=2)


@pytest.mark.parametrize("core", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", ["sum", "max"])
def test_reductions_on_arrays_of_every_size(core, kind):
    agrees(reduce_model(49, 70, kind=kind, scale=1 / 49), core)
    agrees(reduce_model(5, 300, kind=kind, batch=2), core)


@pytest.mark.parametrize("length", [1, 2, 13, 20])
def test_a_mean_over_as_many_rows_as_the_run_says(length):
    agrees(reduce_model(20, 90, length="length", mean_of_length=True, batch=2), SIZES["8x8"], arguments={"length": length})
    agrees(reduce_model(20, 90, length="length", kind="max"), SIZES["32x32"], arguments={"length": length})


def test_rows_that_do_not_fit_at_once_go_on_where_the_earlier_ended():
    core = sized(8, 8, 8, kib=32)
    agrees(reduce_model(400, 70, scale=1 / 400), core)
    with pytest.raises(CapacityError, match="400 rows of 32 bytes do not fit into 2048 bytes"):
        agrees(reduce_model(400, 70, length="length"), core, arguments={"length": 3})


def test_channels_of_which_only_some_fit_at_a_time():
    core = sized(8, 8, 8, kib=32)
    for kind, dtype in (("max", "float32"), ("max", "int8"), ("mean", "float32")):
        model = pool_model(dtype, kind=kind, height=6, width=5, channels=90, kernel=(3, 3), stride=(1, 2), padding=PAD)
        agrees(model, core)


@st.composite
def models(draw: st.DrawFn) -> Lowered:
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    kind = draw(st.sampled_from(("max", "mean")))
    return pool_model(
        draw(st.sampled_from(("float32", "int8"))) if kind == "max" else "float32",
        kind=kind,
        kernel=kernel,
        height=draw(st.integers(kernel[0], 11)),
        width=draw(st.integers(kernel[1], 11)),
        channels=draw(st.integers(1, 70)),
        stride=draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding=tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)),
        count_padding=draw(st.booleans()),
        batch=draw(st.sampled_from((1, 2))),
    )


@settings(max_examples=50, deadline=None)
@given(models(), st.sampled_from(sorted(SIZES)), st.sampled_from((1, 2)), st.sampled_from((1, 1, 2)))
def test_random_poolings(lowered: Lowered, size: str, strands: int, cores: int) -> None:
    try:
        agrees(lowered, replace(SIZES[size], cores=cores), strands=strands, verified=cores == 1)
    except CapacityError as error:
        # What lies in the padding altogether, and what the smallest scratchpad cannot hold.
        if "padding altogether" not in str(error) and size != "4x4":
            raise
