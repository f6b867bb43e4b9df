"""Scratchpad: banks of two SRAMs behind private ports of any byte address (section 1 of the template)."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.template import ENGINES, Core

# Engine that an error of the port is blamed on.
PORTS = {"x": "matmul", "w": "matmul", "v": "vector", "s": "store", "l": "load", "vw": "vector"}
READS = ("x", "w", "v", "s")
WRITES = ("l", "vw")


def port_bytes(core: Core) -> dict[str, int]:
    """Bytes of the widest access of each port."""
    weights = max(core.rows, core.cols * core.weight_rows_per_cycle)
    return {"x": core.rows, "w": weights, "v": 4 * core.lanes, "s": core.bus_bytes, "l": core.bus_bytes, "vw": 4 * core.lanes}


class Scratchpad(wiring.Component):
    """The scratchpad of a core.

    Read ports ``x``, ``w`` (matmul), ``v`` (vector), ``s`` (store): ``*_en``, ``*_address``, ``*_count`` in cycle t, ``*_data``
    (byte 0 first) from t + ``scratchpad_read_cycles`` until the data of the next read; bytes at and beyond ``count`` are not to
    be relied upon. Write ports ``l`` (load), ``vw`` (vector): the first ``count`` bytes are written, and reads of
    ``scratchpad_write_cycles`` later see them. ``error`` is a pulse with its code (3 address, 5 and 6 conflicts in a bank), the
    engine blamed and as info the address (bits 0-23) and the number of the port in ``PORTS`` (from bit 28).
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        members: dict[str, In | Out] = {}
        for port, width in port_bytes(core).items():
            members |= {
                f"{port}_en": In(1),
                f"{port}_address": In(24),
                f"{port}_count": In(range(width + 1)),
                f"{port}_data": Out(8 * width) if port in READS else In(8 * width),
            }
        errors = {"error": Out(1), "error_code": Out(8), "error_engine": Out(range(len(ENGINES))), "error_info": Out(32)}
        super().__init__(members | errors)

    def elaborate(self, platform: object) -> Elaboratable:
        """Nothing yet but the ports."""
        return Module()
