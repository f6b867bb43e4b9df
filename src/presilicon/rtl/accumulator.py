"""Accumulators: two banks of int32 rows, added to by the array and read by the vector unit (section 1 of the template)."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.array import sum_bits
from presilicon.template import ENGINES, Core


class Accumulators(wiring.Component):
    """Both accumulator banks of a core.

    ``add_*``: in cycle t the row; ``sums`` (``sum_bits`` a column, column 0 first) two cycles later; written in t + 3, so that
    what reads from t + ``accumulate_cycles`` on sees it. ``add_keep`` 0: the row's old value counts as 0.
    ``read_*``: ``lanes`` int32 of a row, ``read_data`` three cycles after ``read_en``, until the data of the next read.
    ``error``: a pulse with its code (4 row, 5 both read one bank), the engine blamed, and as info the row (bits 0-23) and the
    bank (bit 24).
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__(
            {
                "add_en": In(1),
                "add_bank": In(1),
                "add_row": In(24),
                "add_keep": In(1),
                "sums": In(core.cols * sum_bits(core)),
                "read_en": In(1),
                "read_bank": In(1),
                "read_row": In(16),
                "read_chunk": In(range(max(core.chunks, 2))),
                "read_data": Out(32 * core.lanes),
                "error": Out(1),
                "error_code": Out(8),
                "error_engine": Out(range(len(ENGINES))),
                "error_info": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Nothing yet but the ports."""
        return Module()
