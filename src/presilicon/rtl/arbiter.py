"""One AXI4 port for all cores: a burst at a time, in turn."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import Component, In, Out

from presilicon.rtl import axi
from presilicon.rtl.hierarchy import place


def id_bits(cores: int) -> int:
    """Width of the IDs at the port: they carry the core's number."""
    return max(1, (cores - 1).bit_length())


class Turn(Component):
    """Chooses one of ``count`` requests, beginning behind the one that was served last; combinational.

    ``chosen`` stays until ``served`` once it was offered, as AXI asks of an address.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        super().__init__(
            {"requests": In(count), "served": In(1), "offered": Out(1), "chosen": Out(range(count))},
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        last = Signal(range(self._count), init=self._count - 1)  # the first turn is number 0's
        held, holding = Signal(range(self._count)), Signal()
        m.d.comb += self.offered.eq(self.requests.any())
        with m.If(holding):
            m.d.comb += self.chosen.eq(held)
        with m.Else(), m.Switch(last):
            for number in range(self._count):
                with m.Case(number):
                    for distance in range(self._count, 0, -1):
                        candidate = (number + distance) % self._count
                        with m.If(self.requests[candidate]):
                            m.d.comb += self.chosen.eq(candidate)
        m.d.sync += [held.eq(self.chosen), holding.eq(self.offered & ~self.served)]
        with m.If(self.offered & self.served):
            m.d.sync += last.eq(self.chosen)
        return m


class Arbiter(Component):
    """The ports of ``cores`` cores as one: address channels take turns, data and answers go where they belong.

    Nothing is delayed: an address passes in the cycle in which it is chosen. Write data follow the order of the addresses.
    ``awid`` and ``arid`` are the core's number.
    """

    def __init__(self, cores: int, bus_bytes: int, outstanding: int) -> None:
        assert cores >= 2
        self._cores, self._outstanding = cores, outstanding
        ids = id_bits(cores)
        super().__init__(
            {
                "reads": In(axi.read_port(bus_bytes)).array(cores),
                "writes": In(axi.write_port(bus_bytes)).array(cores),
                "read": Out(axi.read_port(bus_bytes)),
                "write": Out(axi.write_port(bus_bytes)),
                "arid": Out(ids),
                "awid": Out(ids),
                "rid": In(ids),
                "bid": In(ids),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        read, write = self.read, self.write
        read_turn = place(m, Turn(self._cores), "turn", "read_turn")
        write_turn = place(m, Turn(self._cores), "turn", "write_turn")
        m.submodules.order = order = SyncFIFO(width=len(self.awid), depth=self._cores * self._outstanding)

        def of(ports: Any, name: str, number: Value) -> Value:
            return Array(getattr(port, name) for port in ports)[number]

        m.d.comb += [
            read_turn.requests.eq(Cat(port.arvalid for port in self.reads)),
            read_turn.served.eq(read.arready),
            read.arvalid.eq(read_turn.offered),
            read.araddr.eq(of(self.reads, "araddr", read_turn.chosen)),
            read.arlen.eq(of(self.reads, "arlen", read_turn.chosen)),
            self.arid.eq(read_turn.chosen),
            read.rready.eq(of(self.reads, "rready", self.rid)),
            write_turn.requests.eq(Cat(port.awvalid for port in self.writes)),
            write_turn.served.eq(write.awready & order.w_rdy),
            write.awvalid.eq(write_turn.offered & order.w_rdy),
            write.awaddr.eq(of(self.writes, "awaddr", write_turn.chosen)),
            write.awlen.eq(of(self.writes, "awlen", write_turn.chosen)),
            self.awid.eq(write_turn.chosen),
            order.w_data.eq(write_turn.chosen),
            order.w_en.eq(write.awvalid & write.awready),
            write.wvalid.eq(of(self.writes, "wvalid", order.r_data) & order.r_rdy),
            write.wdata.eq(of(self.writes, "wdata", order.r_data)),
            write.wstrb.eq(of(self.writes, "wstrb", order.r_data)),
            write.wlast.eq(of(self.writes, "wlast", order.r_data)),
            order.r_en.eq(write.wvalid & write.wready & write.wlast),
            write.bready.eq(of(self.writes, "bready", self.bid)),
        ]
        for number, (reads, writes) in enumerate(zip(self.reads, self.writes, strict=True)):
            m.d.comb += [
                reads.arready.eq(read.arready & (read_turn.chosen == number) & reads.arvalid),
                reads.rvalid.eq(read.rvalid & (self.rid == number)),
                reads.rdata.eq(read.rdata),
                reads.rresp.eq(read.rresp),
                reads.rlast.eq(read.rlast),
                writes.awready.eq(write_turn.served & (write_turn.chosen == number) & writes.awvalid),
                writes.wready.eq(write.wready & order.r_rdy & (order.r_data == number)),
                writes.bvalid.eq(write.bvalid & (self.bid == number)),
                writes.bresp.eq(write.bresp),
            ]
        return m
