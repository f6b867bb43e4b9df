"""Vector unit: micro-sequencer, address generators and lanes (section "VECTOR" of the template)."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.engine import engine_ports
from presilicon.template import Core


class Vector(wiring.Component):
    """The vector engine of a core.

    Ports: ``engine_ports("vector")``; ``read_*`` and ``write_*``, the scratchpad's ports ``v`` (``count`` in bytes, data in a
    register ``scratchpad_read_cycles`` after ``read_en``); ``acc_*``, the accumulators' read port (data as late);
    ``kernel_*``, a beat of ``bus_bytes`` for the kernel memory at a byte address; ``table_*``, one entry for all lanes.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        width = 4 * core.lanes
        super().__init__(
            {
                **engine_ports("vector"),
                "read_en": Out(1),
                "read_address": Out(24),
                "read_count": Out(range(width + 1)),
                "read_data": In(8 * width),
                "write_en": Out(1),
                "write_address": Out(24),
                "write_count": Out(range(width + 1)),
                "write_data": Out(8 * width),
                "acc_en": Out(1),
                "acc_bank": Out(1),
                "acc_row": Out(16),
                "acc_chunk": Out(range(max(core.chunks, 2))),
                "acc_data": In(8 * width),
                "kernel_en": In(1),
                "kernel_address": In(range(16 * core.kernel_slots)),
                "kernel_data": In(8 * core.bus_bytes),
                "table_en": In(1),
                "table_address": In(9),
                "table_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Nothing yet but the ports."""
        m = Module()
        m.d.comb += self.ready.eq(0)
        return m
