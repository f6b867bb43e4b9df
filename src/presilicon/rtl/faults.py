"""Keeps the first error of a core, and stops all of it."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from presilicon.rtl.engine import PC_BITS

FAULT = data.StructLayout(
    {"error": unsigned(1), "code": unsigned(8), "engine": unsigned(3), "pc": unsigned(PC_BITS), "info": unsigned(32)}
)
"""One source of errors: a pulse, and what it says."""


class Faults(Component):
    """The first ``error`` of ``count`` sources is ``kept`` from the cycle after; ``now`` is its cycle. Lower numbers first."""

    def __init__(self, count: int) -> None:
        self._count = count
        super().__init__({"sources": In(FAULT).array(count), "kept": Out(FAULT), "now": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        with m.If(~self.kept.error):
            for number in range(self._count):
                with m.If(self.sources[number].error) if number == 0 else m.Elif(self.sources[number].error):
                    m.d.comb += self.now.eq(1)
                    m.d.sync += self.kept.eq(self.sources[number])
        return m
