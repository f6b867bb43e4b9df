"""Cores that hand data to one another through DRAM, ordered by a barrier."""

from __future__ import annotations

from collections.abc import Mapping

from presilicon.compiler.corpus.rows import aligned
from presilicon.isa import Program, Region, barrier, halt, load, reg, store
from presilicon.template import Core


def exchange(core: Core, run: int) -> tuple[Program, tuple[Mapping[int, int], ...]]:
    """Each core passes its row of x on through DRAM; after a barrier it takes the next core's: y[i] = x[i + 1].

    Registers: r1 the core's own offset, r2 that of the next core.
    """
    x, between = 0, aligned(core.cores * run)
    y = aligned(between + core.cores * run)
    program = (
        load(dram=reg("r1") + x, spad=0, run=run, signal=("store",)),
        store(dram=reg("r1") + between, spad=0, run=run, wait=("load",)),
        barrier(),
        load(dram=reg("r2") + between, spad=run, run=run, signal=("store",)),
        store(dram=reg("r1") + y, spad=run, run=run, wait=("load",)),
        halt(),
    )
    address = aligned(y + core.cores * run)
    arguments = tuple({1: i * run, 2: (i + 1) % core.cores * run} for i in range(core.cores))
    regions = (Region("x", "input", "uint8", (core.cores, run), x), Region("y", "output", "uint8", (core.cores, run), y))
    return (
        Program.build(
            core,
            program,
            regions=regions,
            address=address,
        ),
        arguments,
    )
