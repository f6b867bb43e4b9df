"""A core's program while it is emitted, and its strands: parts of the rows whose steps are interleaved on the core.

A `Site` is what a core has once: its instructions in program order, kernel memory, tables, and a rough clock of its engines. A
`Strand` is what each part of the rows has of its own: arenas of the scratchpad, accumulator rows, its stationary operands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.emission.memory import Arena, Banks, Chunk, Dram, Stationary, rounded
from presilicon.compiler.emitter import Emitter, Touches
from presilicon.compiler.kernels import CompiledKernel, compile_kernel, slots_of
from presilicon.compiler.steps import DTYPES, Binding, Gather, Lowered, Step
from presilicon.compiler.vectors import VectorProgram
from presilicon.errors import CapacityError
from presilicon.isa import (
    INSTRUCTION_CYCLES,
    QUEUE_CYCLES,
    UOP_BYTES,
    Instruction,
    Kernel,
    Slot,
    Uop,
    halt,
    load,
    reg,
    set_,
    store,
)
from presilicon.isa.footprint import Box
from presilicon.isa.products import matmul_time
from presilicon.template import GROUP, Core

# The scalar register in which addresses of runtime rows are made, each just before its use; steps may use those from
# `FIRST_SCRATCH` up to it between two yields.
ADDRESS_REGISTER = 15
FIRST_SCRATCH = 4
# Parts of the index memory that are filled in turn, and bytes of an index.
INDEX_PARTS, INDEX_BYTES = 4, 4
# While a program is emitted its kernels lie from here on: nothing else does. `Site.finish` puts them where there is room.
_KERNELS_AT = 1 << 39
# Cycles that the rough clock gives a transfer beside its beats: the memory's latency and the way of an instruction.
_LATENCY = 50.0
Array = NDArray[np.generic]


class Constants:
    """Constants of a model in DRAM: each is laid out once, however many steps, strands and cores read it."""

    def __init__(self, lowered: Lowered, dram: Dram) -> None:
        self.lowered, self.dram = lowered, dram
        self._known: dict[object, int] = {}

    def laid_out(self, key: object, make: Any) -> int:
        """DRAM address of what ``make()`` gives (bytes or an array), made once for each key."""
        if key not in self._known:
            made = make()
            self._known[key] = self.dram.put(made if isinstance(made, bytes) else np.ascontiguousarray(made).tobytes())
        return self._known[key]

    def raw(self, name: str) -> int:
        """DRAM address of a constant as it is."""
        return self.laid_out(("raw", name), lambda: self.lowered.constants[name])


@dataclass(slots=True)
class _Resident:
    """A kernel in the kernel memory."""

    start: int
    slots: int
    uops: tuple[Uop, ...]


class Site:
    """One core's program under way."""

    def __init__(self, core: Core, lowered: Lowered, addresses: Mapping[str, int], constants: Constants) -> None:
        self.core, self.lowered, self.addresses, self.constants = core, lowered, addresses, constants
        registers = [0, *lowered.arguments.values()]
        self.emitter = Emitter(core, (), registers + [0] * (16 - len(registers)))
        # The step that each instruction is for, and the one at hand.
        self.step_of: list[int] = []
        self.step = -1
        self.kernels: list[Kernel] = []
        self._numbers = {id(step): number for number, step in enumerate(lowered.steps)}
        # Tensors that are never made: who reads one looks its rows up in the table.
        self.looked_up: dict[str, Gather] = {}
        # The accumulator bank that was filled last; whether one strand's products come between another's heads of an attention.
        self.last_bank, self.taking_turns = 1, False
        self._offsets: dict[tuple[Uop, ...], int] = {}
        self._resident: list[_Resident] = []
        self._next_slot = 0
        self._kernel_loads: list[int] = []
        self._indices: list[tuple[str, range]] = [("", range(0))] * INDEX_PARTS
        self._next_index = 0
        self._tables: list[bytes] = [b"", b""]
        self._compiled: dict[tuple[object, ...], CompiledKernel] = {}
        # The rough clock: when each engine takes its next instruction, when each instruction is done.
        self.free = dict.fromkeys(("load", "store", "matmul", "vector", "sequencer"), 0.0)
        # The sequencer's cycle, and of each engine when its last instructions left their queue.
        self._pushed = 0.0
        self._left: dict[str, deque[float]] = {engine: deque([0.0], core.queue_slots) for engine in self.free}
        self.done: list[float] = []
        # The latest of them that is no load, since somebody set it to 0: loads run ahead of what they are for.
        self.latest = 0.0
        # Loads something that is needed later, when the port would be idle; 0 where there is nothing or no room.
        self.prefetch: Callable[[], int] = int

    @contextmanager
    def doing(self, step: Step) -> Iterator[None]:
        """What is added within is another step's."""
        before, self.step = self.step, self._numbers[id(step)]
        yield
        self.step = before

    # Instructions ----------------------------------------------------------------------------------------------------------

    def add(self, instruction: Instruction, dram: Box | None = None) -> float:
        """Adds an instruction behind all before it; returns when it is done by the rough clock.

        ``dram``: all that it may touch there where a register made by `scaled` is in its address.
        """
        number = self.emitter.add(instruction, dram)
        self.step_of.append(self.step)
        engine = instruction.engine
        # The sequencer waits for a place in the queue: the rest of the program waits with it.
        self._pushed = max(self._pushed + INSTRUCTION_CYCLES, self._left[engine][0] if engine != "sequencer" else 0.0)
        needs = [self.done[n] for n in self.emitter.needs.values() if n >= 0]
        start = max([self.free[engine], self._pushed + QUEUE_CYCLES, *needs])
        self._left[engine].append(start)
        busy, more = self._cycles(instruction)
        self.free[engine] = start + busy
        self.done.append(start + busy + more)
        assert len(self.done) == number + 1
        made = self.done[-1]
        if engine != "load":
            self.latest = max(self.latest, made)
            while self.free["load"] < start and self.prefetch():
                pass
        return made

    def block(self, instructions: Sequence[Instruction], touches: Mapping[str, Touches], cycles: float) -> None:
        """Adds instructions that order themselves (`Emitter.block`) and take about so many cycles."""
        self.emitter.block(instructions, touches)
        count = len(self.emitter) - len(self.done)
        end = max(self.free[engine] for engine in touches) + cycles
        self.step_of += [self.step] * count
        self.done += [end] * count
        for engine in touches:
            self.free[engine] = end
        self.latest = max(self.latest, end)

    def _cycles(self, one: Instruction) -> tuple[float, float]:
        """About how long an instruction keeps its engine, and how much later it is done."""
        f = one.resolve(self.emitter.registers)
        if one.op == "matmul":
            time = matmul_time(self.core, f, 0, 0)
            return float(time.free), float(time.done - time.free)
        if one.op == "vector":
            slots = slots_of(self.emitter.kernels[f["kernel"]], f["rows"], f["strips"], bool(f["by_strips"]))
            return GROUP * slots + 4.0, float(self.core.vector_drain_cycles)
        if one.op in ("load", "store"):
            rows, bus = f["n1"] * f["n2"] * f["n3"], self.core.bus_bytes
            beats = ceil(f["run"] / (4 if f.get("target") == 1 else bus))
            # Eight bursts are in flight: short ones wait for the memory.
            return rows * max(float(beats), (_LATENCY + beats) / self.core.outstanding if rows > 1 else 1.0), _LATENCY
        return 3.0, 0.0

    def finish(self, kernel_address: int) -> tuple[Instruction, ...]:
        """All instructions and a halt, the kernels at a DRAM address."""
        made = list(self.emitter.finish(halt()))
        for number in self._kernel_loads:
            values = made[number].values
            made[number] = replace(made[number], values=(values[0] - _KERNELS_AT + kernel_address, *values[1:]))
        return tuple(made)

    # Registers, kernels, tables ----------------------------------------------------------------------------------------------

    def scaled(self, argument: str, factor: int, add: int = 0) -> Slot:
        """A runtime argument times a factor, plus a number, as a slot's value: for the very next instruction only."""
        self.add(set_(f"r{ADDRESS_REGISTER}", f"r{self.lowered.register(argument)}", "mul", factor))
        return reg(ADDRESS_REGISTER) + add

    def compiled(self, program: VectorProgram, key: object = (), **options: Any) -> CompiledKernel:
        """The kernel of a vector program (see `compile_kernel`), compiled once for each program and ``key``."""
        place = (id(program), key)
        if place not in self._compiled:
            self._compiled[place] = compile_kernel(self.core, program, **options)
        return self._compiled[place]

    def kernel(self, uops: tuple[Uop, ...]) -> int:
        """The slot of the kernel memory in which a kernel stands; it is loaded where it does not, over the oldest ones."""
        for one in self._resident:
            if one.uops is uops or one.uops == uops:
                return one.start
        if uops not in self._offsets:
            made = Kernel(f"k{len(self.kernels)}", 0, uops)
            self._offsets[uops] = sum(kernel.slots for kernel in self.kernels)
            self.kernels.append(made)
        slots = Kernel("k", 0, uops).slots
        if slots > self.core.kernel_slots:
            raise CapacityError(f"a kernel takes {slots} slots of the kernel memory's {self.core.kernel_slots}")
        start = self._next_slot if self._next_slot + slots <= self.core.kernel_slots else 0
        self._next_slot = start + slots
        for one in [r for r in self._resident if r.start < start + slots and start < r.start + r.slots]:
            self._resident.remove(one)
            del self.emitter.kernels[one.start]
        self._resident.append(_Resident(start, slots, uops))
        self.emitter.kernels[start] = uops
        self._kernel_loads.append(len(self.emitter))
        source = _KERNELS_AT + self._offsets[uops] * UOP_BYTES
        self.add(load(dram=source, spad=start * UOP_BYTES, run=slots * UOP_BYTES, target="kernels"))
        return start

    def tables(self, images: tuple[bytes, bytes]) -> None:
        """Makes the two tables those of a program; an empty one may stay what it is."""
        for number, image in enumerate(images):
            if image and self._tables[number] != image:
                self._tables[number] = image
                source = self.constants.laid_out(("table", image), lambda image=image: image)
                self.add(load(dram=source, spad=1024 * number, run=1024, target="tables"))

    def indexed(self, name: str, row: int) -> tuple[int, int]:
        """Where an index tensor's element ``row`` stands in the index memory, and how many stand there from it on."""
        quarter, bus = self.core.index_slots // INDEX_PARTS, self.core.bus_bytes // INDEX_BYTES
        for at, (tensor, elements) in enumerate(self._indices):
            if tensor == name and row in elements:
                return at * quarter + row - elements.start, elements.stop - row
        at = self._next_index
        self._next_index = (at + 1) % INDEX_PARTS
        # Whole beats of the bus.
        first, count = row // bus * bus, self.matrix(name)[0]
        elements = range(first, min(first + quarter, count))
        self._indices[at] = (name, elements)
        run = rounded(INDEX_BYTES * len(elements), self.core.bus_bytes)
        source = self.address(name) + INDEX_BYTES * first
        self.add(load(dram=source, spad=INDEX_BYTES * at * quarter, run=run, target="indices"))
        return at * quarter + row - first, elements.stop - row

    # DRAM --------------------------------------------------------------------------------------------------------------------

    def address(self, name: str) -> int:
        """DRAM address of a tensor or a constant as it is."""
        return self.addresses[name] if name in self.addresses else self.constants.raw(name)

    def matrix(self, name: str) -> tuple[int, int, int]:
        """Rows, columns and bytes of an element of a tensor or constant; a vector is a matrix of one row."""
        if name in self.lowered.tensors:
            tensor = self.lowered.tensors[name]
            return tensor.rows, tensor.columns, np.dtype(DTYPES[tensor.dtype]).itemsize
        array = self.lowered.constants[name]
        shape = array.shape if array.ndim == 2 else (1, array.size)
        return int(shape[0]), int(shape[1]), array.dtype.itemsize

    def _moved(
        self, name: str, rows: range, column: int, width: int, pitch: int, row: str
    ) -> tuple[dict[str, Any], Box | None]:
        """The fields that a load and a store of part of a matrix share."""
        all_rows, columns, size = self.matrix(name)
        line, run, count = columns * size, width * size, len(rows)
        start = self.address(name)
        first = start + rows.start * line + column * size
        fields: dict[str, Any] = {"n1": count, "run": run, "stride1": line, "pitch": pitch}
        if count == 1 or run == line == pitch:
            fields = {"run": count * run}
        if not row:
            return {"dram": first, **fields}, None
        return {"dram": self.scaled(row, line, first), **fields}, Box("dram", start, all_rows * line)

    def fetch(
        self, name: str, to: int, rows: range, column: int, width: int, *, pitch: int = 0, row: str = "", **more: Any
    ) -> None:
        """Loads rows and columns of a tensor or constant, one row each ``pitch`` bytes (or densely); ``row``: see `Binding`."""
        pitch = pitch or width * self.matrix(name)[2]
        fields, box = self._moved(name, rows, column, width, pitch, row)
        if more and "n1" not in fields:
            line = self.matrix(name)[1] * self.matrix(name)[2]
            fields |= {"n1": len(rows), "run": width * self.matrix(name)[2], "stride1": line, "pitch": pitch}
        self.add(load(spad=to, **fields, **more), box)

    def put(self, name: str, at: int, rows: range, column: int, width: int, *, pitch: int = 0, row: str = "") -> None:
        """Stores rows and columns of a tensor, the reverse of `fetch`."""
        fields, box = self._moved(name, rows, column, width, pitch or width * self.matrix(name)[2], row)
        self.add(store(spad=at, **fields), box)


