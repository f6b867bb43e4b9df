"""Programs that only move data: strided, transposed, padded, gathered; each with what must come out."""

from __future__ import annotations

from collections.abc import Sequence

from presilicon.compiler.corpus.rows import aligned
from presilicon.compiler.emitter import Emitter
from presilicon.isa import Instruction, Program, Region, halt, load, reg, set_, store
from presilicon.template import Core


def _program(core: Core, instructions: list[Instruction], regions: tuple[Region, ...], used: int) -> Program:
    emitter = Emitter(core)
    for instruction in instructions:
        emitter.add(instruction)
    made = emitter.finish(halt())
    address = aligned(used)
    return Program.build(
        core,
        made,
        regions=regions,
        address=address,
    )


def strided(core: Core, rows: int, run: int, stride: int) -> Program:
    """X (rows, stride) bytes; y (rows, run): the first ``run`` of each row, through a scratchpad pitch of run + 5."""
    x, y = 0, aligned(rows * stride)
    moves = [
        load(dram=x, spad=3, n1=rows, run=run, stride1=stride, pitch=run + 5),
        store(dram=y, spad=3, n1=rows, run=run, stride1=run, pitch=run + 5),
    ]
    regions = (Region("x", "input", "uint8", (rows, stride), x), Region("y", "output", "uint8", (rows, run), y))
    return _program(core, moves, regions, y + rows * run)


def transposed(core: Core, rows: int, columns: int) -> Program:
    """X (rows, columns) bytes; y (columns, rows): a byte a row of the affine load."""
    x, y = 0, aligned(rows * columns)
    moves = [
        load(dram=x, spad=0, n1=rows, n2=columns, run=1, stride1=columns, stride2=1, pitch=1),
        store(dram=y, spad=0, run=rows * columns),
    ]
    regions = (Region("x", "input", "uint8", (rows, columns), x), Region("y", "output", "uint8", (columns, rows), y))
    return _program(core, moves, regions, y + rows * columns)


def padded(core: Core, height: int, width: int, channels: int, pad: int, fill: int) -> Program:
    """A (height, width, channels) input to y with ``pad`` rows and columns of ``fill`` on each side, as a convolution reads."""
    x, y = 0, aligned(height * width * channels)
    row = (width + 2 * pad) * channels
    rows = height + 2 * pad
    moves = [
        load(
            # Rows are numbered from -pad: the address of row -pad lies before the tensor and is never read.
            dram=x + _BEFORE - pad * width * channels,
            spad=0,
            n1=rows,
            run=width * channels,
            stride1=width * channels,
            left=pad * channels,
            right=pad * channels,
            fill=fill,
            y0=-pad,
            limit=height,
            pitch=row,
        ),
        store(dram=y + _BEFORE, spad=0, run=rows * row),
    ]
    regions = (
        Region("x", "input", "uint8", (height, width, channels), x + _BEFORE),
        Region("y", "output", "uint8", (rows, width + 2 * pad, channels), y + _BEFORE),
    )
    return _program(core, moves, regions, y + _BEFORE + rows * row)


# Room in DRAM before a padded tensor, so that its row -pad has an address.
_BEFORE = 4096


def gathered(core: Core, rows: int, run: int, picks: int) -> Program:
    """X (rows, run) bytes and int32 ``index`` (picks); y (picks, run): the rows in that order."""
    x, index = 0, aligned(rows * run)
    y = aligned(index + 4 * picks)
    beats = -(-4 * picks // core.bus_bytes) * core.bus_bytes
    moves = [
        load(dram=index, spad=0, run=beats, target="indices"),
        load(dram=x, spad=0, n1=picks, run=run, stride1=run, pitch=run, gather=1),
        store(dram=y, spad=0, run=picks * run),
    ]
    regions = (
        Region("x", "input", "uint8", (rows, run), x),
        Region("index", "input", "int32", (picks,), index),
        Region("y", "output", "uint8", (picks, run), y),
    )
    return _program(core, moves, regions, y + picks * run)


PLACES = (0, 12, 24, 36)
"""Bits of a scalar register at which ``computed`` looks."""
# Rows that it keeps in the scratchpad.
_ROWS = 128


def computed(core: Core, size: int, run: int, operations: Sequence[tuple[str, int, int]]) -> Program:
    """X (size + run) bytes; y (4 operations, run): x from ``(a op b >> place) mod size`` on, for every place; size is 2^n."""
    y, rows = aligned(size + run), len(operations) * len(PLACES)
    made: list[Instruction] = []
    for number, (op, a, b) in enumerate(operations):
        made += [set_("r1", "r0", "add", a), set_("r1", "r1", op, b)]
        for at, place in enumerate(PLACES):
            made += [set_("r2", "r1", "shr", place), set_("r2", "r2", "and", size - 1)]
            made.append(load(dram=reg("r2"), spad=(len(PLACES) * number + at) % _ROWS * run, run=run))
        if (number + 1) % (_ROWS // len(PLACES)) == 0 or number + 1 == len(operations):
            first = (len(PLACES) * number) // _ROWS * _ROWS
            made.append(store(dram=y + first * run, spad=0, run=(len(PLACES) * (number + 1) - first) * run))
    regions = (Region("x", "input", "uint8", (size + run,), 0), Region("y", "output", "uint8", (rows, run), y))
    return _program(core, made, regions, y + rows * run)
