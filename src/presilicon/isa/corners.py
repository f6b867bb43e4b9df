"""Corner cases of instructions: what a set of programs has met of them, told from what was executed.

Each corner is a name and a question about one executed instruction. A test plan is then the list of all corners, and its
coverage the number of times each was met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from presilicon.isa.footprint import strip_reach
from presilicon.isa.instruction import Instruction
from presilicon.isa.layout import ALU, FORMATS, TARGETS, UOPS, WEIGHTS
from presilicon.isa.moves import BURST_BYTES, valid_rows
from presilicon.isa.products import INT4
from presilicon.isa.streams import read, written
from presilicon.isa.uop import A_KINDS, B_KINDS, C_KINDS, Uop
from presilicon.template import ENGINES, Core


@dataclass(frozen=True, slots=True)
class Executed:
    """One executed instruction: its fields with registers added, a vector's kernel, and the loops around it."""

    core: Core
    instruction: Instruction
    fields: Mapping[str, int]
    uops: Sequence[Uop] = ()
    depth: int = 0

    def __getitem__(self, name: str) -> int:
        return self.fields[name]


Question = Callable[[Executed], object]


def _counts(e: Executed) -> tuple[tuple[int, int], ...]:
    """Counts of a load or store with their strides."""
    return tuple((e[f"n{i}"], e[f"stride{i}"]) for i in (1, 2, 3))


def _crosses(e: Executed) -> bool:
    """Whether one of the rows is cut at 4 KB."""
    reach = [(n - 1) * stride for n, stride in _counts(e)]
    # Rows all start at the corners of the nest or between: the first, and what each count reaches.
    starts = [e["dram"], *(e["dram"] + part for part in reach)]
    return any(start % BURST_BYTES + e["run"] > BURST_BYTES for start in starts)


def _outside(e: Executed) -> int:
    """Rows that the range check makes all fill, of n1."""
    first, last = valid_rows(e.fields)
    return e["n1"] - (last - first)


def _target(number: int) -> Question:
    return lambda e: e["target"] == number


def _moves(*, loads: bool) -> dict[str, Question]:
    made: dict[str, Question] = {
        "one row": lambda e: e["n1"] == e["n2"] == e["n3"] == 1,
        "strided": lambda e: e["n1"] > 1,
        "four dimensions": lambda e: e["n2"] > 1 and e["n3"] > 1,
        "negative stride": lambda e: any(n > 1 and stride < 0 for n, stride in _counts(e)),
        "DRAM not aligned": lambda e: e["dram"] % e.core.bus_bytes,
        "scratchpad not aligned": lambda e: e["spad"] % e.core.bus_bytes,
        "shorter than a beat": lambda e: e["run"] < e.core.bus_bytes,
        "row cut at 4 KB": _crosses,
        "address by register": lambda e: e.instruction.register("dram"),
    }
    if loads:
        made |= {
            "fill left": lambda e: e["left"],
            "fill right": lambda e: e["right"],
            "rows out of range": lambda e: 0 < _outside(e) < e["n1"],
            "all rows out of range": lambda e: _outside(e) == e["n1"],
            "gather": lambda e: e["gather"],
            **{f"to {name}": _target(number) for number, name in enumerate(TARGETS)},
        }
    return made


def _weights(number: int) -> Question:
    return lambda e: e["weights"] == number


def _blocks(e: Executed) -> int:
    return e["kb"] * e["k1"]


_MATMUL: Mapping[str, Question] = {
    **{f"weights {name}": _weights(number) for number, name in enumerate(WEIGHTS)},
    "several int4 groups": lambda e: e["weights"] == INT4 and _blocks(e) > e["group_blocks"],
    "one block": lambda e: _blocks(e) == 1,
    "tail": lambda e: e["tail"] < e.core.rows,
    "two counts of k": lambda e: e["k1"] > 1,
    "two counts of m": lambda e: e["m1"] > 1,
    "one moving row": lambda e: e["m0"] * e["m1"] == 1,
    "sum before the last is written": lambda e: e["m0"] * e["m1"] < e.core.accumulate_cycles and _blocks(e) > 1,
    "rows outlast the weights": lambda e: e["m0"] * e["m1"] > e.core.weight_words,
    "same row again": lambda e: e["m0"] > 1 and e["x_stride0"] == 0,
    "x not aligned": lambda e: e["x"] % e.core.width_bytes,
    "accumulate": lambda e: e["accumulate"],
    "overwrite": lambda e: not e["accumulate"],
    "bank 0": lambda e: not e["bank"],
    "bank 1": lambda e: e["bank"],
    "address by register": lambda e: any(e.instruction.registers),
}


