"""Copies emitted: simulator equals reference, the verifier passes."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from emission_checks import SIZES, agrees, sized
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.compiler.emission.emit_move import COUNTS, Axis, axes_of, pieces
from presilicon.compiler.steps import Lowered, Move, Tensor


def move_model(
    source: tuple[int, int], out: tuple[int, int], *steps: Move, dtype: str = "float32", **arguments: int
) -> Lowered:
    return Lowered(
        name="move",
        tensors={"x": Tensor("x", *source, dtype), "y": Tensor("y", *out, dtype)},
        constants={},
        steps=steps,
        inputs=("x",),
        outputs=("y",),
        arguments=arguments,
    )


def move(shape: tuple[int, ...], strides: tuple[int, ...], out_strides: tuple[int, ...], **more: object) -> Move:
    return Move(name="move", source="x", out="y", shape=shape, strides=strides, out_strides=out_strides, **more)


@pytest.mark.parametrize("core", [SIZES["4x4"], SIZES["32x32"]], ids=["4x4", "32x32"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_slices_transposes_and_reversals(core, dtype):
    # Columns 3 to 12 of 20 rows of 30; a transpose; elements backwards, as reflections are.
    agrees(move_model((20, 30), (20, 10), move((20, 10), (30, 1), (10, 1), start=3), dtype=dtype), core)
    agrees(move_model((12, 15), (15, 12), move((15, 12), (1, 15), (12, 1)), dtype=dtype), core)
    agrees(move_model((1, 40), (1, 30), move((30,), (-1,), (1,), start=35), dtype=dtype), core)


def test_two_copies_make_one_tensor():
    first = move((7, 5), (5, 1), (9, 1))
    second = Move(name="second", source="x", out="y", shape=(7, 4), strides=(5, 1), out_strides=(9, 1), out_start=5)
    agrees(move_model((7, 5), (7, 9), first, second), SIZES["8x8"], strands=2)


def test_a_copy_larger_than_the_scratchpad():
    agrees(move_model((300, 100), (300, 100), move((300, 100), (100, 1), (100, 1))), sized(8, 8, 8, kib=32))


@pytest.mark.parametrize("row", [0, 3, 6])
def test_rows_that_the_run_knows(row):
    step = move((4, 12), (12, 1), (12, 1), source_row="row", source_pitch=12)
    agrees(move_model((10, 12), (4, 12), step, row=6), SIZES["8x8"], arguments={"row": row})
    step = move((4, 12), (12, 1), (12, 1), out_row="row", out_pitch=12)
    whole = Move(name="zeros", source="x", out="y", shape=(10, 12), strides=(0, 0), out_strides=(12, 1))
    agrees(move_model((4, 12), (10, 12), whole, step, row=6), SIZES["8x8"], arguments={"row": row})


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(-9, 9), st.integers(1, 9)), min_size=1, max_size=4), st.integers(1, 400)
)
def test_pieces_are_the_copy(axes: list[Axis], most: int) -> None:
    step = move(*zip(*axes, strict=True))

    def places(axes: tuple[Axis, ...], source: int = 0, out: int = 0) -> list[tuple[int, int]]:
        grids = np.indices([axis[0] for axis in axes]).reshape(len(axes), -1)
        along = [[axis[side] for axis in axes] for side in (1, 2)]
        return [(source + int(a), out + int(b)) for a, b in zip(*(np.array(s) @ grids for s in along), strict=True)]

    found = []
    for source, out, part in pieces(axes_of(step), most):
        assert prod(axis[0] for axis in part) <= most
        assert len(part) - (part[-1][1] == part[-1][2] == 1) <= COUNTS
        found += places(part, source, out)
    assert found == places(tuple(axes))


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.tuples(*[st.integers(1, 6)] * 4), st.sampled_from(sorted(SIZES)))
def test_every_transpose(order: list[int], shape: tuple[int, ...], size: str) -> None:
    strides = [prod(shape[i + 1 :]) for i in range(4)]
    turned = tuple(shape[i] for i in order)
    step = move(turned, tuple(strides[i] for i in order), tuple(prod(turned[i + 1 :]) for i in range(4)))
    agrees(move_model((1, prod(shape)), (1, prod(shape)), step), SIZES[size])
