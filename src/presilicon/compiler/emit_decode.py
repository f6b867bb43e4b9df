"""Attention over a KV cache in DRAM whose length is a runtime argument: one program serves every position.

For each panel (see `cache_plan`): scores q k^T with K stationary, taken transposed from its [token][dim] rows; softmax over
the score rows in the accumulators; probabilities times V, V stationary by rows. K and V pass by loops over a count that the
run computes, rows beyond the valid ones filled with zeros and never read from DRAM. The meaning is `meaning.attend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from presilicon.compiler.cache_plan import CachePlan, Panel
from presilicon.compiler.emitter import Emitter
from presilicon.compiler.kernels import CompiledKernel, compile_kernel
from presilicon.compiler.meaning import STEPS_A_UNIT, probability_table
from presilicon.compiler.vectors import (
    ONE,
    Constant,
    Loop,
    Output,
    Scalar,
    Scalars,
    Stream,
    Sum,
    Value,
    VectorProgram,
    fused,
    minus,
    product,
    reciprocal,
)
from presilicon.isa import Instruction, end, load, loop, matmul, reg, set_, store, sync
from presilicon.isa.footprint import Box
from presilicon.template import Core

# Bits of the inverse of a division by a size of the core: exact for counts below 2^16.
DIVISION_BITS = 24
SCORES, MIXED = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Registers:
    """Scalar registers of the loops, by name; ``position`` holds the runtime argument."""

    position: str
    valid: str
    first_valid: str
    chunks: str
    left: str
    rows: str
    row: str
    address: str
    ahead: str
    at: str
    tile: str
    acc: str

    @classmethod
    def of(cls, position: int) -> Registers:
        """The registers from r15 downwards, ``position`` being number ``position``."""
        names = [f"r{number}" for number in range(15, 4, -1)]
        return cls(
            position=f"r{position}",
            **dict(zip([name for name in cls.__slots__ if name != "position"], names, strict=True)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAttention:
    """An attention step as the emission knows it: DRAM addresses and bytes of a row of each operand, columns included."""

    plan: CachePlan
    position: int
    q: int
    q_row: int
    k: int
    k_row: int
    v: int
    v_row: int
    out: int
    out_row: int
    softmax: CompiledKernel
    softmax_start: int
    scale: CompiledKernel
    scale_start: int


def softmax_kernel(core: Core, score_scale: float, value_scale: float) -> CompiledKernel:
    """Scores in the accumulators to probabilities ``p`` (0 to 127) and ``inverse`` = value_scale / their sum."""
    scale = Constant(score_scale * STEPS_A_UNIT)
    p = Value("table0", fused(Sum(), scale, Scalar("shift")), ONE)
    program = VectorProgram(
        phases=(
            Loop(maxima=(("largest", product(Sum(), scale)),)),
            Scalars((("shift", minus(Constant(127.0), Scalar("largest"))),)),
            Loop(sums=(("sum", p),), outputs=(("p", p),)),
            Scalars((("inverse", product(reciprocal(Scalar("sum")), Constant(value_scale))),)),
        ),
        outputs=(Output("p", "int8"), Output("inverse", scalar=True)),
        tables=(probability_table(), b""),
    )
    return compile_kernel(core, program, zero_beyond=("p",))


def scale_kernel(core: Core, zero_point: int) -> CompiledKernel:
    """Sums of values in the accumulators times ``inverse`` as int8 ``out``."""
    program = VectorProgram(
        phases=(Loop(outputs=(("out", product(Sum(), Stream("inverse"))),)),),
        outputs=(Output("out", "int8", zero_point),),
    )
    return compile_kernel(core, program, fixed=("inverse",))


def cached_attention(emitter: Emitter, core: Core, made: CacheAttention) -> None:
    """Adds the whole step; table 0 must hold `meaning.probability_table`, the kernels lie at their slots."""
    work = _Attention(emitter, core, made)
    for panel in made.plan.panels():
        work.panel(panel)


class _Attention:
    def __init__(self, emitter: Emitter, core: Core, made: CacheAttention) -> None:
        self.emitter, self.core, self.made, self.plan = emitter, core, made, made.plan
        self.sizes = made.plan.sizes
        self.r = Registers.of(made.position)
        self.pitch, self.buffer_bytes = made.plan.pitch(core), made.plan.buffer_bytes(core)

    def panel(self, panel: Panel) -> None:
        core, plan, sizes, made, r = self.core, self.plan, self.sizes, self.made, self.r
        width = plan.groups * sizes.share * sizes.dim
        first = panel.group * sizes.share * sizes.dim
        rows = plan.rows(panel.tokens)
        self.emitter.add(
            load(
                dram=made.q + panel.token * made.q_row + first,
                spad=plan.q.start,
                n1=panel.tokens,
                run=width,
                stride1=made.q_row,
                pitch=width,
            )
        )
        counts = [
            set_(r.first_valid, r.position, "add", panel.token + 1),
            set_(r.valid, r.first_valid, "add", panel.tokens - 1),
            *_ceil_divide(r.chunks, r.valid, plan.chunk),
        ]
        keys = made.k + panel.group * sizes.dim
        self.stream([*counts, *self.ahead(keys, made.k_row)], list(self.scores(panel, keys)), SCORES, keys, made.k_row, rows)
        self.emitter.add(_product(r.tile, r.chunks, plan.chunk // core.lanes))
        # Footprints are taken with the largest values.
        self.emitter.registers[reg(r.tile).register] = plan.padded // core.lanes
        self.emitter.registers[reg(r.first_valid).register] = sizes.keys
        for row, count, causal in self.row_sets(panel):
            self.emitter.add(
                made.softmax.instruction(
                    {"p": (plan.p.start + row * plan.padded, plan.padded), "inverse": self.inverse(row, rows)},
                    start=made.softmax_start,
                    rows=count,
                    strips=reg(r.tile),
                    columns=plan.padded,
                    valid=reg(r.first_valid),
                    causal=causal,
                    bank=SCORES,
                    acc=row,
                    acc_step=rows,
                )
            )
        values = made.v + panel.group * sizes.dim
        self.stream(self.ahead(values, made.v_row), list(self.mixed(panel, values)), MIXED, values, made.v_row, rows)
        for row, count, _ in self.row_sets(panel):
            # A head's rows of tokens lie side by side in a token's row of results; of one token, the heads' rows do.
            head, by_token = row // panel.tokens, panel.tokens > 1
            self.emitter.add(
                made.scale.instruction(
                    {
                        "out": (plan.out.start + head * sizes.dim, width if by_token else sizes.dim),
                        "inverse": self.inverse(row, rows),
                    },
                    start=made.scale_start,
                    rows=count,
                    strips=ceil(sizes.dim / core.lanes),
                    columns=sizes.dim,
                    bank=MIXED,
                    acc=row,
                    acc_step=rows,
                )
            )
        self.emitter.add(
            store(
                dram=made.out + panel.token * made.out_row + first,
                spad=plan.out.start,
                n1=panel.tokens,
                run=width,
                stride1=made.out_row,
                pitch=width,
            )
        )

    def row_sets(self, panel: Panel) -> Iterator[tuple[int, int, int]]:
        """First score row, rows, and 1 where causal, of each vector instruction: a token's heads, or a head's tokens."""
        if panel.tokens == 1:
            yield 0, self.plan.rows(1), 0
            return
        for head in range(self.plan.groups * self.sizes.share):
            yield head * panel.tokens, panel.tokens, 1

    def inverse(self, row: int, rows: int) -> tuple[int, int]:
        """Address and pitch of the reciprocals from a row on."""
        strip = 4 * self.core.lanes
        base = self.plan.out.start + rows * self.sizes.dim
        return -(-base // strip) * strip + row * strip, strip

    # Loops ------------------------------------------------------------------------------------------------------------

    def stream(self, front: list[Instruction], body: list[Instruction], bank: int, dram: int, dram_row: int, rows: int) -> None:
        """A block: what is in front, the loads ahead, and the loop's parts; its loads and matmuls keep step by tokens."""
        plan, core = self.plan, self.core
        ahead = plan.buffers - 1
        made = [*front, sync("matmul", signal=("load",)), *body]
        made += [sync("load", wait=("matmul",)), *[sync("matmul", wait=("load",))] * ahead]
        cache = Box("dram", dram, (self.sizes.keys - 1) * dram_row + plan.row)
        ring = Box("scratchpad", plan.ring.start, plan.buffers * self.buffer_bytes)
        moving = (
            Box("scratchpad", plan.q.start, plan.q.bytes) if bank == SCORES else Box("scratchpad", plan.p.start, plan.p.bytes)
        )
        sums = Box(f"accumulator{bank}", 0, core.accumulator_rows)
        reads = [moving, ring, *([sums] if bank == MIXED else [])]
        self.emitter.block(made, {"load": ([cache], [ring]), "matmul": (reads, [sums])})

    def ahead(self, dram: int, dram_row: int) -> list[Instruction]:
        """Registers of the loads, and the first loads."""
        plan, r = self.plan, self.r
        made = [
            _product(r.left, r.chunks, plan.chunk),
            set_(r.row),
            set_(r.address),
            set_(r.ahead),
            set_(r.at),
            set_(r.acc),
        ]
        for _ in range(plan.buffers - 1):
            made += self.load_chunk(dram, dram_row, ())
        return made

    def load_chunk(self, dram: int, dram_row: int, wait: tuple[str, ...]) -> list[Instruction]:
        """The next chunk into the next buffer; behind the last chunk one row of fill, which keeps the tokens in step."""
        plan, r = self.plan, self.r
        return [
            set_(r.rows, r.left, "min", plan.chunk),
            set_(r.rows, r.rows, "max", 1),
            load(
                dram=reg(r.address) + dram,
                spad=reg(r.ahead) + plan.ring.start,
                n1=reg(r.rows),
                run=plan.row,
                stride1=dram_row,
                right=plan.fill(self.core),
                pitch=self.pitch,
                y0=reg(r.row),
                limit=reg(r.valid),
                wait=wait,
                signal=("matmul",),
            ),
            set_(r.left, r.left, "max", plan.chunk),
            set_(r.left, r.left, "sub", plan.chunk),
            set_(r.row, r.row, "add", plan.chunk),
            set_(r.address, r.address, "add", plan.chunk * dram_row),
            *self.next_buffer(r.ahead),
        ]

    def next_buffer(self, register: str) -> list[Instruction]:
        plan = self.plan
        return [
            set_(register, register, "add", self.buffer_bytes),
            set_(register, register, "and", plan.buffers * self.buffer_bytes - 1),
        ]

    def chunk(self, dram: int, dram_row: int, inner: list[Instruction]) -> list[Instruction]:
        """One turn: the load of a chunk ahead, then the matmuls of the present one."""
        return [
            *self.load_chunk(dram, dram_row, ("matmul",)),
            sync("matmul", wait=("load",)),
            *inner,
            sync("matmul", signal=("load",)),
            *self.next_buffer(self.r.at),
        ]

    def scores(self, panel: Panel, dram: int) -> Iterator[Instruction]:
        """All chunks of K: a column block of scores after the other, all KV heads of the panel in each."""
        core, plan, sizes, r = self.core, self.plan, self.sizes, self.r
        rows = plan.rows(panel.tokens)
        width = plan.groups * sizes.share * sizes.dim
        tiles = [
            matmul(
                x=plan.q.start + head * sizes.share * sizes.dim,
                w=reg(r.tile) + plan.ring.start + head * sizes.dim,
                acc=reg(r.acc) + head * sizes.share * panel.tokens,
                m0=panel.tokens,
                x_stride0=width,
                m1=sizes.share,
                x_stride1=sizes.dim,
                kb=ceil(sizes.dim / core.rows),
                tail=(sizes.dim - 1) % core.rows + 1,
                bank=SCORES,
                weights="transposed",
                w_pitch=self.pitch,
            )
            for head in range(plan.groups)
        ]
        step = [set_(r.tile, r.tile, "add", core.cols * self.pitch), set_(r.acc, r.acc, "add", rows)]
        inner = [set_(r.tile, r.at), *_loop(plan.chunk // core.cols, [*tiles, *step])]
        yield from _loop(reg(r.chunks), self.chunk(dram, self.made.k_row, inner))

    def mixed(self, panel: Panel, dram: int) -> Iterator[Instruction]:
        """All chunks of V: a column block of results after the other; the first chunk overwrites, the others add."""
        core, plan, sizes, r = self.core, self.plan, self.sizes, self.r
        rows, own = plan.rows(panel.tokens), sizes.share * panel.tokens

        def turn(accumulate: int) -> list[Instruction]:
            tiles = [
                matmul(
                    x=reg(r.acc) + plan.p.start + head * own * plan.padded,
                    w=reg(r.tile) + plan.ring.start + head * sizes.dim,
                    acc=reg(r.rows) + head * own,
                    m0=own,
                    x_stride0=plan.padded,
                    kb=ceil(plan.chunk / core.rows),
                    tail=(plan.chunk - 1) % core.rows + 1,
                    bank=MIXED,
                    accumulate=accumulate,
                    weights="strided",
                    w_pitch=self.pitch,
                )
                for head in range(plan.groups)
            ]
            # `rows` is free between two loads, `acc` counts the chunks' columns of probabilities here.
            step = [set_(r.tile, r.tile, "add", core.cols), set_(r.rows, r.rows, "add", rows)]
            inner = [set_(r.tile, r.at), set_(r.rows), *_loop(ceil(sizes.dim / core.cols), [*tiles, *step])]
            return [*self.chunk(dram, self.made.v_row, inner), set_(r.acc, r.acc, "add", plan.chunk)]

        yield from turn(0)
        yield set_(r.chunks, r.chunks, "sub", 1)
        yield from _loop(reg(r.chunks), turn(1))


def _loop(count: object, body: list[Instruction]) -> list[Instruction]:
    return [loop(count, len(body) + 1), *body, end()]  # type: ignore[arg-type]


def _product(to: str, a: str, by: int) -> Instruction:
    """``to`` = a * by."""
    return set_(to, a, "mul", by)


def _ceil_divide(to: str, a: str, by: int) -> list[Instruction]:
    """``to`` = ceil(a / by); ``by`` need not be a power of two, so it is a product with a rounded-up inverse."""
    if by & (by - 1) == 0:
        return [set_(to, a, "add", by - 1), set_(to, to, "shr", by.bit_length() - 1)]
    # floor(x / by) = x * m >> 24 with m = ceil(2^24 / by), exact for x below 2^16: Granlund and Montgomery, 1994.
    return [
        set_(to, a, "add", by - 1),
        set_(to, to, "mul", -(-(1 << DIVISION_BITS) // by)),
        set_(to, to, "shr", DIVISION_BITS),
    ]
