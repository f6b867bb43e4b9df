"""How the values of a vector program become micro-operations: operands into slots, moves where they cannot stand there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from presilicon.compiler.kernel_registers import Operation
from presilicon.compiler.vectors import Column, Constant, Operand, Scalar, Stream, Sum, Swapped, Value, VectorProgram
from presilicon.errors import CheckError
from presilicon.isa.uop import A_KINDS, B_KINDS, C_KINDS, WITH_C
from presilicon.template import Core

# The stream that holds all column parameters of a block, one behind the other.
COLUMNS = "columns"
ACCUMULATOR, STREAM, SUM = (A_KINDS.index(kind) for kind in ("accumulator", "stream", "sum"))
IMM, SWAP, ZERO = B_KINDS.index("imm"), B_KINDS.index("exchange"), C_KINDS.index("zero")


def bits(value: float) -> int:
    """The fp32 bits of a number."""
    return int(np.float32(value).view(np.uint32))


ONE = bits(1.0)


@dataclass(slots=True)
class Taken:
    """What an operation's operands have taken so far: its one stream, its one immediate, and how often a move was needed."""

    stream: str = ""
    imm: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, int] = field(default_factory=dict)


class Operations:
    """A kernel while it is made: its operations so far, and what its values and constants have become."""

    def __init__(self, core: Core, program: VectorProgram, dtypes: dict[str, str], strips: int, late: bool) -> None:
        self.core, self.program, self.dtypes = core, program, dtypes
        self.strips, self.late = strips, late
        self.ops: list[Operation] = []
        self.prologue: list[Operation] = []
        self.variables = 0
        self.constants: dict[int, int] = {}
        self.scalars: dict[str, int] = {}
        self.loop = -1
        self.loops = 0
        self.steps: list[int] = []
        self.offset = 0
        # Of the loop and offset at hand: variables of values, by identity; outputs that wait for their value.
        self.known: dict[object, int] = {}
        self.waiting: dict[int, list[str]] = {}
        self.kept: dict[tuple[str, int], int] = {}
        self.fixed: frozenset[str] = frozenset()
        self.zero_beyond: frozenset[str] = frozenset()
        self.packed: tuple[str, ...] = ()
        self.merged: dict[str, str] = {}

    # Emitting one operation ------------------------------------------------------------------------------------------------

    def new(self) -> int:
        self.variables += 1
        return self.variables - 1

    def emit(
        self, op: str, taken: Taken, to: int | None, *, write: str = "", masked: bool = False, once: bool = False, **more: Any
    ) -> None:
        fields = {"op": op, **taken.fields, **more}
        if taken.imm is not None:
            fields["imm"] = taken.imm
        if masked:
            fields["masked"] = True
        if self.offset and (write or taken.stream or fields.get("a_kind") in (ACCUMULATOR, SUM) or masked):
            fields["offset"] = self.offset
        made = Operation(fields, dict(taken.reads), to, -1 if once else self.loop, once, taken.stream, write)
        (self.prologue if once else self.ops).append(made)

    def any_operand(self) -> Taken:
        """An operand that every kernel has, for what needs one and does not look at it."""
        if self.program.accumulates:
            return Taken(fields={"a_kind": ACCUMULATOR})
        name = next(iter(self.program.streams), COLUMNS if self.packed else next(iter(self.program.columns), ""))
        if not name:
            raise CheckError("a program reads nothing")
        return Taken(stream=name, fields={"a_kind": STREAM})

    def fill(self, value: int, to: int, once: bool) -> None:
        """A variable becomes fp32 bits: both choices of a select."""
        taken, offset = self.any_operand(), self.offset
        taken.imm = value
        taken.fields |= {"b_kind": IMM, "c_kind": IMM}
        self.offset = 0
        self.emit("select", taken, to, once=once)
        self.offset = offset

    def constant(self, value: int) -> int:
        """The variable of a constant, made ready once."""
        if value not in self.constants:
            self.constants[value] = self.new()
            self.fill(value, self.constants[value], once=True)
        return self.constants[value]

    def moved(self, operand: Operand) -> int:
        """A variable that holds a leaf or an exchanged value."""
        key = operand if isinstance(operand, Stream | Column | Sum) else id(operand)
        if key in self.known:
            return self.known[key]
        to = self.new()
        if isinstance(operand, Swapped):
            source = self.variable(operand.of)
            taken = Taken(fields={"b_kind": SWAP, "b_xor": self.distance(operand)})
            taken.reads |= {"a_reg": self.constant(ONE), "b_reg": source}
            self.emit("product", taken, to)
        else:
            taken = Taken()
            self.take(taken, "a", operand)
            self.emit("move", taken, to)
        self.known[key] = to
        return to

    def distance(self, operand: Swapped) -> int:
        if operand.distance >= self.core.lanes:
            raise CheckError(f"elements at distance {operand.distance} are not within {self.core.lanes} lanes")
        return operand.distance.bit_length() - 1

    def column(self, name: str) -> int:
        """The variable of a column parameter that stays in its register, read once."""
        key = (name, self.offset)
        if key not in self.kept:
            stream, ahead = (COLUMNS, self.packed.index(name) * self.strips) if self.packed else (name, 0)
            offset, self.offset = self.offset, self.offset + ahead
            self.kept[key] = self.new()
            self.emit("move", Taken(stream=stream, fields={"a_kind": STREAM}), self.kept[key], once=True)
            self.offset = offset
        return self.kept[key]

    def variable(self, operand: Operand) -> int:
        """A variable that holds an operand."""
        match operand:
            case Scalar(name):
                return self.scalars[name]
            case Constant(value):
                return self.constant(bits(value))
            case Column(name) if self.strips:
                return self.column(name)
            case Value():
                return self.value(operand)
        return self.moved(operand)

    # Operands --------------------------------------------------------------------------------------------------------------

    def direct(self, taken: Taken, slot: str, operand: Operand) -> bool:
        """Whether an operand can stand in a slot without a register made for it."""
        match operand:
            case Stream(name) | Column(name):
                if isinstance(operand, Column) and self.strips:
                    return True
                return taken.stream in ("", name)
            case Sum():
                return slot == "a"
            case Constant(value):
                return slot != "a" and taken.imm in (None, bits(value))
            case Swapped():
                return slot == "b"
        return True

    def take(self, taken: Taken, slot: str, operand: Operand) -> None:
        """Puts an operand into a slot, through a register where it must be."""
        if not self.direct(taken, slot, operand):
            taken.reads[f"{slot}_reg"] = self.variable(operand)
            return
        match operand:
            case Stream(name):
                taken.stream = name
                taken.fields[f"{slot}_kind"] = STREAM
            case Column(name) if not self.strips:
                taken.stream = name
                taken.fields[f"{slot}_kind"] = STREAM
            case Sum(bias):
                taken.fields["a_kind"] = SUM if bias else ACCUMULATOR
                if bias:
                    taken.reads["a_reg"] = self.variable(Column(bias))
            case Constant(value):
                taken.imm = bits(value)
                taken.fields[f"{slot}_kind"] = IMM
            case Swapped():
                taken.fields |= {"b_kind": SWAP, "b_xor": self.distance(operand)}
                taken.reads["b_reg"] = self.variable(operand.of)
            case _:
                taken.reads[f"{slot}_reg"] = self.variable(operand)

    def moves_needed(self, operands: list[tuple[str, Operand]]) -> float:
        """What it costs to put operands into slots: a move an operation, a constant's register a little."""
        trial, cost = Taken(), 0.0
        for slot, operand in operands:
            if not self.direct(trial, slot, operand):
                cost += 0.1 if isinstance(operand, Constant) else 1.0
            elif isinstance(operand, Stream | Column):
                trial.stream = trial.stream or operand.name
            elif isinstance(operand, Constant):
                trial.imm = bits(operand.value)
        return cost

    def operands(self, v: Value, c: Operand | None = None) -> Taken:
        """The operands of a value (with another third where one is given), its factors in the cheaper order."""
        c = v.c if c is None else c
        third: list[tuple[str, Operand]] = [] if c is None else [("c", c)]
        orders: list[list[tuple[str, Operand]]] = []
        if v.b is None:
            orders = [[("a", v.a), *third]]
        else:
            orders = [[("a", v.a), ("b", v.b), *third]]
            if v.op != "select":
                orders.append([("a", v.b), ("b", v.a), *third])
        order = min(orders, key=self.moves_needed)
        # What needs registers first, so that fewer are held while the rest is worked out.
        for _, operand in sorted(order, key=lambda item: -depth(item[1])):
            inner = operand.of if isinstance(operand, Swapped) else operand
            if isinstance(inner, Value):
                self.value(inner)
        taken = Taken()
        for slot, operand in order:
            self.take(taken, slot, operand)
        return taken

    def value(self, v: Value) -> int:
        """The variable of a value, worked out once in a loop's pass (and written where an output waits for it)."""
        if id(v) in self.known:
            return self.known[id(v)]
        taken = self.operands(v)
        to = self.new()
        names = self.waiting.pop(id(v), [])
        hide = bool(names) and names[0] in self.zero_beyond
        now = names[:1] if not hide or v.op not in WITH_C else []
        signs = {"negate_p": v.negate_p, "negate_c": v.negate_c}
        if hide and now:
            signs.pop("negate_c")
            self.emit(v.op, taken, to, write=names[0], masked=True, c_kind=ZERO, **signs)
        else:
            self.emit(v.op, taken, to, write=now[0] if now else "", **signs)
        self.known[id(v)] = to
        for name in names[len(now) :]:
            self.written(name, to)
        return to

    def written(self, name: str, variable: int) -> None:
        """Writes a variable to an output."""
        taken = Taken(reads={"a_reg": variable})
        if name in self.zero_beyond:
            taken.imm, taken.fields = ONE, {"b_kind": IMM}
            self.emit("product", taken, None, write=name, masked=True, c_kind=ZERO)
        else:
            self.emit("move", taken, None, write=name)


def depth(operand: Operand, most: int = 12) -> int:
    """How long a chain of values stands behind an operand, up to ``most``."""
    if isinstance(operand, Swapped):
        return depth(operand.of, most)
    if not isinstance(operand, Value) or not most:
        return 0
    return 1 + max(depth(one, most // 2) for one in (operand.a, operand.b, operand.c) if one is not None)
