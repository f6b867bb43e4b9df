"""The issue unit of one engine: waits for semaphores, starts the engine, signals when an instruction is done."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import SEMAPHORE_BITS
from presilicon.rtl.engine import PC_BITS

FLIGHT = data.StructLayout({"signal": unsigned(SEMAPHORE_BITS), "sync": unsigned(1), "pc": unsigned(PC_BITS)})
"""What is kept of an instruction in flight."""


class Issue(Component):
    """Takes the head of a queue, and keeps the masks of up to ``flight`` instructions until they are done.

    The head is issued in a cycle where it is ``visible``, the engine is ``ready`` and every semaphore of its wait mask is
    above 0 (``take`` lowers those). ``signals`` is the mask of the instruction that is done in this cycle (``retired``): at
    most one a cycle, in order. A ``sync`` is done when it is issued, or the cycle after its predecessor. ``busy``:
    instructions are in flight as of the cycle before. ``waiting``: only semaphores keep the head back.
    """

    def __init__(self, flight: int = 16) -> None:
        assert flight in (2, 4, 8, 16), flight
        self._flight = flight
        super().__init__(
            {
                "stop": In(1),
                # the head of the queue
                "visible": In(1),
                "wait_mask": In(SEMAPHORE_BITS),
                "signal_mask": In(SEMAPHORE_BITS),
                "sync": In(1),
                "pc": In(PC_BITS),
                "pop": Out(1),
                # the engine
                "ready": In(1),
                "start": Out(1),
                "done": In(1),
                # semaphores
                "positive": In(SEMAPHORE_BITS),
                "take": Out(SEMAPHORE_BITS),
                "signals": Out(SEMAPHORE_BITS),
                "retired": Out(1),
                # for status and counters
                "busy": Out(1),
                "waiting": Out(1),
                "oldest_pc": Out(PC_BITS),
                "youngest_pc": Out(PC_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        flight = self._flight
        m.submodules.flying = flying = Memory(shape=FLIGHT, depth=flight, init=[])
        write, read = flying.write_port(), flying.read_port(domain="comb")
        count = Signal(range(flight + 1))
        first, free = Signal(range(flight)), Signal(range(flight))
        finished = Signal(range(flight + 1))  # done pulses of the engine whose instruction stands behind a sync

        may, satisfied, some = Signal(), Signal(), Signal()
        at_once, keep = Signal(), Signal()
        m.d.comb += [
            some.eq(count != 0),
            may.eq(self.visible & self.ready & (count < flight) & ~self.stop),
            satisfied.eq((self.wait_mask & ~self.positive) == 0),
            self.pop.eq(may & satisfied),
            self.waiting.eq(may & ~satisfied),
            self.take.eq(Mux(self.pop, self.wait_mask, 0)),
            self.start.eq(self.pop & ~self.sync),
            at_once.eq(self.pop & self.sync & ~some),
            keep.eq(self.pop & ~at_once),
            write.addr.eq(free),
            write.en.eq(keep),
            write.data.signal.eq(self.signal_mask),
            write.data.sync.eq(self.sync),
            write.data.pc.eq(self.pc),
            read.addr.eq(first),
            self.busy.eq(some),
            self.oldest_pc.eq(Mux(some, read.data.pc, self.youngest_pc)),
        ]
        retire, by_engine = Signal(), Signal()
        m.d.comb += [
            by_engine.eq(some & ~read.data.sync & (self.done | (finished != 0))),
            retire.eq(by_engine | (some & read.data.sync)),
            self.retired.eq(retire | at_once),
            self.signals.eq(Mux(retire, read.data.signal, Mux(at_once, self.signal_mask, 0))),
        ]
        m.d.sync += [
            count.eq(count + keep - retire),
            free.eq(free + keep),
            first.eq(first + retire),
            finished.eq(finished + self.done - by_engine),
        ]
        with m.If(self.pop):
            m.d.sync += self.youngest_pc.eq(self.pc)
        return m
