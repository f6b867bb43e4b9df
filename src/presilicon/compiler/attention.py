"""One step of attention over a KV cache in DRAM, its length a runtime argument: one program for every position.

Scores q K^T with K stationary, taken transposed from its [token][dim] rows; softmax in one pass over the score row on chip;
then probabilities times V, V stationary by rows. Register r1 holds the tokens in the cache, from 1 to ``tokens``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon import float32 as f32
from presilicon.compiler.rows import aligned, kernels, load_kernels
from presilicon.compiler.rowwise import (
    EXPONENTIAL,
    FIRST_PARTIAL,
    MAXIMUM,
    ONE,
    RESULT,
    SPARE,
    constant,
    fold_maximum,
    fold_partials,
    newton_reciprocal,
    reciprocal,
    row_maximum,
    row_sum,
)
from presilicon.errors import CapacityError
from presilicon.isa import (
    UOP_BYTES,
    Instruction,
    Program,
    Region,
    Segment,
    end,
    halt,
    load,
    loop,
    matmul,
    reg,
    set_,
    store,
    sync,
    vector,
)
from presilicon.template import Core

# The largest probability as int8.
TOP = 127.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionStep:
    """Sizes and scales: ``heads`` queries share one K and V of ``dim``; scores are sums times ``score_scale``."""

    heads: int
    dim: int
    tokens: int
    score_scale: float
    value_scale: float


def twin(
    step: AttentionStep, q: NDArray[np.int8], k: NDArray[np.int8], v: NDArray[np.int8], tokens: int
) -> NDArray[np.float32]:
    """What the program computes, exactly: (heads, dim) fp32 from q (heads, dim) and ``tokens`` rows of k and v."""
    sums = q.astype(np.int32) @ k[:tokens].astype(np.int32).T
    scores = f32.multiply(f32.from_int32(sums), f32.bits(step.score_scale))
    exponent = EXPONENTIAL(f32.add(scores, f32.negate(row_maximum(scores))))
    whole = f32.round_even(f32.multiply(exponent, f32.bits(TOP)))
    inverse = f32.multiply(reciprocal(row_sum(whole)), f32.bits(step.value_scale))
    out = f32.to_int8(whole).astype(np.int32) @ v[:tokens].astype(np.int32)
    return f32.numbers(f32.multiply(f32.from_int32(out), inverse))


def _softmax_text(core: Core, step: AttentionStep) -> str:
    first = FIRST_PARTIAL
    scale = f"imm({np.float32(step.score_scale)!s})"
    body = []
    for p in range(core.partial_registers):
        lines = [
            f"r{RESULT} = acc * {scale} - r{MAXIMUM}",
            *EXPONENTIAL.lookup(f"r{RESULT}", RESULT, 4),
            f"r{RESULT} = round(r{RESULT} * imm({TOP}))",
            f"stream0 = r{RESULT} * r{ONE} masked(zero)",
            f"r{first + p} = r{RESULT} * r{ONE} + r{first + p} masked",
        ]
        body += [f"  {line} @{p}" if p else f"  {line}" for line in lines]
    return "\n".join(
        [
            *EXPONENTIAL.constants("acc"),
            constant(MAXIMUM, -math.inf, "acc"),
            "loop {",
            f"  r{MAXIMUM} = max(acc * {scale}, r{MAXIMUM}) masked",
            "}",
            *fold_maximum(core, MAXIMUM),
            *[constant(first + p, 0.0, "acc") for p in range(core.partial_registers)],
            f"loop step {core.partial_registers} {{",
            *body,
            "}",
            *fold_partials(core, first),
            *newton_reciprocal(first, RESULT, SPARE),
            f"stream2 = r{RESULT} * imm({np.float32(step.value_scale)!s})",
        ]
    )


def attention_program(core: Core, step: AttentionStep) -> Program:
    """The program: input ``q`` int8 (heads, dim), states ``k`` and ``v`` int8 (tokens, dim), output ``y`` fp32 (heads, dim).

    CapacityError where cache or scores do not fit on the chip, with both numbers.
    """
    rows, cols, lanes = core.rows, core.cols, core.lanes
    heads, dim = step.heads, step.dim
    # Whole column blocks of K and whole row blocks of V are loaded: the caches are padded to both.
    unit = math.lcm(rows, cols)
    padded = ceil(step.tokens / unit) * unit
    quarter = core.scratchpad_bytes // 4
    d_blocks, d_columns = ceil(dim / rows), ceil(dim / cols)
    row = d_blocks * rows
    for what, need in (("K", padded * row), ("V", padded * d_columns * cols), ("scores", heads * padded)):
        if need > quarter // (2 if what == "scores" else 1):
            raise CapacityError(f"{what} of {need} bytes does not fit into {quarter} bytes of the scratchpad")
    if heads * ceil(padded / cols) > core.accumulator_rows:
        raise CapacityError(f"scores of {heads} x {padded} do not fit into {core.accumulator_rows} accumulator rows")
    made = kernels({"softmax": _softmax_text(core, step), "scale": "r0 = stream1\nloop {\n  stream0 = acc * r0\n}"}, core)
    q, k = 0, aligned(heads * dim)
    v = aligned(k + padded * dim)
    y = aligned(v + padded * dim)
    table = aligned(y + 4 * heads * dim)
    kernel = aligned(table + 2048)
    # K and probabilities are read by the array at different times than V and q; the vector unit writes elsewhere than load.
    k_at, q_at, v_at = 0, quarter, quarter + quarter // 2
    p_at, inverse_at, y_at = 2 * quarter, 2 * quarter + quarter // 2, 3 * quarter
    if v_at + padded * d_columns * cols > 2 * quarter:
        raise CapacityError(f"V of {padded} x {dim} does not fit into {quarter // 2} bytes of the scratchpad")
    blocks, at, acc, r_blocks, tail, strips = (f"r{i}" for i in range(2, 8))
    program: list[Instruction] = [
        load_kernels(made, kernel),
        load(dram=table, spad=0, run=2048, target="tables"),
        load(dram=q, spad=q_at, n1=heads, run=dim, stride1=dim, right=row - dim, pitch=row, signal=("matmul",)),
        # Column blocks of scores: ceil(tokens / cols); row blocks of V; the last one's rows; strips.
        *_ceil_divide(blocks, cols),
        *_ceil_divide(r_blocks, rows),
        *_ceil_divide(strips, lanes),
        set_(tail, r_blocks, "sub", 1),
        set_(tail, tail, "mul", rows),
        set_(tail, "r1", "sub", reg(tail)),
        set_("r8", blocks, "mul", cols),
        set_("r9", r_blocks, "mul", rows),
        load(dram=k, spad=k_at, n1=reg("r8"), run=dim, stride1=dim, right=row - dim, pitch=row, signal=("matmul",)),
        load(
            dram=v,
            spad=v_at,
            n1=reg("r9"),
            run=dim,
            stride1=dim,
            right=d_columns * cols - dim,
            pitch=d_columns * cols,
            signal=("matmul", "vector"),
        ),
        sync(engine="matmul", wait=("load",)),
        sync(engine="matmul", wait=("load",)),
        set_(at, "r0", "add", k_at),
        set_(acc, "r0", "add", 0),
        loop(reg(blocks), 4),
        matmul(
            x=q_at,
            w=reg(at),
            acc=reg(acc),
            m0=heads,
            x_stride0=row,
            kb=d_blocks,
            tail=(dim - 1) % rows + 1,
            weights="transposed",
            w_pitch=row,
        ),
        set_(at, at, "add", cols * row),
        set_(acc, acc, "add", heads),
        end(),
        sync(engine="matmul", wait=("load",), signal=("vector",)),
        sync(engine="vector", wait=("load",)),
        vector(
            kernel=made[0].start,
            rows=heads,
            strips=reg(strips),
            columns=padded,
            valid=reg("r1"),
            streams=(p_at, 0, inverse_at),
            pitches=(padded, 0, 4 * lanes),
            formats=("int8",),
            fixed=(2,),
            acc_step=heads,
            wait=("matmul",),
            signal=("matmul",),
        ),
    ]
    for number in range(d_columns):
        program += [
            matmul(
                x=p_at,
                w=v_at + number * cols,
                acc=number * heads,
                m0=heads,
                x_stride0=padded,
                kb=reg(r_blocks),
                tail=reg(tail),
                bank=1,
                weights="strided",
                w_pitch=d_columns * cols,
                wait=("vector",) if number == 0 else (),
                signal=("vector",) if number == d_columns - 1 else (),
            )
        ]
    program += [
        vector(
            kernel=made[1].start,
            rows=heads,
            strips=d_columns * core.chunks,
            columns=dim,
            valid=dim,
            streams=(y_at, inverse_at),
            pitches=(4 * dim, 4 * lanes),
            fixed=(1,),
            bank=1,
            acc_step=heads,
            wait=("matmul",),
            signal=("store",),
        ),
        store(dram=y, spad=y_at, run=4 * heads * dim, wait=("vector",)),
        halt(),
    ]
    return Program.build(
        core,
        program,
        kernels=made,
        data=(Segment(table, EXPONENTIAL.image()),),
        regions=(
            Region("q", "input", "int8", (heads, dim), q),
            Region("k", "state", "int8", (padded, dim), k),
            Region("v", "state", "int8", (padded, dim), v),
            Region("y", "output", "float32", (heads, dim), y),
        ),
        address=aligned(kernel + UOP_BYTES * sum(one.slots for one in made)),
        kernel_address=kernel,
    )


def _ceil_divide(to: str, by: int) -> list[Instruction]:
    """``to`` = ceil(r1 / by); ``by`` need not be a power of two, so it is a product with a rounded-up inverse."""
    if by & (by - 1) == 0:
        return [set_(to, "r1", "add", by - 1), set_(to, to, "shr", by.bit_length() - 1)]
    # floor(x / by) = x * m >> 24 with m = ceil(2^24 / by), exact for x below 2^16: Granlund and Montgomery, 1994.
    return [set_(to, "r1", "add", by - 1), set_(to, to, "mul", -(-(1 << 24) // by)), set_(to, to, "shr", 24)]
