"""What the vector unit does in an attention, as `meaning.attend` says it."""

from __future__ import annotations

from functools import cache
from math import ceil

import numpy as np

from presilicon.compiler.kernels import CompiledKernel
from presilicon.compiler.meaning import STEPS_A_UNIT, probability_table
from presilicon.compiler.vectors import (
    ONE,
    Constant,
    Loop,
    Operand,
    Output,
    Scalar,
    Scalars,
    Stream,
    Sum,
    Value,
    VectorProgram,
    fused,
    product,
    reciprocal,
)
from presilicon.isa import kernel_text
from presilicon.template import Core


@cache
def softmax(score_scale: float, value_scale: float, stored: bool, counted: bool) -> VectorProgram:
    """Probabilities ``p`` (int8), of the sums or of scaled scores ``s``: `meaning.attend`.

    Where they are not ``counted`` by the array also the row scalar ``inverse``.
    """
    scale = Constant(score_scale * STEPS_A_UNIT)
    scores: Operand = Stream("s") if stored else product(Sum(), scale)
    at = fused(Stream("s"), ONE, Scalar("shift")) if stored else fused(Sum(), scale, Scalar("shift"))
    p = Value("table0", at, ONE)
    tables = (probability_table(), b"")
    first = (
        Loop(maxima=(("largest", scores),)),
        Scalars((("shift", fused(Scalar("largest"), ONE, Constant(127.0), negate_p=True)),)),
    )
    if counted:
        return VectorProgram(phases=(*first, Loop(outputs=(("p", p),))), outputs=(Output("p", "int8"),), tables=tables)
    return VectorProgram(
        phases=(
            *first,
            Loop(sums=(("total", p),), outputs=(("p", p),)),
            Scalars((("inverse", product(reciprocal(Scalar("total")), Constant(value_scale))),)),
        ),
        outputs=(Output("p", "int8"), Output("inverse", scalar=True)),
        tables=tables,
    )


@cache
def scaled_scores(score_scale: float) -> VectorProgram:
    """Scores as fp32 ``s``."""
    value = product(Sum(), Constant(score_scale * STEPS_A_UNIT))
    return VectorProgram(phases=(Loop(outputs=(("s", value),)),), outputs=(Output("s"),))


@cache
def weighted_values(zero_point: int) -> VectorProgram:
    """The result of a head: sums times the row's ``inverse``."""
    value = product(Sum(), Stream("inverse"))
    return VectorProgram(phases=(Loop(outputs=(("out", value),)),), outputs=(Output("out", "int8", zero_point),))


@cache
def counted_values(core: Core, dim: int, value_scale: float, zero_point: int) -> CompiledKernel:
    """The result of a head whose sums of probabilities lie in the block of columns behind it, in every lane.

    Sums are whole numbers: exact in any order. The reciprocal is that of `rowwise.reciprocal`.
    """
    sums = ceil(dim / core.cols) * core.chunks
    lines = [f"r0 = recip(acc) @{sums}"]
    lines += 2 * [f"r1 = -(acc * r0) + imm(2.0) @{sums}", "r0 = r0 * r1"]
    lines += [f"r0 = r0 * imm({np.float32(value_scale)!s})"]
    lines += [f"stream0 = acc * r0 @{strip}" if strip else "stream0 = acc * r0" for strip in range(ceil(dim / core.lanes))]
    return CompiledKernel(uops=kernel_text("\n".join(lines)), streams=(("out",),), formats=("int8",), zero_point=zero_point)
