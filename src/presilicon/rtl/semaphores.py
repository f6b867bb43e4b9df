"""The counting semaphores between engines."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from presilicon.template import ENGINES

COUNTER_BITS = 6
PAIRS = data.ArrayLayout(unsigned(len(ENGINES)), len(ENGINES))
"""A mask an engine."""


class Semaphores(Component):
    """A counter for each pair (source, destination) of engines, 0 to 63.

    ``signals[s]`` has a bit for each destination that source s signals in this cycle, ``take[d]`` a bit for each source whose
    counter destination d takes one from; ``positive[d]`` a bit for each source whose counter is above 0. A change is seen in
    the next cycle. ``overflow`` is a pulse with the source and destination of the counter that had no room.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "signals": In(PAIRS),
                "take": In(PAIRS),
                "positive": Out(PAIRS),
                "overflow": Out(1),
                "overflow_source": Out(3),
                "overflow_destination": Out(3),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        full: list[Signal] = []
        for s in range(len(ENGINES)):
            for d in range(len(ENGINES)):
                counter = Signal(COUNTER_BITS, name=f"{ENGINES[s]}_to_{ENGINES[d]}")
                more, less = self.signals[s][d], self.take[d][s]
                m.d.comb += self.positive[d][s].eq(counter != 0)
                with m.If(self.clear):
                    m.d.sync += counter.eq(0)
                with m.Elif(more & ~less):
                    m.d.sync += counter.eq(counter + 1)
                with m.Elif(less & ~more):
                    m.d.sync += counter.eq(counter - 1)
                over = Signal(name=f"{ENGINES[s]}_to_{ENGINES[d]}_full")
                m.d.comb += over.eq(more & ~less & counter.all())
                full.append(over)
                with m.If(over):
                    m.d.comb += [self.overflow_source.eq(s), self.overflow_destination.eq(d)]
        m.d.comb += self.overflow.eq(Cat(full).any())
        return m
