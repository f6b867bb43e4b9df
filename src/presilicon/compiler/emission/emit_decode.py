"""Attention over a KV cache in DRAM whose length is a runtime argument: one program serves every position.

For each panel (see `cache_plan`): scores q k^T with K stationary, taken transposed from its [token][dim] rows; softmax over
the score rows in the accumulators; probabilities times V, V stationary by rows. K and V pass by loops over a count that the
run computes, rows beyond the valid ones filled with zeros and never read from DRAM. The meaning is `meaning.attend`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

from presilicon.compiler.emission.cache_plan import LATENCY_CYCLES, CachePlan, Panel, Room, Sizes, plan_cache
from presilicon.compiler.emission.memory import Chunk, Hold
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import ADDRESS_REGISTER, FIRST_SCRATCH, Site, Strand
from presilicon.compiler.emitter import Touches
from presilicon.compiler.meaning import STEPS_A_UNIT, probability_table
from presilicon.compiler.steps import Attention
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
from presilicon.isa import Instruction, Slot, end, load, loop, matmul, reg, set_, sync
from presilicon.isa.footprint import Box

# Bits of the inverse of a division by a size of the core: exact for counts below 2^16.
DIVISION_BITS = 24
SPAD = "scratchpad"


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
        """The registers below that of addresses, ``position`` being number ``position``."""
        names = [f"r{number}" for number in range(FIRST_SCRATCH, ADDRESS_REGISTER)]
        return cls(
            position=f"r{position}",
            **dict(zip([name for name in cls.__slots__ if name != "position"], names, strict=True)),
        )


@cache
def softmax_program(score_scale: float, value_scale: float) -> VectorProgram:
    """Scores in the accumulators to probabilities ``p`` (0 to 127) and ``inverse`` = value_scale / their sum."""
    scale = Constant(score_scale * STEPS_A_UNIT)
    p = Value("table0", fused(Sum(), scale, Scalar("shift")), ONE)
    return VectorProgram(
        phases=(
            Loop(maxima=(("largest", product(Sum(), scale)),)),
            Scalars((("shift", minus(Constant(127.0), Scalar("largest"))),)),
            Loop(sums=(("sum", p),), outputs=(("p", p),)),
            Scalars((("inverse", product(reciprocal(Scalar("sum")), Constant(value_scale))),)),
        ),
        outputs=(Output("p", "int8"), Output("inverse", scalar=True)),
        tables=(probability_table(), b""),
    )


@cache
def scale_program(zero_point: int) -> VectorProgram:
    """Sums of values in the accumulators times ``inverse`` as int8 ``out``."""
    return VectorProgram(
        phases=(Loop(outputs=(("out", product(Sum(), Stream("inverse"))),)),),
        outputs=(Output("out", "int8", zero_point),),
    )


def plan_step(strand: Strand, step: Attention) -> CachePlan | None:
    """The cut of a strand's tokens; None where it has none."""
    lowered = strand.lowered
    tokens = len(strand.rows(lowered.tensors[step.q].rows))
    if not tokens:
        return None
    sizes = Sizes(
        tokens=tokens,
        keys=lowered.tensors[step.k].rows,
        heads=step.heads,
        kv_heads=step.kv_heads,
        dim=step.dim,
    )
    room = Room(
        moving=strand.moving.size,
        stationary=strand.stationary.arena.size,
        results=strand.results.size,
        accumulator_rows=len(strand.accumulator_rows),
    )
    return plan_cache(strand.core, sizes, room)


def plan_attention(strand: Strand, step: Attention) -> Sequence[Chunk | Hold]:
    """The ring of chunks: room among the stationary operands."""
    plan = plan_step(strand, step)
    return (Hold(plan.ring_bytes(strand.core)),) if plan else ()


def emit_attention(strand: Strand, step: Attention) -> Iterator[None]:
    """The instructions of a strand's tokens."""
    plan = plan_step(strand, step)
    if plan is None:
        return
    ring = strand.stationary.take()
    work = _Attention(strand, step, plan, ring)
    for panel in plan.panels():
        work.panel(panel)
        yield
    strand.stationary.free(ring)


EMISSION = Emission(emit=emit_attention, plan=plan_attention, whole=lambda step: (step.k, step.v))


