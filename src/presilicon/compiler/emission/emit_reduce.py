"""Sums and maxima over rows: row after row into registers, eight strips of columns at a time.

Registers keep their values from one row to the next, so a column's elements are taken in the order of the rows. What is written
after each row goes to one place, where the last row's stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Strand
from presilicon.compiler.rowwise import newton_reciprocal
from presilicon.compiler.steps import Reduce
from presilicon.errors import CapacityError
from presilicon.isa import Slot, kernel_text, reg, vector
from presilicon.template import GROUP

# Streams of the kernels.
RESULT, X, SO_FAR, COUNT = range(4)


def _row_text(step: Reduce, carried: bool, last: bool) -> str:
    """The kernel for each row: the first row begins with what an earlier part has left, or with nothing."""
    start = 0.0 if step.kind == "sum" else -np.inf
    begin = f"r0 = stream{SO_FAR} once" if carried else f"r0 = select(stream{X}, imm({start}), imm({start})) once"
    take = f"stream{X} * imm(1.0) + r0" if step.kind == "sum" else f"max(stream{X} * imm(1.0), r0)"
    lines = [begin, f"r0 = {take}"]
    scaled = last and step.kind == "sum" and not step.mean_of_length
    lines += [f"stream{RESULT} = r0 * imm({np.float32(step.scale)!s})" if scaled else f"stream{RESULT} = r0"]
    if step.mean_of_length:
        lines[1:1] = [f"r1 = select(stream{X}, imm(0.0), imm(0.0)) once"]
        lines += ["r1 = r1 * imm(1.0) + imm(1.0)", f"stream{COUNT} = r1"]
    return "\n".join(lines)


# The sum times the reciprocal of the count.
_MEAN_TEXT = "\n".join([f"r0 = stream{COUNT}", *newton_reciprocal(0, 1, 2), f"stream{RESULT} = stream{X} * r1"])


class _Emission:
    """A reduction under way."""

    def __init__(self, strand: Strand, step: Reduce) -> None:
        self.strand, self.site, self.step = strand, strand.site, step
        self.lanes = strand.core.lanes
        all_rows, self.columns, _ = self.site.matrix(step.x)
        self.rows = all_rows // step.batch
        self.columns_at_once, self.rows_at_once = self._cut()

    def _cut(self) -> tuple[int, int]:
        """Columns and rows that are loaded together: all columns, or whole strips with all rows, or some rows."""
        room, lanes = self.strand.operands.size // 2, self.lanes
        wide = ceil(self.columns / lanes) * lanes
        # A count that only the run knows wants all rows at once, be it of a few strips.
        unit = lanes if self.step.length else min(GROUP * lanes, wide)
        columns = wide if 4 * wide * self.rows <= room else max(unit, room // (4 * self.rows) // unit * unit)
        rows = min(self.rows, room // (4 * columns))
        held = 4 * (4 * columns + self.strand.results.align)
        if rows < (self.rows if self.step.length else 1) or held > self.strand.results.size:
            count = self.rows if self.step.length else 1
            raise CapacityError(
                f"{count} rows of {4 * columns} bytes do not fit into {room} bytes of the scratchpad, or four of results into"
                f" {self.strand.results.size}",
                where=self.step.name,
                hint="a core with a larger scratchpad",
            )
        return columns, rows

    def run(self) -> Iterator[None]:
        step, strand = self.step, self.strand
        for sample in range(step.batch):
            for column in range(0, self.columns, self.columns_at_once):
                width = min(self.columns_at_once, self.columns - column)
                size = ceil(width / self.lanes) * self.lanes * 4
                held = [strand.results.take(size, "a row of results") for _ in range(4)]
                for first in range(0, self.rows, self.rows_at_once):
                    last = min(first + self.rows_at_once, self.rows)
                    self.part(
                        range(sample * self.rows + first, sample * self.rows + last), column, width, size, held, first > 0
                    )
                    # The next part begins with this one's result.
                    held[:2] = held[1::-1]
                    yield
                result = held[1]
                if step.mean_of_length:
                    self.vector(_MEAN_TEXT, 1, width, {RESULT: held[0], X: held[1], COUNT: held[3]}, {})
                    result = held[0]
                self.site.put(step.out, result, range(sample, sample + 1), column, width)
                strand.results.free(*held)

    def part(self, rows: range, column: int, width: int, pitch: int, held: list[int], carried: bool) -> None:
        """Some rows of some columns into the first held row, from the second on where they go on."""
        step, operands = self.step, self.strand.operands
        at = operands.take(len(rows) * pitch, "rows")
        self.site.fetch(step.x, at, rows, column, width, pitch=pitch)
        last = (rows.stop - 1) % self.rows == self.rows - 1
        count = reg(self.site.lowered.register(step.length)) if step.length else len(rows)
        places = {RESULT: held[0], X: at, SO_FAR: held[1], COUNT: held[3]}
        self.vector(_row_text(step, carried, last), count, width, places, {X: pitch})
        operands.free(at)

    def vector(self, text: str, rows: int | Slot, width: int, at: dict[int, int], pitches: dict[int, int]) -> None:
        """A kernel over rows, eight strips an instruction."""
        kernel = self.site.kernel(kernel_text(text))
        unit = GROUP * self.lanes
        for first in range(0, width, unit):
            columns = min(unit, width - first)
            self.site.add(
                vector(
                    kernel=kernel,
                    rows=rows,
                    strips=ceil(columns / self.lanes),
                    columns=columns,
                    streams=tuple(at.get(stream, at[RESULT]) + 4 * first for stream in range(4)),
                    pitches=tuple(pitches.get(stream, 0) for stream in range(4)),
                    by_strips=1,
                )
            )


def emit_reduce(strand: Strand, step: Reduce) -> Iterator[None]:
    """The instructions of a reduction."""
    yield from _Emission(strand, step).run()


EMISSION = Emission(emit=emit_reduce, split=False)
