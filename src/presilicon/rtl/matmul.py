"""Matmul engine: weight fetch, moving rows, the array (section 7 of the template)."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.array import sum_bits
from presilicon.rtl.engine import engine_ports
from presilicon.rtl.scratchpad import port_bytes
from presilicon.template import Core


class Matmul(wiring.Component):
    """The matmul engine of a core, with its array.

    Ports: ``engine_ports("matmul")``; ``x_*`` and ``w_*``, the scratchpad's read ports; ``add_*`` and ``sums``, the port of the
    same names of the accumulators.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        width = port_bytes(core)
        super().__init__(
            {
                **engine_ports("matmul"),
                "x_en": Out(1),
                "x_address": Out(24),
                "x_count": Out(range(width["x"] + 1)),
                "x_data": In(8 * width["x"]),
                "w_en": Out(1),
                "w_address": Out(24),
                "w_count": Out(range(width["w"] + 1)),
                "w_data": In(8 * width["w"]),
                "add_en": Out(1),
                "add_bank": Out(1),
                "add_row": Out(24),
                "add_keep": Out(1),
                "sums": Out(core.cols * sum_bits(core)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Nothing yet but the ports."""
        return Module()