def _some(holds: Callable[[Uop], object]) -> Question:
    return lambda e: any(holds(u) for u in e.uops)


def _operation(name: str) -> Question:
    return _some(lambda u: u.op == name)


def _kind(operand: str, name: str) -> Question:
    if operand == "a":
        return _some(lambda u: A_KINDS[u.a_kind] == name)
    return _some(lambda u: getattr(u, operand) == name)


def _format(number: int, streams: Callable[[tuple[Uop, ...]], Sequence[int] | frozenset[int] | set[int]]) -> Question:
    return lambda e: any(e["formats"] >> 2 * stream & 3 == number for stream in streams(tuple(e.uops)))


_VECTOR: Mapping[str, Question] = {
    **{name: _operation(name) for name in UOPS},
    **{f"a {name}": _kind("a", name) for name in A_KINDS},
    **{f"b {name}": _kind("b", name) for name in B_KINDS},
    **{f"c {name}": _kind("c", name) for name in C_KINDS},
    "negated product": _some(lambda u: u.negate_p),
    "negated c": _some(lambda u: u.negate_c),
    "masked": _some(lambda u: u.masked),
    "once": _some(lambda u: u.once),
    "strip ahead": _some(lambda u: u.offset),
    "loop over strips": _some(lambda u: u.loop_end),
    "loop of several strips": _some(lambda u: u.step > 1),
    "reads fp32": _format(0, read),
    "reads int8": _format(1, read),
    **{f"writes {name}": _format(number, written) for number, name in enumerate(FORMATS)},
    "two streams written": lambda e: len(written(tuple(e.uops))) > 1,
    "fixed stream": lambda e: e["fixed"],
    "by strips": lambda e: e["by_strips"],
    "one strip": lambda e: strip_reach(e.fields, tuple(e.uops)) == 1,
    "last strip in part": lambda e: e["columns"] % e.core.lanes,
    "columns all invalid": lambda e: e["valid"] == 0 and not e["causal"] and any(u.masked for u in e.uops),
    "columns in part valid": lambda e: 0 < e["valid"] < e["columns"] and any(u.masked for u in e.uops),
    "causal": lambda e: e["causal"],
    "zero point": lambda e: e["zero_point"],
    "bank 0": lambda e: not e["bank"] and any(u.reads_accumulator for u in e.uops),
    "bank 1": lambda e: e["bank"] and any(u.reads_accumulator for u in e.uops),
    "address by register": lambda e: any(e.instruction.registers),
}


def _engine(number: int) -> Question:
    return lambda e: e["engine"] == number


def _alu(number: int) -> Question:
    return lambda e: e["op"] == number


_SEMAPHORES: Mapping[str, Question] = {
    "waits": lambda e: e.instruction.wait,
    "waits for two": lambda e: len(e.instruction.wait) > 1,
    "signals": lambda e: e.instruction.signal,
    "signals two": lambda e: len(e.instruction.signal) > 1,
}

CORNERS: Mapping[str, Mapping[str, Question]] = {
    "load": {**_moves(loads=True), **_SEMAPHORES},
    "store": {**_moves(loads=False), **_SEMAPHORES},
    "matmul": {**_MATMUL, **_SEMAPHORES},
    "vector": {**_VECTOR, **_SEMAPHORES},
    "sync": {name: _engine(number) for number, name in enumerate(ENGINES)},
    "loop": {
        "never": lambda e: e["count"] == 0,
        "once": lambda e: e["count"] == 1,
        "again": lambda e: e["count"] > 1,
        "nested": lambda e: e.depth > 0,
        "count by register": lambda e: e.instruction.register("count"),
    },
    "end": {"any": lambda e: True},
    "set": {
        **{name: _alu(number) for number, name in enumerate(ALU)},
        "value by register": lambda e: e.instruction.register("value"),
    },
    "barrier": {"any": lambda e: True},
    "halt": {"any": lambda e: True},
}
"""What to meet, by instruction and name."""


def corners(executed: Executed) -> list[tuple[str, str]]:
    """The corners that an executed instruction meets, as (instruction, name)."""
    op = executed.instruction.op
    return [(op, name) for name, question in CORNERS[op].items() if question(executed)]
