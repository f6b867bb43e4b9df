"""STORE engine: rows of the scratchpad to DRAM."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl import axi
from presilicon.rtl.engine import engine_ports
from presilicon.template import Core


class Store(wiring.Component):
    """Skeleton: ports only."""

    def __init__(self, core: Core) -> None:
        self.core = core
        bus = core.bus_bytes
        super().__init__(
            {
                **engine_ports("store"),
                "axi": Out(axi.write_port(bus)),
                "spad_en": Out(1),
                "spad_address": Out(24),
                "spad_count": Out(range(bus + 1)),
                "spad_data": In(8 * bus),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return Module()
