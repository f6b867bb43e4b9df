"""LOAD engine: rows of DRAM to the scratchpad, the tables, the kernel, index and instruction memories."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl import axi
from presilicon.rtl.engine import engine_members
from presilicon.template import Core

__all__ = ["In", "Load"]


class Load(wiring.Component):
    """Skeleton: ports only."""

    def __init__(self, core: Core) -> None:
        self.core = core
        bus = core.bus_bytes
        super().__init__(
            {
                **engine_members("load"),
                "axi": Out(axi.read_port(bus)),
                "spad_en": Out(1),
                "spad_address": Out(24),
                "spad_data": Out(8 * bus),
                "spad_count": Out(range(bus + 1)),
                "table_en": Out(1),
                "table_address": Out(9),
                "table_data": Out(32),
                "kernel_en": Out(1),
                "instruction_en": Out(1),
                "memory_address": Out(24),
                "memory_data": Out(8 * bus),
            }
        )

    def elaborate(self, platform: object) -> Module:
        return Module()
