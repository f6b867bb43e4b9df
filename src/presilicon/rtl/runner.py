"""Whole runs of the RTL: a memory image in, cycles, counters, errors and what each engine did out."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from presilicon.dram import DramOptions
from presilicon.errors import PresiliconError
from presilicon.rtl.build import BuildOptions, build, building, digest, lint, versions
from presilicon.rtl.register_map import COUNTERS, PAGE_BYTES, offset, register
from presilicon.template import ENGINES, Core

__all__ = ["Event", "Launch", "RtlError", "RtlFault", "RtlMachine", "RtlRun", "lint", "verilog_of"]

Progress = Callable[[int, float], None]
"""Called about five times a second with the cycles so far and the cycles per second."""

_FIRST_CHUNK = 1 << 12
_TICK_S = 0.2


class RtlError(PresiliconError):
    """The run did not end, or the hardware broke a rule of its bus: a defect of the RTL, not of the program."""

    exit_code = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a core is started with: the program's place in DRAM, its size, and registers r1 to r15 by number."""

    address: int
    size_bytes: int
    arguments: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RtlFault:
    """The first error of a core: its code (section 9 of the instruction page), where, and about what."""

    code: int
    engine: str
    pc: int
    info: int


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """An instruction that an engine did: cycles of its issue and of its done, counted from the run's start."""

    issue: int
    done: int
    core: int
    engine: str
    pc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RtlRun:
    """A run: ``cycles`` from the start pulse to the last core's halt (or first error); by core what concerns a core."""

    cycles: int
    core_cycles: tuple[int, ...]
    faults: tuple[RtlFault | None, ...]
    counters: tuple[Mapping[str, int], ...]
    read_bursts: int
    read_beats: int
    write_bursts: int
    write_beats: int
    events: tuple[Event, ...]
    cycles_per_s: float

    @property
    def fault(self) -> RtlFault | None:
        """The first core's fault that there is."""
        return next((fault for fault in self.faults if fault), None)


class _Options(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in (*asdict(DramOptions()), "bad_begin", "bad_end")]


class _Event(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("core", "engine", "pc", "unused")] + [
        (name, ctypes.c_int64) for name in ("issue", "done")
    ]


_TOTALS = ("read_bursts", "read_beats", "write_bursts", "write_beats", "now", "running", "failed", "violations")


def verilog_of(core: Core) -> str:
    """Verilog of a whole chip: module ``presilicon_top`` and all below it."""
    from presilicon.rtl.hierarchy import verilog
    from presilicon.rtl.top import MODULE, Top

    return verilog(Top(core), MODULE)


def library(core: Core, options: BuildOptions | None = None) -> Path:
    """Shared object of a core's RTL; found by hash of the sources, so that nothing is emitted where it was built before."""
    import importlib.metadata

    options = options or BuildOptions()
    root = resources.files("presilicon")
    sources = [root / "template.py", root / "isa" / "layout.py"]
    sources += sorted((f for f in (root / "rtl").iterdir() if f.name.endswith((".py", ".cpp", ".hpp"))), key=lambda f: f.name)
    amaranth = importlib.metadata.version("amaranth")
    key = digest(str(core), str(options), versions(), amaranth, *(source.read_text() for source in sources))
    with building(key) as (path, folder):
        if folder is not None:
            made = build(verilog_of(core), bus_bytes=core.bus_bytes, cores=core.cores, options=options)
            (folder / "link").hardlink_to(made)
            (folder / "link").replace(path)
    return path


