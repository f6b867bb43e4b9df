"""Rows of a table by an index: the index into its memory, rows by gather into the scratchpad, and out."""

from __future__ import annotations

from collections.abc import Iterator

from presilicon.compiler.emission import Emission
from presilicon.compiler.memory import rounded
from presilicon.compiler.site import Strand
from presilicon.compiler.steps import Gather
from presilicon.errors import CapacityError
from presilicon.isa import load

INDEX_BYTES = 4


def emit_gather(strand: Strand, step: Gather) -> Iterator[None]:
    """The instructions of a strand's rows; CapacityError where one row does not fit."""
    site, core, arena = strand.site, strand.core, strand.operands
    _, columns, size = site.matrix(step.table)
    line, bus = columns * size, core.bus_bytes
    own = strand.rows(strand.lowered.tensors[step.out].rows)
    # An index that begins within a beat of the bus takes the beat whole.
    most = min(core.index_slots - bus // INDEX_BYTES, arena.size // (2 * line))
    if most < 1:
        raise CapacityError(
            f"two rows of {line} bytes do not fit into {arena.size} bytes of the scratchpad",
            where=step.name,
            hint="a core with a larger scratchpad",
        )
    for first in range(own.start, own.stop, most):
        rows = range(first, min(first + most, own.stop))
        begin = INDEX_BYTES * rows.start // bus * bus
        source = site.address(step.index) + begin
        run = rounded(INDEX_BYTES * rows.stop - begin, bus)
        site.add(load(dram=source, spad=0, run=run, target="indices"))
        at = arena.take(len(rows) * line, "rows of a table")
        site.add(
            load(
                dram=site.address(step.table),
                spad=at,
                n1=len(rows),
                run=line,
                stride1=line,
                pitch=line,
                gather=1,
                index0=rows.start - begin // INDEX_BYTES,
            )
        )
        site.put(step.out, at, rows, 0, columns)
        arena.free(at)
        yield


def _whole(step: Gather) -> tuple[str, ...]:
    return (step.table,)


EMISSION = Emission(emit=emit_gather, whole=_whole)
