"""Each instruction in one place: its bits, laws, meaning, time and actions, in words and as functions.

The bits stand in ``layout``, the laws in ``instruction``; the functions are those of ``moves``, ``products`` and
``kernels``. The instruction page is made from this table.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from presilicon.isa import kernels, moves, products
from presilicon.isa.instruction import LAWS, Law
from presilicon.isa.layout import ALU, LAYOUT, OPCODES, Field
from presilicon.isa.state import State
from presilicon.isa.uop import Uop
from presilicon.template import Core
from presilicon.trace import Activity

Fields = Mapping[str, int]
_WORD = (1 << 40) - 1

# The sequencer: a cycle each to fetch, decode and execute; a push is at the head of its queue two cycles later.
FETCH = 1
DECODE = 1
EXEC = 1
INSTRUCTION_CYCLES = FETCH + DECODE + EXEC
QUEUE_CYCLES = 2


_ALU: Mapping[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "and": operator.and_,
    "shl": lambda a, b: a << (b & 63),
    "shr": lambda a, b: a >> (b & 63),
    "min": min,
    "max": max,
}


def alu(op: int | str, a: int, b: int) -> int:
    """``a op b`` (by name or number) on 40-bit unsigned registers; sums and products wrap, shifts take the low 6 bits."""
    return _ALU[op if isinstance(op, str) else ALU[op]](a, b) & _WORD


def _set(state: State, fields: Fields) -> None:
    state.scalars[fields["to"]] = alu(fields["op"], state.scalars[fields["a"]], fields["value"])


def _nothing(state: State, fields: Fields) -> None:
    """Only the sequencer knows it."""


def _no_actions(core: Core, fields: Fields, uops: tuple[Uop, ...], entries: moves.Entries | None) -> Activity:
    return Activity()


def _load_actions(core: Core, fields: Fields, uops: tuple[Uop, ...], entries: moves.Entries | None) -> Activity:
    return moves.move_actions(core, "load", fields, entries or moves.load_entries(core, fields))


def _store_actions(core: Core, fields: Fields, uops: tuple[Uop, ...], entries: moves.Entries | None) -> Activity:
    return moves.move_actions(core, "store", fields, entries or moves.store_bursts(core, fields))


def _matmul_actions(core: Core, fields: Fields, uops: tuple[Uop, ...], entries: moves.Entries | None) -> Activity:
    return products.matmul_actions(core, fields)


def _vector_actions(core: Core, fields: Fields, uops: tuple[Uop, ...], entries: moves.Entries | None) -> Activity:
    return kernels.vector_actions(core, fields, uops)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An instruction: what it is for, what it does and how long it takes, in words; and the two functions that do it.

    ``execute`` does to a `State` everything it does; ``actions`` counts them. Its cycles are those of the engine's functions
    (``load_entries``, ``store_bursts``, ``matmul_time``, ``vector_time``), which need what came before.
    """

    op: str
    summary: str
    meaning: str
    cycles: str
    example: str
    execute: Callable[[State, Fields], None] = _nothing
    actions: Callable[[Core, Fields, tuple[Uop, ...], moves.Entries | None], Activity] = _no_actions

    @property
    def opcode(self) -> int:
        """Its number."""
        return OPCODES[self.op]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its bits."""
        return LAYOUT[self.op]

    @property
    def laws(self) -> tuple[Law, ...]:
        """What its fields must obey."""
        return LAWS[self.op]


_ALL = (
    Definition(
        op="load",
        summary="DRAM to the scratchpad, or to tables, kernels, index or instruction memory.",
        meaning="For i3 < n3, i2 < n2, i1 < n1, row q in that order: `left` fill bytes, `run` bytes from DRAM at "
        "`dram + i1*stride1 + i2*stride2 + i3*stride3` and `right` fill bytes go to `spad + q*pitch`. With "
        "`gather` the row comes from `dram + index[index0 + i1]*stride1`. With a `limit` above 0, a row with "
        "`y0 + i1` outside of 0 to `limit - 1` is fill altogether and nothing is read. Entries of the tables "
        "are fp32; NaNs and subnormals become canonical there.",
        cycles="Rows become entries: fill, data bursts (at most 4 KB, never across 4 KB), fill. Entry i is handed "
        "out in e_i: e_0 = issue + 2 (gather: 4), one a cycle, at most 8 outstanding. The sink takes them in "
        "order, bus_bytes a cycle (tables: 4 bytes a cycle). Ready for the next in e_last + 1, done 4 cycles "
        "after the last byte.",
        example="load dram=r1+0x1000 spad=0x40 n1=64 run=256 stride1=256 pitch=256 wait(matmul) signal(matmul)",
        execute=moves.execute_load,
        actions=_load_actions,
    ),
    Definition(
        op="store",
        summary="The scratchpad to DRAM.",
        meaning="Row q (as in `load`): `run` bytes from `spad + q*pitch` go to `dram + i1*stride1 + i2*stride2 + i3*stride3`.",
        cycles="Burst i of n_i beats has its address in a_i: a_0 = issue + 2, a_{i+1} = a_i + n_i + 1, at most 8 "
        "unanswered; its last beat in a_i + n_i + 3. Ready in a_last + n_last + 1, done the cycle after the "
        "last response.",
        example="store dram=r2 spad=0x2000 n1=64 run=64 stride1=256 pitch=64 wait(vector) signal(vector)",
        execute=moves.execute_store,
        actions=_store_actions,
    ),
    Definition(
        op="matmul",
        summary="int8 matrix product into int32 accumulators.",
        meaning="For blocks T = j1*kb + jb, rows i = i1*m0 + i0: x is `array_rows` bytes at `x + i0*x_stride0 + "
        "i1*x_stride1 + j1*k_stride1 + jb*array_rows`, zero from `tail` on where jb is the last. "
        "acc[bank][acc + i] = (T = 0 and not `accumulate` ? 0 : old) + x times stationary tile T, wrapping. "
        "Tile T, packed: row r at `w + T*tile + r*array_cols`, tile = weight_words * weight_rows_per_cycle * "
        "array_cols bytes; int4: half of it, column 2j in the low nibble, times the unsigned nibble of row "
        "T/group_blocks at `groups`; strided: row r at `w + (T*array_rows + r)*w_pitch`; transposed: column c "
        "at `w + T*array_rows + c*w_pitch`.",
        cycles="Fetching a tile takes F: weight_words (int4: one more for a group's multipliers), strided "
        "array_rows, transposed array_cols. With m = m0*m1 and B = max(m, accumulate_cycles) the first block "
        "starts in cs = max(issue + 1 + F, end of the block before), each further one max(F, B) later. Ready "
        "in cs_last + 1, done in cs_last + B - 1 + matmul_drain_cycles.",
        example="matmul x=0 w=0x4000 acc=0 m0=64 kb=4 tail=16 x_stride0=64 bank=1 wait(load) signal(vector)",
        execute=products.execute_matmul,
        actions=_matmul_actions,
    ),
    Definition(
        op="vector",
        summary="A kernel of fp32 micro-operations over rows and strips.",
        meaning="For each group (8 rows of a strip, or 8 strips of a row) the micro-operations from slot `kernel` to "
        "the one with `last` run in order; a loop section repeats for strips 0, step, 2*step ... below "
        "`strips` (by strips: for each 8). Element idle where row >= rows or strip >= strips: reads give 0, "
        "nothing is written. Stream s lies at `stream + row*pitch + strip * lanes * element bytes` (`fixed`: "
        "no strip); accumulator row `acc + row + (strip / chunks)*acc_step`. Masked micro-operations pass c "
        "from column `valid` (`causal`: + row) on. Of a strip that crosses `columns` the leading lanes are "
        "written: fp32 bits, int8 = sat8(rne(r) + zero_point) or int32 = sat32(rne(r)).",
        cycles="A slot is 8 cycles: one micro-operation on 8 elements, idle or not; `once` takes one slot in all. "
        "The first begins in issue + 2, done = issue + 2 + 8*slots - 1 + vector_drain_cycles, ready in done + "
        "1.",
        example="vector stream0=0x2000 rows=64 strips=1 columns=16 valid=16 pitch0=64 formats=int8 kernel=scale "
        "bank=1 wait(matmul) signal(store)",
        execute=kernels.execute_vector,
        actions=_vector_actions,
    ),
    Definition(
        op="sync",
        summary="Stands in an engine's queue and only waits and signals.",
        meaning="Engine `engine` passes it when what it waits for is there; with `engine=sequencer` the sequencer "
        "itself holds.",
        cycles="Issued and done in the same cycle, not before its predecessor is done; sequencer: one cycle when the "
        "tokens are there.",
        example="sync engine=store wait(vector) signal(sequencer)",
    ),
    Definition(
        op="loop",
        summary="Repeats the next `length` instructions.",
        meaning="The body is run `count` times; its last instruction is `end`. 0 skips it. Nests 4 deep.",
        cycles="3 cycles, as every instruction of the sequencer.",
        example="loop r2 { ... }",
    ),
    Definition(op="end", summary="The last instruction of a loop's body.", meaning="", cycles="3 cycles.", example="}"),
    Definition(
        op="set",
        summary="A scalar register gets `a op value`.",
        meaning="On 40-bit unsigned registers; add, sub and mul wrap, shifts take the low 6 bits. `value` is an "
        "immediate plus a register.",
        cycles="3 cycles.",
        example="set r3 = r4 add r5+64",
        execute=_set,
    ),
    Definition(
        op="barrier",
        summary="Waits for this core to be quiet, then for all cores.",
        meaning="Held until all engines are idle and all queues empty; then until every core has come to its barrier.",
        cycles="3 cycles and the waiting; with several cores one more from the last one's arrival.",
        example="barrier",
    ),
    Definition(
        op="halt",
        summary="Ends the program.",
        meaning="Held until all engines are idle and all queues empty; that cycle ends the run.",
        cycles="The run's `cycles` is the cycle it ends in.",
        example="halt",
    ),
)

DEFINITIONS: Mapping[str, Definition] = {d.op: d for d in _ALL}


def execute(state: State, op: str, fields: Fields) -> None:
    """Everything that an instruction with these resolved ``fields`` does to ``state``; IsaError with the hardware's code."""
    DEFINITIONS[op].execute(state, fields)


def actions(core: Core, op: str, fields: Fields, uops: tuple[Uop, ...] = (), entries: moves.Entries | None = None) -> Activity:
    """What one instruction computes, reads and writes; ``uops``: a vector's kernel; ``entries`` saves working them out anew."""
    return DEFINITIONS[op].actions(core, fields, uops, entries)
