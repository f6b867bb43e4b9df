"""A value that no step has written yet: the expression of its elements, to which more may be joined before it is emitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.importing.graph import Array
from presilicon.compiler.rowwise import Table
from presilicon.compiler.steps import Binding, Step
from presilicon.compiler.vectors import (
    ONE,
    Column,
    Constant,
    Loop,
    Operand,
    Output,
    Scalars,
    Swapped,
    Value,
    VectorProgram,
    interpolated,
    product,
)

Floats = NDArray[np.float32]
MOST_STREAMS = 4
"""Streams of a vector instruction, its outputs and parameters of columns among them (docs/isa.md)."""

Maker = Callable[[str, VectorProgram, tuple[Binding, ...], tuple[Binding, ...], tuple[Binding, ...]], Step]
"""A step from its name, program, streams, columns and outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What each element of a matrix (rows, columns) is.

    ``streams`` and ``columns`` are bound by the names that ``operand`` and ``phases`` use; ``arrays`` are new constants among
    the columns. ``table`` is the function of the one table, ``looked_up`` its result in the operand. ``root`` makes the
    product or convolution whose sums the operand reads, None where it reads streams alone.
    """

    operand: Operand
    rows: int
    width: int
    sources: tuple[str, ...]
    streams: tuple[Binding, ...] = ()
    columns: tuple[Binding, ...] = ()
    arrays: Mapping[str, Array] = field(default_factory=dict)
    table: Table | None = None
    looked_up: Operand | None = None
    phases: tuple[Loop | Scalars, ...] = ()
    root: Maker | None = None
    valid: str = ""

    @property
    def bound(self) -> int:
        """Streams that it takes besides its outputs."""
        return len(self.streams) + len(self.columns)

    def of(self, operand: Operand, *sources: str) -> Pending:
        """The same with another expression and more of the file's nodes."""
        return replace(self, operand=operand, sources=joined(self.sources, sources))

    def function(self, table: Table, *sources: str) -> Pending:
        """A function of it by table."""
        found = interpolated(self.operand, table)
        return replace(self, operand=found, table=table, looked_up=found, sources=joined(self.sources, sources))

    def with_column(self, name: str, array: Array) -> tuple[Pending, Column]:
        """With a parameter of each column as a new constant."""
        more = replace(
            self, columns=(*self.columns, Binding(name, name)), arrays={**self.arrays, name: np.asarray(array, np.float32)}
        )
        return more, Column(name)

    def merged(self, other: Pending) -> Pending | None:
        """Both, the operand still this one's; None where one program cannot hold them."""
        if (self.root and other.root) or (self.table and other.table) or (self.phases and other.phases):
            return None
        if (self.phases and other.root) or (self.root and other.phases) or (self.rows, self.width) != (other.rows, other.width):
            return None
        made = replace(
            self,
            streams=tuple(dict.fromkeys((*self.streams, *other.streams))),
            columns=tuple(dict.fromkeys((*self.columns, *other.columns))),
            arrays={**self.arrays, **other.arrays},
            table=self.table or other.table,
            looked_up=self.looked_up if self.table else other.looked_up,
            phases=self.phases or other.phases,
            root=self.root or other.root,
            valid=self.valid or other.valid,
            sources=joined(self.sources, other.sources),
        )
        return made if made.bound < MOST_STREAMS else None

    def scaled(self, factor: float | Floats, name: str) -> Pending:
        """Times a number, or one a column, taken into what is there where that costs nothing: tables, parameters, constants.

        ``name`` is free for a new parameter.
        """
        if np.ndim(factor) == 0 and float(factor) == 1.0:
            return self
        if self.table is not None and self.operand is self.looked_up and np.ndim(factor) == 0:
            values, slopes = (_times(bits, float(factor)) for bits in (self.table.values, self.table.slopes))
            return replace(self, table=Table(self.table.scale, self.table.shift, values, slopes))
        found = _scaled(self, self.operand, factor)
        if found is not None:
            return found
        if np.ndim(factor) == 0:
            return replace(self, operand=product(self.operand, Constant(float(factor))))
        more, column = self.with_column(name, np.asarray(factor))
        return replace(more, operand=product(self.operand, column))

    def program(self, outputs: tuple[tuple[Output, Operand], ...]) -> VectorProgram:
        """Its program with some outputs."""
        image = (self.table.values.tobytes(), self.table.slopes.tobytes()) if self.table else (b"", b"")
        last = Loop(outputs=tuple((output.name, operand) for output, operand in outputs))
        return VectorProgram(phases=(*self.phases, last), outputs=tuple(output for output, _ in outputs), tables=image)


def joined(*sources: tuple[str, ...]) -> tuple[str, ...]:
    """Names in order, each once."""
    return tuple(dict.fromkeys(name for group in sources for name in group))


def _times(bits: NDArray[np.uint32], factor: float) -> NDArray[np.uint32]:
    return (bits.view(np.float32).astype(np.float64) * factor).astype(np.float32).view(np.uint32)


def _scaled(pending: Pending, operand: Operand, factor: float | Floats) -> Pending | None:
    """The factor taken into parameters and constants of an operand that nothing else of the expression shares."""
    if isinstance(operand, Constant) and np.ndim(factor) == 0:
        return replace(pending, operand=Constant(operand.value * float(factor)))
    if isinstance(operand, Column) and operand.name in pending.arrays and _uses(pending.operand, operand, {}) == 1:
        array = (pending.arrays[operand.name].astype(np.float64) * factor).astype(np.float32)
        return replace(pending, operand=operand, arrays={**pending.arrays, operand.name: array})
    if not isinstance(operand, Value) or operand.op not in ("product", "add") or operand.b is None or operand.b is ONE:
        return None
    inner = _scaled(pending, operand.b, factor)
    if inner is None or operand.op == "product" or operand.c is None:
        return None if inner is None else replace(inner, operand=replace(operand, b=inner.operand))
    outer = _scaled(inner, operand.c, factor)
    return None if outer is None else replace(outer, operand=replace(operand, b=inner.operand, c=outer.operand))


def _uses(operand: Operand | None, wanted: Operand, known: dict[int, int]) -> int:
    """In how many ways an expression comes to one of its leaves."""
    if operand is wanted or operand == wanted:
        return 1
    if isinstance(operand, Swapped):
        return _uses(operand.of, wanted, known)
    if not isinstance(operand, Value):
        return 0
    if id(operand) not in known:
        known[id(operand)] = sum(_uses(part, wanted, known) for part in (operand.a, operand.b, operand.c))
    return known[id(operand)]
