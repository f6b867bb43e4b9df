"""A compiled model on any level, run again and again: the reference, the simulator, the RTL; states stay from run to run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.compiled import ChipPart, Compiled, HostPart, memory
from presilicon.compiler.meaning import reference
from presilicon.compiler.ports import check_names, handed_out, taken
from presilicon.compiler.steps import DTYPES
from presilicon.compiler.work import macs
from presilicon.dram import DramOptions
from presilicon.errors import CheckError
from presilicon.isa import INSTRUCTION_BYTES, Program
from presilicon.simulate.machine import run as simulate
from presilicon.template import ENGINES, Core

if TYPE_CHECKING:
    from presilicon.rtl.runner import RtlMachine

Array = NDArray[np.generic]
Level = Literal["reference", "simulate", "rtl"]
LEVELS: tuple[Level, ...] = ("reference", "simulate", "rtl")
Progress = Callable[[int, float], None]


@dataclass(frozen=True, slots=True)
class Event:
    """An instruction that an engine did: its core, engine, number in the core's program, cycles of its issue and its done."""

    core: int
    engine: str
    pc: int
    issue: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRun:
    """A part's run: tensors it wrote for the next, cycles (0 on the host and the reference level), events, bytes of DRAM."""

    name: str
    cycles: int = 0
    macs: int = 0
    events: tuple[Event, ...] = ()
    busy_cycles: Mapping[str, int] = field(default_factory=dict)
    dram_read_bytes: int = 0
    dram_written_bytes: int = 0
    host_bytes: int = 0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run gave: outputs by the names of the model's file, and what it took."""

    outputs: Mapping[str, Array]
    parts: tuple[PartRun, ...]
    clock_hz: float
    peak_macs_per_cycle: int
    wall_s: float

    @property
    def cycles(self) -> int:
        """Cycles of all parts on the chip."""
        return sum(part.cycles for part in self.parts)

    @property
    def chip_time_s(self) -> float:
        """Time of these cycles at the chip's clock."""
        return self.cycles / self.clock_hz

    @property
    def utilization(self) -> float | None:
        """Achieved over peak MACs; None where no cycles were counted."""
        return sum(part.macs for part in self.parts) / (self.peak_macs_per_cycle * self.cycles) if self.cycles else None


class _Backend(Protocol):
    """One part on one level, with its states."""

    def run(self, inputs: Mapping[str, Array], arguments: Mapping[str, int]) -> tuple[dict[str, Array], PartRun]: ...

    def state(self, name: str) -> Array: ...

    def close(self) -> None: ...


