"""Rows of a table by an index: the index into its memory, rows by gather into the scratchpad, and out."""

from __future__ import annotations

from collections.abc import Iterator

from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Site, Strand
from presilicon.compiler.steps import Gather
from presilicon.errors import CapacityError
from presilicon.isa import load
from presilicon.isa.footprint import Box


def load_gathered(site: Site, step: Gather, to: int, rows: range, column: int, width: int, pitch: int) -> None:
    """Loads columns of the rows that a gather would write to its ``rows``, each ``pitch`` bytes after the one before."""
    count, columns, size = site.matrix(step.table)
    table = Box("dram", site.address(step.table), count * columns * size)
    first = rows.start
    while first < rows.stop:
        at, there = site.indexed(step.index, first)
        last = min(rows.stop, first + there)
        site.add(
            load(
                dram=table.start + column * size,
                spad=to + (first - rows.start) * pitch,
                n1=last - first,
                run=width * size,
                stride1=columns * size,
                pitch=pitch,
                gather=1,
                index0=at,
            ),
            table,
        )
        first = last


def emit_gather(strand: Strand, step: Gather) -> Iterator[None]:
    """The instructions of a strand's rows; CapacityError where two rows do not fit."""
    site, arena = strand.site, strand.operands
    _, columns, size = site.matrix(step.table)
    line = columns * size
    own = strand.rows(strand.lowered.tensors[step.out].rows)
    most = arena.size // (2 * line)
    if most < 1:
        raise CapacityError(
            f"two rows of {line} bytes do not fit into {arena.size} bytes of the scratchpad",
            where=step.name,
            hint="a core with a larger scratchpad",
        )
    for first in range(own.start, own.stop, most):
        if first > own.start:
            yield
        rows = range(first, min(first + most, own.stop))
        at = arena.take(len(rows) * line, "rows of a table")
        load_gathered(site, step, at, rows, 0, columns, line)
        site.put(step.out, at, rows, 0, columns)
        arena.free(at)


def _whole(step: Gather) -> tuple[str, ...]:
    return (step.table,)


EMISSION = Emission(emit=emit_gather, whole=_whole)