class RtlMachine:
    """The RTL of a chip with its DRAM, ready to run programs; a context manager.

    ``memory``: uint8, C-contiguous, shared with the RTL: runs read and write it in place. ``vcd``: every signal of all that
    happens from now on goes to this file. ``verilog``: instead of the core's own (a mutant of it, say). ``bad``: addresses
    whose beats answer SLVERR.
    """

    def __init__(
        self,
        core: Core,
        memory: npt.NDArray[np.uint8],
        options: DramOptions | None = None,
        *,
        vcd: Path | None = None,
        verilog: str | None = None,
        bad: range = range(0),
    ) -> None:
        if memory.dtype != np.uint8 or not memory.flags.c_contiguous or not memory.flags.writeable:
            raise ValueError("memory must be a writable, contiguous uint8 array")
        self.core, self.memory = core, memory
        build_options = BuildOptions(vcd=vcd is not None)
        if verilog is None:
            path = library(core, build_options)
        else:
            path = build(verilog, bus_bytes=core.bus_bytes, cores=core.cores, options=build_options)
        self._totals_type = type(
            "_Totals",
            (ctypes.Structure,),
            {"_fields_": [*((name, ctypes.c_int64) for name in _TOTALS), ("end", ctypes.c_int64 * core.cores)]},
        )
        self._library = _declare(ctypes.CDLL(str(path)))
        self._options = _Options(**asdict(options or DramOptions()), bad_begin=bad.start, bad_end=bad.stop)
        self._handle: int | None = self._library.harness_open(
            memory.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8)), memory.size, ctypes.byref(self._options)
        )
        if vcd is not None and not self._library.harness_vcd(self._handle, str(vcd).encode()):
            raise PresiliconError("the wave form cannot be written", where=str(vcd))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the model, and end the wave form."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.harness_close(handle)

    def write(self, name: str, value: int, *, core: int = 0) -> None:
        """Write a register of the map, its low word first."""
        for word in range(register(name).words):
            self._answer(
                self._library.harness_write(
                    self._handle, core * PAGE_BYTES + offset(name) + 4 * word, value >> 32 * word & 0xFFFFFFFF
                )
            )

    def read(self, name: str, *, core: int = 0) -> int:
        """Read a register of the map, its low word first."""
        value, made = ctypes.c_uint32(), 0
        for word in range(register(name).words):
            at = core * PAGE_BYTES + offset(name) + 4 * word
            self._answer(self._library.harness_read(self._handle, at, ctypes.byref(value)))
            made |= value.value << 32 * word
        return made

    def reset(self) -> None:
        """Pull the chip's reset; the memory keeps what it holds."""
        self._library.harness_reset(self._handle)

    def run(
        self,
        launches: Sequence[Launch],
        *,
        max_cycles: int = 1 << 40,
        watchdog: int = 0,
        events: bool = False,
        progress: Progress | None = None,
    ) -> RtlRun:
        """Start core i with ``launches[i]`` (all of them in one cycle) and run until they halt or one of them fails.

        RtlError where ``max_cycles`` pass before, or AXI's rules were broken. Control-C ends it between two chunks.
        """
        if not 1 <= len(launches) <= self.core.cores:
            raise ValueError(f"{len(launches)} launches for {self.core.cores} cores")
        for number, launch in enumerate(launches):
            self.write("PROGRAM", launch.address, core=number)
            self.write("PROGRAM_BYTES", launch.size_bytes, core=number)
            self.write("WATCHDOG", watchdog, core=number)
            for argument, value in launch.arguments.items():
                self.write(f"ARG{argument}", value & (1 << 40) - 1, core=number)
        self._library.harness_arm(self._handle, (1 << len(launches)) - 1, int(events))
        everyone = len(launches) == self.core.cores and self.core.cores > 1
        for number in range(1 if everyone else len(launches)):
            self.write("CONTROL", 4 if everyone else 1, core=number)
        speed = self._until_the_end(max_cycles, progress)
        return self._result(len(launches), events, speed)

    def _until_the_end(self, max_cycles: int, progress: Progress | None) -> float:
        """Cycles per second of the run."""
        began = told = time.perf_counter()
        chunk = _FIRST_CHUNK
        while True:
            before = time.perf_counter()
            finished = self._library.harness_run(self._handle, min(chunk, max_cycles))
            now = time.perf_counter()
            totals = self._totals()
            speed = totals.now / max(now - began, 1e-9)
            if progress is not None and (finished or now - told >= _TICK_S):
                progress(totals.now, speed)
                told = now
            if finished:
                return float(speed)
            if totals.now >= max_cycles:
                raise RtlError(f"the RTL did not halt in {max_cycles} cycles", where=f"cores running: {totals.running:b}")
            chunk = max(_FIRST_CHUNK, int(chunk * _TICK_S / max(now - before, 1e-4)))
            chunk = min(chunk, max_cycles - totals.now)

    def _totals(self) -> ctypes.Structure:
        totals: ctypes.Structure = self._totals_type()
        self._library.harness_totals(self._handle, ctypes.byref(totals))
        return totals

    def _result(self, cores: int, events: bool, speed: float) -> RtlRun:
        totals = self._totals()
        if totals.violations:
            told = self._library.harness_violation(self._handle).decode()
            raise RtlError(f"the RTL broke a rule of AXI4 {totals.violations} times, first: {told}")
        ends = tuple(totals.end[:cores])
        return RtlRun(
            cycles=max(ends),
            core_cycles=ends,
            faults=tuple(self._fault(core) for core in range(cores)),
            counters=tuple({name: self.read(name, core=core) for name, _ in COUNTERS} for core in range(cores)),
            **{name: getattr(totals, name) for name in ("read_bursts", "read_beats", "write_bursts", "write_beats")},
            events=self._events() if events else (),
            cycles_per_s=speed,
        )

    def _fault(self, core: int) -> RtlFault | None:
        status = self.read("STATUS", core=core)
        if not status >> 2 & 1:
            return None
        return RtlFault(
            status >> 8 & 0xFF, ENGINES[status >> 16 & 7], self.read("ERROR_PC", core=core), self.read("ERROR_INFO", core=core)
        )

    def _events(self) -> tuple[Event, ...]:
        count = ctypes.c_int64()
        first = self._library.harness_events(self._handle, ctypes.byref(count))
        return tuple(
            sorted(Event(e.issue, e.done, e.core, ENGINES[e.engine], e.pc) for e in (first[i] for i in range(count.value)))
        )

    @staticmethod
    def _answer(response: int) -> None:
        if response:
            raise RtlError(
                "a register did not answer" if response < 0 else f"a register answered with AXI4-Lite response {response}"
            )


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Argument and result types of harness.cpp's functions."""
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    u32 = ctypes.c_uint32
    functions: Mapping[str, tuple[object, list[object]]] = {
        "open": (pointer, [ctypes.POINTER(ctypes.c_uint8), ctypes.c_uint64, ctypes.POINTER(_Options)]),
        "close": (None, [pointer]),
        "reset": (None, [pointer]),
        "write": (ctypes.c_int, [pointer, u32, u32]),
        "read": (ctypes.c_int, [pointer, u32, ctypes.POINTER(u32)]),
        "arm": (None, [pointer, ctypes.c_uint64, ctypes.c_int]),
        "run": (ctypes.c_int, [pointer, count]),
        "idle": (None, [pointer, count]),
        "totals": (None, [pointer, pointer]),
        "events": (ctypes.POINTER(_Event), [pointer, ctypes.POINTER(count)]),
        "violation": (ctypes.c_char_p, [pointer]),
    }
    for name, (result, arguments) in functions.items():
        function = getattr(library, f"harness_{name}")
        function.restype, function.argtypes = result, arguments
    if hasattr(library, "harness_vcd"):
        library.harness_vcd.restype, library.harness_vcd.argtypes = ctypes.c_int, [pointer, ctypes.c_char_p]
    return library