class Session:
    """A compiled model on one level, ready to run again and again; KV caches and other states stay from run to run.

    ``options``: the memory's behaviour. ``events``: keep what each instruction did. ``vcd``: the RTL's wave form (one part).
    A context manager: leaving it frees the RTL's model.
    """

    def __init__(
        self,
        compiled: Compiled,
        level: Level = "simulate",
        *,
        options: DramOptions | None = None,
        events: bool = False,
        vcd: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.compiled, self.level = compiled, level
        self._backends: list[_Backend] = []
        for part in compiled.parts:
            if isinstance(part, HostPart):
                self._backends.append(_Host(part))
            elif level == "reference":
                self._backends.append(_Reference(part))
            elif level == "simulate":
                self._backends.append(_Simulate(part, compiled.core, options, events))
            else:
                self._backends.append(_Rtl(part, compiled.core, options, events, vcd, progress))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for backend in self._backends:
            backend.close()

    def run(self, inputs: Mapping[str, Array]) -> Result:
        """Outputs for ``inputs``, both by the names of the model's file; ModelError where an input cannot be taken."""
        began = time.perf_counter()
        values: dict[str, Array] = dict(inputs)
        runs = []
        whole = len(self.compiled.parts) == 1
        check_names(self.compiled.inputs, values)
        for part, backend in zip(self.compiled.parts, self._backends, strict=True):
            if isinstance(part, HostPart):
                made, done = backend.run({name: values[name] for name in part.inputs}, {})
            else:
                names = {port.name for port in part.inputs}
                given = values if whole else {name: value for name, value in values.items() if name in names}
                tensors, arguments = taken(part.lowered, part.inputs, given)
                wrote, done = backend.run(tensors, arguments)
                made = handed_out(part.lowered, part.outputs, wrote)
            values |= made
            runs.append(done)
        return Result(
            outputs={port.name: values[port.name] for port in self.compiled.outputs if port.role == "tensor"},
            parts=tuple(runs),
            clock_hz=self.compiled.chip.need("clock_hz"),
            peak_macs_per_cycle=self.compiled.core.rows * self.compiled.core.cols * self.compiled.core.cores,
            wall_s=time.perf_counter() - began,
        )

    def state(self, name: str) -> Array:
        """A copy of a state's tensor as it is now, by its name in the lowered model."""
        for part, backend in zip(self.compiled.parts, self._backends, strict=True):
            if isinstance(part, ChipPart) and name in part.lowered.states:
                return backend.state(name)
        raise CheckError(f"there is no state {name}", where=self.compiled.name)


class _Reference:
    def __init__(self, part: ChipPart) -> None:
        self.part = part
        self.states: dict[str, Array] = {}

    def run(self, inputs: Mapping[str, Array], arguments: Mapping[str, int]) -> tuple[dict[str, Array], PartRun]:
        began = time.perf_counter()
        low = self.part.lowered
        found = reference(low, inputs, arguments=arguments, states=self.states)
        self.states = {name: found[name] for name in low.states}
        return found, PartRun(name=low.name, macs=_macs(self.part, arguments), wall_s=time.perf_counter() - began)

    def state(self, name: str) -> Array:
        tensor = self.part.lowered.tensors[name]
        empty = np.zeros((tensor.rows, tensor.columns), DTYPES[tensor.dtype])
        return self.states.get(name, empty).copy()

    def close(self) -> None: ...


class _InMemory:
    """A part whose tensors lie in a DRAM image that stays from run to run."""

    def __init__(self, part: ChipPart, core: Core) -> None:
        self.part, self.core = part, core
        self.regions = {region.name: region for region in part.programs[0].regions}
        self.dram = memory(part.programs)

    def put(self, inputs: Mapping[str, Array]) -> None:
        for name, value in inputs.items():
            region = self.regions[name]
            data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            self.dram[region.address : region.address + data.size] = data

    def get(self, name: str) -> Array:
        region, tensor = self.regions[name], self.part.lowered.tensors[name]
        dtype = np.dtype(DTYPES[tensor.dtype])
        size = tensor.rows * tensor.columns * dtype.itemsize
        return self.dram[region.address : region.address + size].view(dtype).reshape(tensor.rows, tensor.columns).copy()

    def registers(self, arguments: Mapping[str, int]) -> dict[int, int]:
        return {self.part.lowered.register(name): value for name, value in arguments.items()}

    def outputs(self) -> dict[str, Array]:
        return {name: self.get(name) for name in self.part.lowered.outputs}

    def state(self, name: str) -> Array:
        return self.get(name)


class _Simulate(_InMemory):
    def __init__(self, part: ChipPart, core: Core, options: DramOptions | None, events: bool) -> None:
        super().__init__(part, core)
        self.options, self.events = options, events

    def run(self, inputs: Mapping[str, Array], arguments: Mapping[str, int]) -> tuple[dict[str, Array], PartRun]:
        began = time.perf_counter()
        self.put(inputs)
        done = simulate(
            self.part.programs,
            self.core,
            arguments=self.registers(arguments),
            dram=self.dram,
            options=self.options,
            events=self.events,
        )
        return self.outputs(), PartRun(
            name=self.part.lowered.name,
            cycles=done.cycles,
            macs=_macs(self.part, arguments),
            events=tuple(
                Event(core, ENGINES[e.engine], e.pc, e.issue, e.done) for core, each in enumerate(done.events) for e in each
            ),
            busy_cycles=done.busy_cycles,
            dram_read_bytes=done.dram_read_bytes,
            dram_written_bytes=done.dram_written_bytes,
            wall_s=time.perf_counter() - began,
        )

    def close(self) -> None: ...


class _Rtl(_InMemory):
    def __init__(
        self,
        part: ChipPart,
        core: Core,
        options: DramOptions | None,
        events: bool,
        vcd: Path | None,
        progress: Progress | None,
    ) -> None:
        from presilicon.rtl.runner import RtlMachine

        super().__init__(part, core)
        self.events, self.progress = events, progress
        self.machine: RtlMachine = RtlMachine(core, self.dram, options, vcd=vcd)

    def run(self, inputs: Mapping[str, Array], arguments: Mapping[str, int]) -> tuple[dict[str, Array], PartRun]:
        from presilicon.rtl.runner import Launch

        began = time.perf_counter()
        self.put(inputs)
        self.machine.reset()
        registers = self.registers(arguments)
        launches = [Launch(address=p.address, size_bytes=_size(p), arguments=registers) for p in self.part.programs]
        done = self.machine.run(launches, events=self.events, progress=self.progress)
        if done.fault is not None:
            fault = done.fault
            raise CheckError(
                f"the RTL stopped with error {fault.code} in {fault.engine} at instruction {fault.pc}",
                where=self.part.lowered.name,
            )
        return self.outputs(), PartRun(
            name=self.part.lowered.name,
            cycles=done.cycles,
            macs=_macs(self.part, arguments),
            events=tuple(Event(e.core, e.engine, e.pc, e.issue, e.done) for e in done.events),
            dram_read_bytes=done.read_beats * self.core.bus_bytes,
            dram_written_bytes=done.write_beats * self.core.bus_bytes,
            wall_s=time.perf_counter() - began,
        )

    def close(self) -> None:
        self.machine.close()


class _Host:
    """A part on ONNX Runtime."""

    def __init__(self, part: HostPart) -> None:
        import onnxruntime

        self.part = part
        self.session = onnxruntime.InferenceSession(part.model, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, Array], arguments: Mapping[str, int]) -> tuple[dict[str, Array], PartRun]:
        began = time.perf_counter()
        made = dict(zip(self.part.outputs, self.session.run(list(self.part.outputs), dict(inputs)), strict=True))
        moved = sum(value.nbytes for value in (*inputs.values(), *made.values()))
        return made, PartRun(name=self.part.name, host_bytes=moved, wall_s=time.perf_counter() - began)

    def state(self, name: str) -> Array:
        raise CheckError(f"there is no state {name} on the host")

    def close(self) -> None: ...


def _size(program: Program) -> int:
    return INSTRUCTION_BYTES * len(program.instructions)


def _macs(part: ChipPart, arguments: Mapping[str, int]) -> int:
    return sum(macs(part.lowered, step, arguments) for step in part.lowered.steps)


def different(left: Mapping[str, Array], right: Mapping[str, Array]) -> int:
    """Bytes that differ between two sets of arrays of the same names and shapes."""
    return sum(
        int(
            np.count_nonzero(
                np.ascontiguousarray(value).reshape(-1).view(np.uint8)
                != np.ascontiguousarray(right[name]).reshape(-1).view(np.uint8)
            )
        )
        for name, value in left.items()
    )
