"""LOAD engine: rows of DRAM to the scratchpad, the tables, the kernel, index and instruction memories."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl import axi
from presilicon.rtl.engine import engine_ports
from presilicon.template import Core

__all__ = ["In", "Load"]


class Load(wiring.Component):
    """Skeleton: ports only."""

    def __init__(self, core: Core) -> None:
        self.core = core
        bus = core.bus_bytes
        super().__init__(
            {
                **engine_ports("load"),
                "axi": Out(axi.read_port(bus)),
                "spad_en": Out(1),
                "spad_address": Out(24),
                "spad_data": Out(8 * bus),
                "spad_count": Out(range(bus + 1)),
                "side_en": Out(1),
                "side_target": Out(3),
                "side_address": Out(24),
                "side_data": Out(8 * bus),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return Module()
