"""The AXI4-Lite subordinate in front of the control registers."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Member, Out

ADDRESS_BITS = 16
OKAY, SLVERR = 0, 2


def axi_lite_members(prefix: str = "s_axil_") -> dict[str, Member]:
    """The signals of a subordinate with 32 data bits, as flat members under their standard names behind ``prefix``."""
    members = {
        "awaddr": In(ADDRESS_BITS),
        "awprot": In(3),
        "awvalid": In(1),
        "awready": Out(1),
        "wdata": In(32),
        "wstrb": In(4),
        "wvalid": In(1),
        "wready": Out(1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(ADDRESS_BITS),
        "arprot": In(3),
        "arvalid": In(1),
        "arready": Out(1),
        "rdata": Out(32),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }
    return {prefix + name: member for name, member in members.items()}


class AxiLite(Component):
    """One access at a time: in the cycle of ``write`` or ``read``, ``answer`` and ``refused`` belong to ``address``.

    Every output is a register. A write with some strobes low changes nothing and is answered with an error, as AXI allows;
    so is an access that is ``refused``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                **axi_lite_members(""),
                "write": Out(1),
                "read": Out(1),
                "address": Out(ADDRESS_BITS),
                "data": Out(32),
                "answer": In(32),
                "refused": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        write_address, read_address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        have_address, have_data, have_read, whole = Signal(), Signal(), Signal(), Signal()
        may_write, may_read = Signal(), Signal()
        m.d.comb += [
            self.awready.eq(~have_address),
            self.wready.eq(~have_data),
            self.arready.eq(~have_read),
            may_write.eq(have_address & have_data & ~self.bvalid),
            may_read.eq(have_read & ~self.rvalid & ~may_write),
            self.write.eq(may_write & whole),
            self.read.eq(may_read),
        ]
        with m.If(may_write):
            m.d.comb += self.address.eq(write_address)
        with m.Else():
            m.d.comb += self.address.eq(read_address)

        with m.If(self.awvalid & self.awready):
            m.d.sync += [have_address.eq(1), write_address.eq(self.awaddr)]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [have_data.eq(1), self.data.eq(self.wdata), whole.eq(self.wstrb.all())]
        with m.If(self.arvalid & self.arready):
            m.d.sync += [have_read.eq(1), read_address.eq(self.araddr)]

        with m.If(self.bvalid & self.bready):
            m.d.sync += self.bvalid.eq(0)
        with m.If(self.rvalid & self.rready):
            m.d.sync += self.rvalid.eq(0)
        with m.If(may_write):
            m.d.sync += [self.bvalid.eq(1), have_address.eq(0), have_data.eq(0)]
            with m.If(whole & ~self.refused):
                m.d.sync += self.bresp.eq(OKAY)
            with m.Else():
                m.d.sync += self.bresp.eq(SLVERR)
        with m.If(may_read):
            m.d.sync += [self.rvalid.eq(1), have_read.eq(0), self.rdata.eq(self.answer), self.rresp.eq(OKAY)]
            with m.If(self.refused):
                m.d.sync += self.rresp.eq(SLVERR)
        return m
