"""Who touched what last: the memory of the verifier, kept as ranges.

A memory is a row of cells that cover it, each with the last write and the last read of every engine. Engines work in order, so
whoever comes after the last access of an engine comes after all of its accesses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# Who and when: number of the engine (over all cores), of the instruction in it, of the epoch between barriers.
Event = tuple[int, int, int]
# Written before the program starts; never written.
BEFORE: Event = (-1, -1, -1)
NEVER: Event = (-2, -1, -1)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a range of units has in common: its last write, and the last read by each engine that has read it since."""

    write: Event = NEVER
    reads: tuple[Event, ...] = ()


_UNTOUCHED = Cell()


class Shadow:
    """A memory of ``size`` units."""

    __slots__ = ("_cells", "_starts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._starts = [0]
        self._cells = [_UNTOUCHED]

    def _cut(self, at: int) -> int:
        """Number of the cell that begins at ``at``, which is made where there is none."""
        if at >= self.size:
            return len(self._starts)
        number = bisect_right(self._starts, at) - 1
        if self._starts[number] == at:
            return number
        self._starts.insert(number + 1, at)
        self._cells.insert(number + 1, self._cells[number])
        return number + 1

    def define(self, start: int, end: int) -> None:
        """Says that a range is written before the program starts."""
        self._replace(self._cut(start), self._cut(end), start, Cell(BEFORE))

    def _replace(self, first: int, last: int, start: int, cell: Cell) -> None:
        if last > first:
            self._starts[first:last] = [start]
            self._cells[first:last] = [cell]

    def write(self, runs: Iterable[tuple[int, int]], base: int, event: Event, check: Callable[[Event, int], None]) -> None:
        """A write of ``runs`` (offsets from ``base``); ``check`` gets each earlier access in them, and an address."""
        cell = Cell(event)
        starts, cells = self._starts, self._cells
        # Cells that came from one access are one object: each is looked at once.
        seen: set[int] = set()
        for low, high in runs:
            start = base + low
            first, last = self._cut(start), self._cut(base + high)
            for number in range(first, last):
                old = cells[number]
                if id(old) in seen:
                    continue
                seen.add(id(old))
                if old.write[0] >= 0:
                    check(old.write, starts[number])
                for read in old.reads:
                    check(read, starts[number])
            if last - first == 1:
                cells[first] = cell
            else:
                self._replace(first, last, start, cell)

    def read(self, runs: Iterable[tuple[int, int]], base: int, event: Event, check: Callable[[Event, int], None]) -> None:
        """A read of ``runs``; ``check`` gets each last write in them (`NEVER` too), and an address."""
        starts, cells = self._starts, self._cells
        made: dict[int, Cell] = {}
        # What cells become stays alive in `made`, what they were in `kept`: no number of an object is used twice.
        kept: list[Cell] = []
        for low, high in runs:
            start = base + low
            first, last = self._cut(start), self._cut(base + high)
            same = True
            for number in range(first, last):
                old = cells[number]
                new = made.get(id(old))
                if new is None:
                    if old.write != BEFORE:
                        check(old.write, starts[number])
                    new = Cell(old.write, (*(r for r in old.reads if r[0] != event[0]), event))
                    made[id(old)] = new
                    kept.append(old)
                cells[number] = new
                same = same and new is cells[first]
            if same and last - first > 1:
                self._replace(first, last, start, cells[first])
