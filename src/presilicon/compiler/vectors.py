"""Programs of the vector unit as single-assignment values: what each element becomes, free of registers, lanes and strips.

A `VectorProgram` is a row of phases over a matrix: loops over its columns, which give row scalars (sums and maxima) and write
outputs, and phases of scalars between them. ``evaluate`` is its exact meaning on fp32 bits, ``kernels.compile_kernel`` its
micro-operations. A value is a micro-operation: a product of two operands, then a second thing with a third (docs/isa.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from presilicon import float32 as f32
from presilicon.compiler.rowwise import Table, row_maximum, row_sum
from presilicon.errors import CheckError
from presilicon.isa import UOPS
from presilicon.isa.uop import NO_B, WITH_C

Bits = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Stream:
    """The element of a matrix of the program's rows and columns; int8 is read as its whole number."""

    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """The element of a row of fp32 that holds for every row of the matrix: a parameter of the column."""

    name: str


@dataclass(frozen=True, slots=True)
class Sum:
    """The int32 accumulator as fp32, the int32 parameter ``bias`` of its column added first where one is named."""

    bias: str = ""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A row scalar that an earlier phase has named."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, rounded to fp32."""

    value: float


@dataclass(frozen=True, slots=True)
class Swapped:
    """A value of the element whose column differs in one bit: ``distance`` 1, 2 or 4 columns away."""

    of: Value
    distance: int = 1

    def __post_init__(self) -> None:
        if self.distance not in (1, 2, 4):
            raise CheckError(f"elements at distance {self.distance} cannot be exchanged", hint="1, 2 or 4: within four lanes")


@dataclass(frozen=True, slots=True)
class Value:
    """One micro-operation by its name in ``isa.UOPS``: p = (-)(a * b), then its second with (-)c."""

    op: str
    a: Operand
    b: Operand | None = None
    c: Operand | None = None
    negate_p: bool = False
    negate_c: bool = False

    def __post_init__(self) -> None:
        if self.op not in UOPS:
            raise CheckError(f"there is no micro-operation {self.op!r}", hint=", ".join(UOPS))
        if (self.b is None) != (self.op in NO_B) or (self.c is None) != (self.op not in WITH_C):
            raise CheckError(f"{self.op} has {2 - (self.op in NO_B) + (self.op in WITH_C)} operands")


Operand = Stream | Column | Sum | Scalar | Constant | Swapped | Value
ONE = Constant(1.0)


# Shorthands -----------------------------------------------------------------------------------------------------------


def product(a: Operand, b: Operand) -> Value:
    """``a * b``."""
    return Value("product", a, b)


def fused(a: Operand, b: Operand, c: Operand, *, negate_p: bool = False, negate_c: bool = False) -> Value:
    """``(-)(a * b) + (-)c``, two roundings."""
    return Value("add", a, b, c, negate_p, negate_c)


def plus(a: Operand, b: Operand) -> Value:
    """``a + b``."""
    return fused(a, ONE, b)


def minus(a: Operand, b: Operand) -> Value:
    """``a - b``."""
    return fused(a, ONE, b, negate_c=True)


def larger(a: Operand, b: Operand) -> Value:
    """The larger of both."""
    return Value("max", a, ONE, b)


def smaller(a: Operand, b: Operand) -> Value:
    """The smaller of both, as -max(-a, -b)."""
    return product(Value("max", a, Constant(-1.0), b, negate_c=True), Constant(-1.0))


def reciprocal(x: Operand) -> Value:
    """1 / x: the seed and two Newton steps y (2 - x y)."""
    y = Value("recip", x)
    for _ in range(2):
        y = product(y, fused(x, y, Constant(2.0), negate_p=True))
    return y


def reciprocal_root(x: Operand) -> Value:
    """1 / sqrt(x): the seed and two Newton steps y (1.5 - 0.5 x y y)."""
    y, half = Value("rsqrt", x), product(x, Constant(0.5))
    for _ in range(2):
        y = product(y, fused(half, product(y, y), Constant(1.5), negate_p=True))
    return y


def interpolated(x: Operand, table: Table) -> Value:
    """A function by its table of values and slopes, straight lines between: table 0 and 1 are ``table.image()``."""
    at = fused(x, Constant(table.scale), Constant(table.shift))
    part = minus(at, Value("round", at, ONE))
    return fused(Value("table1", at, ONE), part, Value("table0", at, ONE))


# Programs -------------------------------------------------------------------------------------------------------------