class _Attention:
    """A strand's share of a step under way."""

    def __init__(self, strand: Strand, step: Attention, plan: CachePlan, ring: int) -> None:
        self.strand, self.site, self.core = strand, strand.site, strand.core
        self.step, self.plan, self.sizes, self.ring = step, plan, plan.sizes, ring
        self.r = Registers.of(strand.lowered.register(step.position))
        self.pitch, self.buffer_bytes = plan.pitch(self.core), plan.buffer_bytes(self.core)
        zero_point = strand.lowered.tensors[step.out].zero_point
        self.softmax = self.site.compiled(softmax_program(step.score_scale, step.value_scale), zero_beyond=("p",))
        self.scale = self.site.compiled(scale_program(zero_point), fixed=("inverse",))
        self.first = strand.rows(strand.lowered.tensors[step.q].rows).start

    def panel(self, panel: Panel) -> None:
        """Queries in, two passes over the cache, results out."""
        core, plan, sizes, step, r, site = self.core, self.plan, self.sizes, self.step, self.r, self.site
        moving, results = self.strand.moving, self.strand.results
        rows, width, token = plan.rows(panel.tokens), plan.heads * sizes.dim, self.first + panel.token
        moved = range(token, token + panel.tokens)
        q, p = moving.take(plan.q_bytes(panel.tokens), "queries"), moving.take(plan.p_bytes(panel.tokens), "probabilities")
        out = results.take(plan.q_bytes(panel.tokens), "results of an attention")
        inverse = results.take(plan.inverse_bytes(core, panel.tokens), "reciprocals")
        site.fetch(step.q, q, moved, step.q_column + panel.head * sizes.dim, width)
        counts = [
            set_(r.first_valid, r.position, "add", token + 1),
            set_(r.valid, r.first_valid, "add", panel.tokens - 1),
            *_ceil_divide(r.chunks, r.valid, plan.chunk),
        ]
        bank = self.strand.next_bank()
        keys = _Cache(site, step.k, step.k_column + panel.group * sizes.dim)
        self.stream(
            [*counts, *self.ahead(keys)],
            list(self.scores(panel, keys, q, bank)),
            bank,
            Box(SPAD, q, plan.q_bytes(panel.tokens)),
            keys,
        )
        site.add(set_(r.tile, r.chunks, "mul", plan.chunk // core.lanes))
        # Footprints are taken with the largest values.
        site.emitter.registers[reg(r.tile).register] = plan.padded // core.lanes
        site.emitter.registers[reg(r.first_valid).register] = sizes.keys
        strip, base = 4 * core.lanes, self.strand.accumulator_rows.start
        site.tables((probability_table(), b""))
        start = site.kernel(self.softmax.uops)
        for row, count, causal in self.row_sets(panel):
            site.add(
                self.softmax.instruction(
                    {"p": (p + row * plan.padded, plan.padded), "inverse": (inverse + row * strip, strip)},
                    start=start,
                    rows=count,
                    strips=reg(r.tile),
                    columns=plan.padded,
                    valid=reg(r.first_valid),
                    causal=causal,
                    bank=bank,
                    acc=base + row,
                    acc_step=rows,
                )
            )
        bank = self.strand.next_bank()
        values = _Cache(site, step.v, step.v_column + panel.group * sizes.dim)
        self.stream(
            self.ahead(values), list(self.mixed(panel, values, p, bank)), bank, Box(SPAD, p, plan.p_bytes(panel.tokens)), values
        )
        start = site.kernel(self.scale.uops)
        for row, count, causal in self.row_sets(panel):
            # A head's rows of tokens lie side by side in a token's row of results; of one token, the heads' rows do.
            at, pitch = out + row // panel.tokens * sizes.dim, width if causal else sizes.dim
            site.add(
                self.scale.instruction(
                    {"out": (at, pitch), "inverse": (inverse + row * strip, strip)},
                    start=start,
                    rows=count,
                    strips=ceil(sizes.dim / core.lanes),
                    columns=sizes.dim,
                    bank=bank,
                    acc=base + row,
                    acc_step=rows,
                )
            )
        site.put(step.out, out, moved, panel.head * sizes.dim, width)
        moving.free(q, p)
        results.free(out, inverse)

    def row_sets(self, panel: Panel) -> Iterator[tuple[int, int, int]]:
        """First score row, rows, and 1 where causal, of each vector instruction: a token's heads, or a head's tokens."""
        if panel.tokens == 1:
            yield 0, self.plan.rows(1), 0
            return
        for head in range(self.plan.heads):
            yield head * panel.tokens, panel.tokens, 1

    # Loops ------------------------------------------------------------------------------------------------------------

    def stream(self, front: list[Instruction], body: list[Instruction], bank: int, moving: Box, cache: _Cache) -> None:
        """A block: what is in front, the loads ahead, and the loop's parts; its loads and matmuls keep step by tokens."""
        plan, core = self.plan, self.core
        made = [*front, sync("matmul", signal=("load",)), *body]
        made += [sync("load", wait=("matmul",)), *[sync("matmul", wait=("load",))] * (plan.buffers - 1)]
        ring = Box(SPAD, self.ring, plan.ring_bytes(core))
        sums = Box(f"accumulator{bank}", self.strand.accumulator_rows.start, len(self.strand.accumulator_rows))
        cycles = plan.padded * plan.row / core.bus_bytes + LATENCY_CYCLES
        touches: dict[str, Touches] = {"load": ([cache.box], [ring]), "matmul": ([moving, ring, sums], [sums])}
        self.site.block(made, touches, cycles)

    def ahead(self, cache: _Cache) -> list[Instruction]:
        """Registers of the loads, and the first loads."""
        plan, r = self.plan, self.r
        made = [
            set_(r.left, r.chunks, "mul", plan.chunk),
            *(set_(name) for name in (r.row, r.address, r.ahead, r.at, r.acc)),
        ]
        for _ in range(plan.buffers - 1):
            made += self.load_chunk(cache, ())
        return made

    def load_chunk(self, cache: _Cache, wait: tuple[str, ...]) -> list[Instruction]:
        """The next chunk into the next buffer; behind the last chunk one row of fill, which keeps the tokens in step."""
        plan, r = self.plan, self.r
        return [
            set_(r.rows, r.left, "min", plan.chunk),
            set_(r.rows, r.rows, "max", 1),
            load(
                dram=reg(r.address) + cache.address,
                spad=reg(r.ahead) + self.ring,
                n1=reg(r.rows),
                run=plan.row,
                stride1=cache.row_bytes,
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
            set_(r.address, r.address, "add", plan.chunk * cache.row_bytes),
            *self.next_buffer(r.ahead),
        ]

    def next_buffer(self, register: str) -> list[Instruction]:
        plan = self.plan
        return [
            set_(register, register, "add", self.buffer_bytes),
            set_(register, register, "and", plan.buffers * self.buffer_bytes - 1),
        ]

    def chunk(self, cache: _Cache, inner: list[Instruction]) -> list[Instruction]:
        """One turn: the load of a chunk ahead, then the matmuls of the present one."""
        return [
            *self.load_chunk(cache, ("matmul",)),
            sync("matmul", wait=("load",)),
            *inner,
            sync("matmul", signal=("load",)),
            *self.next_buffer(self.r.at),
        ]

    def scores(self, panel: Panel, cache: _Cache, q: int, bank: int) -> Iterator[Instruction]:
        """All chunks of K: a column block of scores after the other, all KV heads of the panel in each."""
        core, plan, sizes, r = self.core, self.plan, self.sizes, self.r
        tiles = [
            matmul(
                x=q + head * plan.share * sizes.dim,
                w=reg(r.tile) + self.ring + head * sizes.dim,
                acc=reg(r.acc) + self.strand.accumulator_rows.start + head * plan.share * panel.tokens,
                m0=panel.tokens,
                x_stride0=plan.heads * sizes.dim,
                m1=plan.share,
                x_stride1=sizes.dim,
                kb=ceil(sizes.dim / core.rows),
                tail=(sizes.dim - 1) % core.rows + 1,
                bank=bank,
                weights="transposed",
                w_pitch=self.pitch,
            )
            for head in range(plan.groups)
        ]
        step = [
            set_(r.tile, r.tile, "add", core.cols * self.pitch),
            set_(r.acc, r.acc, "add", plan.rows(panel.tokens)),
        ]
        inner = [set_(r.tile, r.at), *_loop(plan.chunk // core.cols, [*tiles, *step])]
        yield from _loop(reg(r.chunks), self.chunk(cache, inner))

    def mixed(self, panel: Panel, cache: _Cache, p: int, bank: int) -> Iterator[Instruction]:
        """All chunks of V: a column block of results after the other; the first chunk overwrites, the others add."""
        core, plan, sizes, r = self.core, self.plan, self.sizes, self.r
        own = plan.share * panel.tokens

        def turn(accumulate: int) -> list[Instruction]:
            # `rows` is free between two loads; `acc` counts the columns of probabilities here.
            tiles = [
                matmul(
                    x=reg(r.acc) + p + head * own * plan.padded,
                    w=reg(r.tile) + self.ring + head * sizes.dim,
                    acc=reg(r.rows) + self.strand.accumulator_rows.start + head * own,
                    m0=own,
                    x_stride0=plan.padded,
                    kb=ceil(plan.chunk / core.rows),
                    tail=(plan.chunk - 1) % core.rows + 1,
                    bank=bank,
                    accumulate=accumulate,
                    weights="strided",
                    w_pitch=self.pitch,
                )
                for head in range(plan.groups)
            ]
            step = [set_(r.tile, r.tile, "add", core.cols), set_(r.rows, r.rows, "add", plan.rows(panel.tokens))]
            inner = [set_(r.tile, r.at), set_(r.rows), *_loop(ceil(sizes.dim / core.cols), [*tiles, *step])]
            return [*self.chunk(cache, inner), set_(r.acc, r.acc, "add", plan.chunk)]

        yield from turn(0)
        yield set_(r.chunks, r.chunks, "sub", 1)
        yield from _loop(reg(r.chunks), turn(1))


class _Cache:
    """Part of the columns of a cache's rows in DRAM."""

    def __init__(self, site: Site, name: str, column: int) -> None:
        rows, self.row_bytes, _ = site.matrix(name)
        start = site.address(name)
        self.address = start + column
        self.box = Box("dram", start, rows * self.row_bytes)


def _loop(count: int | Slot, body: list[Instruction]) -> list[Instruction]:
    return [loop(count, len(body) + 1), *body, end()]


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
