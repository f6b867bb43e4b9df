"""A short first-in first-out memory of registers, whose oldest entry is a register that may be worked on in place."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out


class Fifo(Component):
    """``depth`` entries of ``shape`` that shift towards the head.

    An entry pushed in cycle p is seen from p + 1. ``push`` only where ``room``, ``pop`` and ``change`` only where ``valid``.
    ``change`` replaces the head by ``changed`` (not together with ``pop``). A pop makes room from the next cycle on.
    """

    def __init__(self, shape: Any, depth: int) -> None:
        self._shape, self._depth = shape, depth
        super().__init__(
            {
                "push": In(1),
                "entry": In(shape),
                "room": Out(1),
                "pop": In(1),
                "change": In(1),
                "changed": In(shape),
                "valid": Out(1),
                "head": Out(shape),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = self._depth
        slots = [Signal(self._shape, name=f"slot{i}", reset_less=True) for i in range(depth)]
        # used[i]: slot i holds an entry; a unary count, so that each slot's next value needs one bit of it.
        used = Signal(depth)
        m.d.comb += [self.valid.eq(used[0]), self.room.eq(~used[-1]), self.head.eq(slots[0])]
        kept = Signal(depth)
        m.d.comb += kept.eq(Mux(self.pop, used >> 1, used))
        m.d.sync += used.eq(Mux(self.push, (kept << 1) | 1, kept))
        for i, slot in enumerate(slots):
            with m.If(self.push & ~kept[i] & (kept[i - 1] if i else 1)):
                m.d.sync += slot.eq(self.entry)
            if i + 1 < depth:
                with m.Elif(self.pop):
                    m.d.sync += slot.eq(slots[i + 1])
            if i == 0:
                with m.If(self.change):
                    m.d.sync += slot.eq(self.changed)
        return m