Named = tuple[tuple[str, Operand], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One pass over the columns: sums and maxima over the valid ones by name of their row scalar, and what is written."""

    sums: Named = ()
    maxima: Named = ()
    outputs: Named = ()


@dataclass(frozen=True, slots=True)
class Scalars:
    """Row scalars from row scalars, in order; their operands are scalars and constants."""

    values: Named


@dataclass(frozen=True, slots=True)
class Output:
    """What is written under a name: fp32 bits, int8 (nearest even, plus ``zero_point``, saturated) or int32.

    ``scalar``: a row scalar of the same name, one element a row, instead of a value of a loop.
    """

    name: str
    dtype: Literal["float32", "int8", "int32"] = "float32"
    zero_point: int = 0
    scalar: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorProgram:
    """Phases, outputs, and the two tables of 256 fp32 entries (bytes; empty where none is read).

    CheckError where an output is written never or twice, a scalar is read before it is named, or a table is missing.
    """

    phases: tuple[Loop | Scalars, ...]
    outputs: tuple[Output, ...]
    tables: tuple[bytes, bytes] = (b"", b"")
    streams: tuple[str, ...] = field(init=False)
    columns: tuple[str, ...] = field(init=False)
    biases: tuple[str, ...] = field(init=False)
    accumulates: bool = field(init=False)

    def __post_init__(self) -> None:
        leaves: dict[Operand, None] = {}
        known: set[str] = set()
        written: list[str] = []
        for phase in self.phases:
            named = phase.values if isinstance(phase, Scalars) else (*phase.sums, *phase.maxima, *phase.outputs)
            for name, value in named:
                for leaf in _leaves(value):
                    leaves[leaf] = None
                    if isinstance(leaf, Scalar) and leaf.name not in known:
                        raise CheckError(f"scalar {leaf.name} is read before it is named", where=name)
                    if isinstance(phase, Scalars) and not isinstance(leaf, Scalar | Constant):
                        raise CheckError(f"{leaf} is read between the loops", where=name, hint="row scalars only")
                if isinstance(phase, Scalars):
                    known.add(name)
            if isinstance(phase, Loop):
                known |= {name for name, _ in (*phase.sums, *phase.maxima)}
                written += [name for name, _ in phase.outputs]
        for output in self.outputs:
            if (output.scalar and output.name not in known) or (not output.scalar and written.count(output.name) != 1):
                raise CheckError(f"output {output.name} is not written once")
        if len(written) != sum(not output.scalar for output in self.outputs):
            raise CheckError(f"{', '.join(written)} are written", hint="each is an output")
        if any(len(table) not in (0, 1024) for table in self.tables):
            raise CheckError("a table has 256 fp32 entries")

        def names(kind: type) -> tuple[str, ...]:
            return tuple(dict.fromkeys(leaf.name for leaf in leaves if isinstance(leaf, kind)))  # type: ignore[union-attr]

        object.__setattr__(self, "streams", names(Stream))
        object.__setattr__(self, "columns", names(Column))
        sums = [leaf for leaf in leaves if isinstance(leaf, Sum)]
        object.__setattr__(self, "biases", tuple(dict.fromkeys(leaf.bias for leaf in sums if leaf.bias)))
        object.__setattr__(self, "accumulates", bool(sums))

    def output(self, name: str) -> Output:
        """The output of a name."""
        return next(output for output in self.outputs if output.name == name)


def _leaves(value: Operand) -> list[Operand]:
    """Operands that are no micro-operations, each once."""
    found: dict[Operand, None] = {}
    seen: set[int] = set()
    todo: list[Operand] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, Swapped):
            todo.append(one.of)
        elif not isinstance(one, Value):
            found[one] = None
        elif id(one) not in seen:
            seen.add(id(one))
            todo += [operand for operand in (one.a, one.b, one.c) if operand is not None]
    return list(found)


# Meaning --------------------------------------------------------------------------------------------------------------


def evaluate(
    program: VectorProgram,
    shape: tuple[int, int],
    *,
    streams: Mapping[str, NDArray[np.generic]] | None = None,
    columns: Mapping[str, NDArray[np.generic]] | None = None,
    sums: NDArray[np.int32] | None = None,
    valid: NDArray[np.int64] | int | None = None,
) -> dict[str, NDArray[np.generic]]:
    """The outputs of a program on a matrix of ``shape`` (rows, columns), exactly.

    ``streams`` are (rows, columns) fp32 or int8, ``columns`` (columns,) fp32, or int32 for what is added to ``sums``, the
    int32 accumulators (rows, columns). ``valid`` columns count in sums and maxima: all, so many, or (rows,) by row.
    """
    machine = _Machine(program, shape, dict(streams or {}), dict(columns or {}), sums, valid)
    for phase in program.phases:
        machine.run(phase)
    for output in program.outputs:
        if output.scalar:
            machine.write(output.name, machine.scalars[output.name])
    return machine.written


class _Machine:
    """A program while it is evaluated."""

    def __init__(
        self,
        program: VectorProgram,
        shape: tuple[int, int],
        streams: dict[str, NDArray[np.generic]],
        columns: dict[str, NDArray[np.generic]],
        sums: NDArray[np.int32] | None,
        valid: NDArray[np.int64] | int | None,
    ) -> None:
        self.program, self.shape = program, shape
        self.streams = {name: _bits(value) for name, value in streams.items()}
        self.columns, self.sums = columns, sums
        count = np.broadcast_to(np.asarray(shape[1] if valid is None else valid), (shape[0],))
        self.hidden = np.arange(shape[1])[None, :] >= count[:, None]
        self.scalars: dict[str, Bits] = {}
        self.written: dict[str, NDArray[np.generic]] = {}
        self.tables = [np.frombuffer(table, np.uint32) for table in program.tables]

    def run(self, phase: Loop | Scalars) -> None:
        known: dict[int, Bits] = {}
        if isinstance(phase, Scalars):
            for name, value in phase.values:
                self.scalars[name] = self.value(value, known)
            return
        found = {name: self.value(value, known) for name, value in (*phase.sums, *phase.maxima, *phase.outputs)}
        for name, _ in phase.sums:
            self.scalars[name] = row_sum(self._full(found[name], f32.bits(0.0)))
        for name, _ in phase.maxima:
            self.scalars[name] = row_maximum(self._full(found[name], f32.bits(-np.inf)))
        for name, _ in phase.outputs:
            self.write(name, np.broadcast_to(found[name], self.shape))

    def _full(self, value: Bits, otherwise: Bits) -> Bits:
        return np.where(self.hidden, otherwise, np.broadcast_to(value, self.shape))

    def write(self, name: str, value: Bits) -> None:
        output = self.program.output(name)
        if output.dtype == "int8":
            self.written[name] = f32.to_int8(value, output.zero_point)
        elif output.dtype == "int32":
            self.written[name] = f32.to_int32(value)
        else:
            self.written[name] = f32.numbers(np.ascontiguousarray(value))

    def value(self, operand: Operand, known: dict[int, Bits]) -> Bits:
        match operand:
            case Stream(name):
                return self.streams[name]
            case Column(name):
                return _bits(np.asarray(self.columns[name]).reshape(1, -1))
            case Sum(bias):
                assert self.sums is not None
                added = np.asarray(self.columns[bias], np.int32).reshape(1, -1) if bias else np.int32(0)
                with np.errstate(over="ignore"):
                    return f32.from_int32(self.sums + added)
            case Scalar(name):
                return self.scalars[name]
            case Constant(number):
                return f32.bits(number)
            case Swapped(of, distance):
                whole = np.broadcast_to(self.value(of, known), self.shape)
                return whole[:, np.arange(self.shape[1]) ^ distance]
        if id(operand) not in known:
            known[id(operand)] = self._operation(operand, known)
        return known[id(operand)]

    def _operation(self, v: Value, known: dict[int, Bits]) -> Bits:
        a, b, c = (f32.bits(0.0) if one is None else self.value(one, known) for one in (v.a, v.b, v.c))
        c = f32.negate(c) if v.negate_c else c
        direct: dict[str, Callable[[], Bits]] = {
            "move": lambda: a,
            "recip": lambda: f32.reciprocal_seed(a),
            "rsqrt": lambda: f32.reciprocal_root_seed(a),
            "select": lambda: f32.select(a, b, c),
        }
        if v.op in direct:
            return direct[v.op]()
        p = f32.multiply(a, b)
        p = f32.negate(p) if v.negate_p else p
        match v.op:
            case "add":
                return f32.add(p, c)
            case "max":
                return f32.maximum(p, c)
            case "round":
                return f32.round_even(p)
            case "table0" | "table1":
                table = self.tables[v.op == "table1"]
                if not len(table):
                    raise CheckError(f"{v.op} is read and the program has none")
                return table[f32.to_int8(p).astype(np.int64) + 128]
        return f32.canonical(p)


def _bits(values: NDArray[np.generic]) -> Bits:
    """What a stream hands out: fp32 bits, int8 as its number."""
    if values.dtype == np.int8:
        return f32.from_int32(values.astype(np.int32))
    return f32.bits(values)