class Strand:
    """A part of the rows on one core: part ``number`` of ``parts`` over all cores."""

    def __init__(
        self, site: Site, number: int, parts: int, own: Banks, accumulator_rows: range, few_rows: bool = False
    ) -> None:
        self.site, self.number, self.parts = site, number, parts
        self.core, self.lowered = site.core, site.lowered
        self.moving = Arena("moving operands", *own.moving)
        self.operands = Arena("operands of the vector unit", *own.operands)
        self.results = Arena("results", *own.results)
        self.stationary = Stationary(Arena("stationary operands", *own.stationary), self._load_chunk, few_rows)
        if few_rows:
            site.prefetch = lambda: self.stationary.ahead(1)
        # The accumulator bank that its step has filled last; -1: none yet.
        self.bank = -1
        # Its rows of both accumulator banks.
        self.accumulator_rows = accumulator_rows

    def _load_chunk(self, chunk: Chunk, at: int) -> None:
        self.site.add(load(dram=chunk.dram, spad=at, run=chunk.bytes))

    def rows(self, count: int) -> range:
        """Its share of the rows of a matrix."""
        return range(count * self.number // self.parts, count * (self.number + 1) // self.parts)

    def next_bank(self) -> int:
        """The accumulator bank to fill next: the other one than before, while the vector unit drains that.

        A step that begins beside another strand's attention fills the bank that does: both then take turns.
        """
        if self.bank < 0:
            self.bank = self.site.last_bank if self.site.taking_turns else 1 - self.site.last_bank
        else:
            self.bank = 1 - self.bank
        self.site.last_bank = self.bank
        return self.bank

    def idle(self) -> bool:
        """Whether all buffers have been given back."""
        return not (self.moving.taken or self.operands.taken or self.results.taken)


def bound(step_bindings: Iterable[Binding], name: str) -> Binding:
    """The binding of a name."""
    return next(b for b in step_bindings if b.name == name)
