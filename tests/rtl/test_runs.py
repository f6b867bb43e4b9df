"""Whole runs of the smallest core: cycles of LOAD and STORE against the template, memory, errors, limits, wave forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dma_bench import LoadTime, StoreTime, load_entries, store_entries

from levels import core
from presilicon import isa
from presilicon.dram import Dram, DramOptions
from presilicon.rtl.runner import Launch, RtlError, RtlMachine

CORE = core("core-4x4")
BYTES = 1 << 17
AT, FROM, TO = 0x400, 0x4000, 0x10000
OPTIONS = DramOptions(latency=31, num=3, den=2, row_bytes=1024, row_miss=8, stall_seed=5, stall_max=30, stall_percent=50)
LOAD = isa.load(dram=FROM + 5, spad=3, n1=6, n2=2, run=333, stride1=400, stride2=5000, pitch=340, left=4, right=3, fill=7)
SECOND = {"dram": FROM, "spad": 8192, "run": 5000}
STORE = {"dram": TO + 9, "spad": 3, "n1": 4, "run": 700, "stride1": 1024, "pitch": 900}
PROGRAM = [isa.loop(2, 3), LOAD, isa.load(**SECOND), isa.end(), LOAD, isa.load(**SECOND, signal=("store",))]
PROGRAM += [isa.store(**STORE, wait=("load",)), isa.store(**STORE), isa.store(**STORE), isa.halt()]


def image(program: list[isa.Instruction]) -> tuple[np.ndarray, Launch]:
    memory = np.random.default_rng(8).integers(0, 256, BYTES, dtype=np.uint8)
    code = np.frombuffer(b"".join(i.encode() for i in program), np.uint8)
    memory[AT : AT + code.size] = code
    return memory, Launch(address=AT, size_bytes=code.size)


def boot(launch: Launch) -> isa.Instruction:
    """The LOAD that every run begins with."""
    return isa.load(dram=AT, spad=0, run=launch.size_bytes, target=4)


def moved(memory: np.ndarray) -> np.ndarray:
    """The memory after PROGRAM."""
    want, spad = memory.copy(), np.zeros(CORE.scratchpad_bytes, np.uint8)
    for i in (PROGRAM[1], PROGRAM[2]):
        f = i.resolve([0] * 16)
        for e in load_entries(f, np.zeros(0)):
            spad[e.place : e.place + e.bytes] = memory[e.address : e.address + e.bytes] if e.data else f["fill"]
    for e in store_entries(PROGRAM[6].resolve([0] * 16)):
        want[e.address : e.address + e.bytes] = spad[e.place : e.place + e.bytes]
    return want


def test_events_are_those_of_the_template() -> None:
    """Reads only, then writes only: each done follows from its issue by sections 4 to 6, and the registers agree."""
    memory, launch = image(PROGRAM)
    want = moved(memory)
    with RtlMachine(CORE, memory, OPTIONS) as machine:
        run = machine.run([launch], events=True, max_cycles=200000)
        assert run.fault is None
        assert run.cycles == run.counters[0]["CYCLES"] == run.core_cycles[0]
        assert run.counters[0]["READ_BYTES"] == run.read_beats * CORE.bus_bytes
        assert run.counters[0]["WRITE_BYTES"] == run.write_beats * CORE.bus_bytes
    np.testing.assert_array_equal(memory, want)
    loads, stores = ([e for e in run.events if e.engine == engine] for engine in ("load", "store"))
    assert [e.pc for e in loads[1:]] == [1, 2, 1, 2, 4, 5]
    assert [e.pc for e in stores] == [6, 7, 8]
    dram = Dram(OPTIONS)
    time = LoadTime(CORE.bus_bytes, dram)
    for event, i in zip(loads, [boot(launch), *(PROGRAM[e.pc] for e in loads[1:])], strict=True):
        f = i.resolve([0] * 16)
        assert event.done == time.run(f, load_entries(f, np.zeros(0)), event.issue)[1], event
    assert stores[0].issue == loads[-1].done + 1
    times = StoreTime(CORE.bus_bytes, dram)
    for event in stores:
        f = PROGRAM[event.pc].resolve([0] * 16)
        assert event.done == times.run(f, store_entries(f), event.issue)[1], event
    assert run.cycles == stores[-1].done + 1


def test_back_pressure_changes_no_byte() -> None:
    memory, launch = image(PROGRAM)
    want = moved(memory)
    seen = []
    for percent in (0, 30, 70):
        again = memory.copy()
        with RtlMachine(CORE, again, DramOptions(back_pressure=percent, stall_seed=percent)) as machine:
            seen.append(machine.run([launch], max_cycles=500000).cycles)
        np.testing.assert_array_equal(again, want)
    assert seen[0] < seen[1] < seen[2]


@pytest.mark.parametrize(("at", "code", "engine"), [(FROM + 700, 9, "load"), (TO + 1100, 10, "store")])
def test_bus_error_and_recovery(at: int, code: int, engine: str) -> None:
    """SLVERR stops the core, which says where; after a reset through the register it runs a program that stays clear."""
    memory, launch = image(PROGRAM)
    calm = [isa.load(dram=0, spad=0, run=256, signal=("store",)), isa.store(dram=64, spad=0, run=8, wait=("load",)), isa.halt()]
    with RtlMachine(CORE, memory, bad=range(at, at + 16)) as machine:
        run = machine.run([launch], max_cycles=200000)
        assert run.fault is not None
        assert (run.fault.code, run.fault.engine) == (code, engine)
        assert PROGRAM[run.fault.pc].op == engine
        machine.write("CONTROL", 2)
        memory[:], launch = image(calm)
        assert machine.read("STATUS") & 0xF == 0
        assert machine.run([launch], max_cycles=10000).fault is None


def test_beyond_the_memory() -> None:
    memory, launch = image([isa.load(dram=BYTES - 64, spad=0, run=128), isa.halt()])
    with RtlMachine(CORE, memory) as machine:
        fault = machine.run([launch], max_cycles=10000).fault
    assert fault is not None
    assert (fault.code, fault.engine, fault.pc, fault.info) == (9, "load", 0, 64)


def test_limits() -> None:
    """A wait for nobody: the watchdog ends it, or the caller's limit; progress is told and may interrupt."""
    memory, launch = image([isa.sync(engine="load", wait=("store",)), isa.halt()])
    with RtlMachine(CORE, memory) as machine:
        fault = machine.run([launch], watchdog=500).fault
        assert fault is not None
        assert fault.code == 11
        machine.write("CONTROL", 2)
        with pytest.raises(RtlError, match="did not halt in 5000 cycles"):
            machine.run([launch], max_cycles=5000)
    told: list[tuple[int, float]] = []

    def stop(cycles: int, cycles_per_s: float) -> None:
        told.append((cycles, cycles_per_s))
        raise KeyboardInterrupt

    with RtlMachine(CORE, memory) as machine, pytest.raises(KeyboardInterrupt):
        machine.run([launch], progress=stop)
    assert told[0][0] > 0
    assert told[0][1] > 0


def test_wave_form(tmp_path: Path) -> None:
    """Every signal, under the names of the blocks."""
    memory, launch = image([isa.load(dram=0, spad=0, run=64), isa.halt()])
    with RtlMachine(CORE, memory, vcd=tmp_path / "run.vcd") as machine:
        machine.run([launch], max_cycles=10000)
    text = (tmp_path / "run.vcd").read_text()
    for name in ("presilicon_top", "core_0", "scratchpad", "sequencer", "m_axi_araddr"):
        assert f" {name} " in text, name
