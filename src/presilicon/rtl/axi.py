"""AXI4 as the core uses it: read and write ports, the burst splitter, and the full set of signals at the top.

Inside a core a port carries only what varies. Every burst is INCR, of whole beats of the bus, aligned down to a beat, within
4 KB, with ID 0; the top adds those constants (``top_members``, ``connect_top``).
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 40
PAGE_BYTES = 4096
OKAY = 0


def read_port(bus_bytes: int) -> wiring.Signature:
    """Manager's side of the AR and R channels, without the constants."""
    return wiring.Signature(
        {
            "araddr": Out(ADDRESS_BITS),
            "arlen": Out(8),
            "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(8 * bus_bytes),
            "rresp": In(2),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
    )


def write_port(bus_bytes: int) -> wiring.Signature:
    """Manager's side of the AW, W and B channels, without the constants."""
    return wiring.Signature(
        {
            "awaddr": Out(ADDRESS_BITS),
            "awlen": Out(8),
            "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(8 * bus_bytes),
            "wstrb": Out(bus_bytes),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(2),
            "bvalid": In(1),
            "bready": Out(1),
        }
    )


def _constants(bus_bytes: int, channel: str) -> dict[str, tuple[int, int]]:
    """Width and value of the signals of an address channel that never change."""
    return {
        f"{channel}id": (1, 0),
        f"{channel}size": (3, bus_bytes.bit_length() - 1),
        f"{channel}burst": (2, 0b01),
        f"{channel}lock": (1, 0),
        f"{channel}cache": (4, 0b0011),
        f"{channel}prot": (3, 0),
        f"{channel}qos": (4, 0),
    }


def top_members(bus_bytes: int, prefix: str = "m_axi_") -> dict[str, wiring.Member]:
    """Every AXI4 signal of a manager as a flat member of the top, under its standard name behind ``prefix``."""
    members = {f"{prefix}{name}": member for name, member in read_port(bus_bytes).members.items()}
    members |= {f"{prefix}{name}": member for name, member in write_port(bus_bytes).members.items()}
    for channel in ("ar", "aw"):
        members |= {f"{prefix}{name}": Out(width) for name, (width, _) in _constants(bus_bytes, channel).items()}
    return members | {f"{prefix}rid": In(1), f"{prefix}bid": In(1)}


def connect_top(m: Module, top: object, read: object, write: object, bus_bytes: int, prefix: str = "m_axi_") -> None:
    """Wire a read and a write port to the flat members of ``top``, and drive the constants."""
    for port, signature in ((read, read_port(bus_bytes)), (write, write_port(bus_bytes))):
        for name, member in signature.members.items():
            outside, inside = Value.cast(getattr(top, prefix + name)), Value.cast(getattr(port, name))
            if member.flow == Out:
                m.d.comb += outside.eq(inside)
            else:
                m.d.comb += inside.eq(outside)
    for channel in ("ar", "aw"):
        for name, (_, value) in _constants(bus_bytes, channel).items():
            m.d.comb += getattr(top, prefix + name).eq(value)


class BurstSplitter(wiring.Component):
    """The next burst of ``left`` bytes (at least 1) from byte ``address`` on: all of them, or up to the end of the page.

    ``bytes`` it moves, ``offset`` of the first within its beat, ``length`` its beats - 1 (at most 255: a page has 256 beats of
    16 bytes), ``final`` where nothing is left behind it. Combinational.
    """

    def __init__(self, bus_bytes: int, left_bits: int) -> None:
        self._shift = bus_bytes.bit_length() - 1
        super().__init__(
            {
                "address": In(ADDRESS_BITS),
                "left": In(left_bits),
                "bytes": Out(range(PAGE_BYTES + 1)),
                "offset": Out(self._shift),
                "length": Out(8),
                "final": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        page_bits = PAGE_BYTES.bit_length() - 1
        room = Signal(range(PAGE_BYTES + 1))
        last = Signal(range(2 * PAGE_BYTES))
        m.d.comb += [
            room.eq(PAGE_BYTES - self.address[:page_bits]),
            self.final.eq(self.left <= room),
            self.bytes.eq(Mux(self.final, self.left, room)),
            self.offset.eq(self.address[: self._shift]),
            last.eq(self.offset + self.bytes - 1),
            self.length.eq(last >> self._shift),
        ]
        return m


def aligned(address: Value, bus_bytes: int) -> Value:
    """``address`` down to the beat it lies in."""
    shift = bus_bytes.bit_length() - 1
    return Cat(Const(0, shift), address[shift:])
