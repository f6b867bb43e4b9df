"""The stack of the loops that the sequencer is in."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out

DEPTH = 4
COUNT_BITS = 24


class Loops(Component):
    """Up to four nested loops: where the innermost one's ``body`` begins, and whether this pass of it is the ``last``.

    ``enter`` pushes a loop that begins at ``first`` and has ``count`` (at least 1), ``again`` begins its next pass, ``leave``
    drops it: one of them a cycle, none where ``full`` or ``empty`` forbids it. ``clear`` drops all.
    """

    def __init__(self, pc_bits: int) -> None:
        self._pc_bits = pc_bits
        super().__init__(
            {
                "clear": In(1),
                "enter": In(1),
                "again": In(1),
                "leave": In(1),
                "first": In(pc_bits),
                "count": In(COUNT_BITS),
                "body": Out(pc_bits),
                "last": Out(1),
                "full": Out(1),
                "empty": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        depth = Signal(range(DEPTH + 1))
        bodies = [Signal(self._pc_bits, name=f"body{i}") for i in range(DEPTH)]  # 0: the innermost
        counts = [Signal(COUNT_BITS, name=f"left{i}") for i in range(DEPTH)]
        m.d.comb += [
            self.body.eq(bodies[0]),
            self.last.eq(counts[0] == 1),
            self.full.eq(depth == DEPTH),
            self.empty.eq(depth == 0),
        ]
        with m.If(self.clear):
            m.d.sync += depth.eq(0)
        with m.Elif(self.enter):
            m.d.sync += [depth.eq(depth + 1), bodies[0].eq(self.first), counts[0].eq(self.count)]
            m.d.sync += [outer.eq(inner) for inner, outer in pairwise(bodies)]
            m.d.sync += [outer.eq(inner) for inner, outer in pairwise(counts)]
        with m.Elif(self.leave):
            m.d.sync += depth.eq(depth - 1)
            m.d.sync += [inner.eq(outer) for inner, outer in pairwise(bodies)]
            m.d.sync += [inner.eq(outer) for inner, outer in pairwise(counts)]
        with m.Elif(self.again):
            m.d.sync += counts[0].eq(counts[0] - 1)
        return m
