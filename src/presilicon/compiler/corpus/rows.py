"""A row operation as a program: x (m, n) fp32 in DRAM to y (m, n) fp32, some rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.emitter import Emitter
from presilicon.compiler.rowwise import Pass, RowOperation
from presilicon.errors import CapacityError
from presilicon.isa import (
    UOP_BYTES,
    Instruction,
    Kernel,
    Program,
    Region,
    Segment,
    halt,
    kernel_text,
    load,
    place,
    store,
    vector,
)
from presilicon.template import Core

ALIGNMENT = 4096


def aligned(address: int) -> int:
    """The next multiple of a page of DRAM."""
    return -(-address // ALIGNMENT) * ALIGNMENT


def kernels(texts: Mapping[str, str], core: Core) -> tuple[Kernel, ...]:
    """Kernels of these names and texts, one behind the other in the kernel memory."""
    return place([(name.replace("-", "_"), kernel_text(text)) for name, text in texts.items()], core)


def load_kernels(kernels: Sequence[Kernel], address: int) -> Instruction:
    """The load that brings all kernels from DRAM ``address``."""
    return load(dram=address, spad=0, run=UOP_BYTES * sum(kernel.slots for kernel in kernels), target="kernels")


class _Places:
    """Where tensors lie in the scratchpad: x, t, y and parameters each in banks of their own."""

    def __init__(self, core: Core, row_bytes: int, strip_bytes: int, m: int, parameters_by_row: int) -> None:
        if core.scratchpad_banks < 4:
            raise CapacityError(f"a row operation needs 4 scratchpad banks, the core has {core.scratchpad_banks}")
        quarter = core.scratchpad_bytes // 4
        rows = min(m, quarter // 2 // row_bytes, quarter // 2 // strip_bytes)
        if parameters_by_row:
            rows = min(rows, quarter // 2 // parameters_by_row // row_bytes)
        if not rows:
            raise CapacityError(f"a row of {row_bytes} bytes does not fit into {quarter // 2} bytes of the scratchpad")
        self.rows = rows
        self.quarter = quarter
        self.row_bytes = row_bytes

    def at(self, name: str, parity: int) -> int:
        """Address of a tensor, one of two."""
        half = self.quarter // 2
        if name == "row":
            return 3 * self.quarter + half
        return {"x": 0, "t": 1, "y": 2}[name] * self.quarter + parity * half


def row_program(core: Core, operation: RowOperation, m: int, n: int, parameters: Mapping[str, NDArray[np.float32]]) -> Program:
    """The program of ``operation`` on (m, n); ``parameters`` are (n,), or (m, n) where they differ by row.

    Input ``x`` and output ``y``, fp32 (m, n). CapacityError where a row does not fit.
    """
    width = ceil(n / core.lanes) * core.lanes
    row_bytes, strip = 4 * width, 4 * core.lanes
    by_row = {name: value.ndim == 2 for name, value in parameters.items()}
    places = _Places(core, row_bytes, strip, m, len(parameters) if any(by_row.values()) else 0)
    passes = operation.passes(core, n)
    made = kernels({f"{operation.name}-{i}": one.text for i, one in enumerate(passes)}, core)
    emitter = Emitter(core, made)
    x, y = 0, aligned(4 * m * n)
    data, address = [], aligned(y + 4 * m * n)
    at: dict[str, int] = {}
    for name, value in parameters.items():
        at[name] = address
        data.append(Segment(address, np.ascontiguousarray(value, np.float32).tobytes()))
        address = aligned(address + value.nbytes)
    table = address
    if operation.table is not None:
        data.append(Segment(table, operation.table.image()))
        address = aligned(address + 2048)
    emitter.add(load_kernels(made, address))
    if operation.table is not None:
        emitter.add(load(dram=table, spad=0, run=2048, target="tables"))
    share = places.quarter // 2 // max(1, len(parameters))
    fill = row_bytes - 4 * n
    for number, first in enumerate(range(0, m, places.rows)):
        rows = min(places.rows, m - first)
        parity = number % 2
        emitter.add(
            load(
                dram=x + 4 * first * n,
                spad=places.at("x", parity),
                n1=rows,
                run=4 * n,
                stride1=4 * n,
                right=fill,
                pitch=row_bytes,
            )
        )
        where = {name: 3 * places.quarter + i * share for i, name in enumerate(parameters)}
        for name in parameters:
            if by_row[name] or number == 0:
                count, start = (rows, at[name] + 4 * first * n) if by_row[name] else (1, at[name])
                emitter.add(load(dram=start, spad=where[name], n1=count, run=4 * n, stride1=4 * n, right=fill, pitch=row_bytes))
        for one, kernel in zip(passes, made, strict=True):
            emitter.add(_vector(core, one, kernel, places, where, by_row, parity, rows, n))
        out = places.at("y", parity)
        emitter.add(store(dram=y + 4 * first * n, spad=out, n1=rows, run=4 * n, stride1=4 * n, pitch=row_bytes))
    instructions = emitter.finish(halt())
    return Program.build(
        core,
        instructions,
        kernels=made,
        data=data,
        regions=(Region("x", "input", "float32", (m, n), x), Region("y", "output", "float32", (m, n), y)),
        address=aligned(address + UOP_BYTES * sum(kernel.slots for kernel in made)),
        kernel_address=address,
    )


def _vector(
    core: Core,
    one: Pass,
    kernel: Kernel,
    places: _Places,
    where: Mapping[str, int],
    by_row: Mapping[str, bool],
    parity: int,
    rows: int,
    n: int,
) -> Instruction:
    streams, pitches, fixed = [], [], []
    for number, name in enumerate(one.streams):
        streams.append(where[name] if name in where else places.at(name, parity))
        pitches.append(4 * core.lanes if name == "row" else places.row_bytes if by_row.get(name, True) else 0)
        if name == "row":
            fixed.append(number)
    strips = ceil(n / core.lanes)
    return vector(
        kernel=kernel.start,
        rows=rows,
        strips=strips,
        columns=strips * core.lanes,
        valid=n,
        streams=tuple(streams),
        pitches=tuple(pitches),
        fixed=tuple(fixed),
    )
