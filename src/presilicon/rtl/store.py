"""STORE engine: rows of the scratchpad to DRAM.

A burst's AW goes out first; from the next cycle on its beats are read from the scratchpad, one a cycle, as long as there is
room for them behind it; they leave on W in the cycle in which the scratchpad gives them, or wait in a Fifo.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from presilicon.rtl import axi
from presilicon.rtl.engine import engine_ports
from presilicon.rtl.fifo import Fifo
from presilicon.rtl.walk import FIELDS, PLACE_BITS, RUN_BITS, RowWalker
from presilicon.template import Core

ILLEGAL, BUS_WRITE = 2, 10


class Store(Component):
    """STORE of a core.

    Beside ``engine_ports("store")``: ``axi``: AW, W and B; ``spad_*``: read port ``s`` of the scratchpad.
    Section 5 of the template has the timing: first AW two cycles after ``start``, beats read from the cycle after AW on,
    ``ready`` the cycle after the last read, ``done`` the cycle after the last B; ``idle`` from the cycle after ``done``.
    """

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

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        core, payload = self.core, self.payload
        bus = core.bus_bytes
        shift = bus.bit_length() - 1
        m.submodules.walker = walker = RowWalker()
        m.submodules.splitter = splitter = axi.BurstSplitter(bus, RUN_BITS)
        m.submodules.answers = answers = Fifo(1, core.outstanding)  # a bit a burst without B: the instruction's last

        failed, quiet, begin, illegal = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            illegal.eq(Cat(payload[name] == 0 for name in ("n1", "n2", "n3", "run")).any()),
            quiet.eq(self.stop | failed),
            begin.eq(self.start & ~quiet & ~illegal),
        ]

        # The next burst waits in a register, from which AW is driven.
        burst = data.StructLayout(
            {"place": PLACE_BITS, "bytes": range(axi.PAGE_BYTES + 1), "offset": shift, "last": 1},
        )
        walking, full, held, reading, busy = Signal(), Signal(), Signal(), Signal(), Signal()
        made = Signal(burst, reset_less=True)
        address, length = Signal(axi.ADDRESS_BITS, reset_less=True), Signal(8, reset_less=True)
        go, sent = Signal(), Signal()
        m.d.comb += [getattr(walker, name).eq(payload[name]) for name in FIELDS]
        m.d.comb += [
            go.eq(walking & (sent | ~full) & ~quiet),
            sent.eq(self.axi.awvalid & self.axi.awready),
            walker.start.eq(begin),
            walker.take.eq(go),
            walker.row.eq(go & splitter.final),
            walker.bytes.eq(splitter.bytes),
            splitter.address.eq(walker.source),
            splitter.left.eq(walker.left),
            self.axi.awvalid.eq(full & ~reading & answers.room & (held | ~quiet)),
            self.axi.awaddr.eq(axi.aligned(address, bus)),
            self.axi.awlen.eq(length),
            self.ready.eq(~busy & ~quiet),
        ]
        m.d.sync += held.eq(self.axi.awvalid & ~self.axi.awready)
        with m.If(begin):
            m.d.sync += walking.eq(1)
        with m.Elif(quiet | (go & splitter.final & walker.last)):
            m.d.sync += walking.eq(0)
        with m.If(go):
            m.d.sync += [
                full.eq(1),
                made.place.eq(walker.place),
                made.bytes.eq(splitter.bytes),
                made.offset.eq(splitter.offset),
                made.last.eq(splitter.final & walker.last),
                address.eq(walker.source),
                length.eq(splitter.length),
            ]
        with m.Elif(sent | (quiet & ~self.axi.awvalid)):
            m.d.sync += full.eq(0)

        # Reads of the burst whose AW was taken: as many in flight as the Fifo behind them has room for.
        depth = core.scratchpad_read_cycles + 1
        now = Signal(burst, reset_less=True)
        room, count, flying = Signal(range(bus + 1)), Signal(range(bus + 1)), Signal(range(depth + 1))
        final, read, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq(bus - now.offset),
            final.eq(now.bytes <= room),
            count.eq(Mux(final, now.bytes, room)),
            read.eq(reading & (flying != depth)),
            self.spad_en.eq(read),
            self.spad_address.eq(now.place),
            self.spad_count.eq(count),
            taken.eq(self.axi.wvalid & self.axi.wready),
        ]
        m.d.sync += flying.eq(flying + read - taken)
        with m.If(sent):
            m.d.sync += [now.eq(made), reading.eq(1)]
        with m.Elif(read):
            m.d.sync += [now.place.eq(now.place + count), now.bytes.eq(now.bytes - count), now.offset.eq(0), reading.eq(~final)]
        with m.If(begin):
            m.d.sync += busy.eq(1)
        with m.Elif((read & final & now.last) | quiet):
            m.d.sync += busy.eq(0)

        # W: what the scratchpad gives, put into its place in the beat.
        flight = data.StructLayout({"valid": 1, "offset": shift, "count": range(bus + 1), "final": 1})
        behind = [Signal(flight, name=f"read_{k}") for k in range(core.scratchpad_read_cycles)]
        first = {"valid": read, "offset": now.offset, "count": count, "final": final}
        m.d.sync += [getattr(behind[0], name).eq(value) for name, value in first.items()]
        m.d.sync += [later.eq(sooner) for sooner, later in pairwise(behind)]
        come = behind[-1]
        beat = data.StructLayout({"data": 8 * bus, "strobe": bus, "last": 1})
        fresh, out = Signal(beat), Signal(beat)
        m.submodules.parked = parked = Fifo(beat, depth)
        m.d.comb += [
            fresh.data.eq(self.spad_data << Cat(Const(0, 3), come.offset)),
            fresh.strobe.eq(((Const(1, bus + 1) << come.count) - 1) << come.offset),
            fresh.last.eq(come.final),
            out.eq(Mux(parked.valid, parked.head, fresh)),
            parked.entry.eq(fresh),
            parked.push.eq(come.valid & (parked.valid | ~self.axi.wready)),
            parked.pop.eq(parked.valid & self.axi.wready),
            self.axi.wvalid.eq(parked.valid | come.valid),
            self.axi.wdata.eq(out.data),
            self.axi.wstrb.eq(out.strobe),
            self.axi.wlast.eq(out.last),
        ]

        # B, in the order of AW.
        answered, wrong = Signal(), Signal()
        m.d.comb += [
            answers.push.eq(sent),
            answers.entry.eq(made.last),
            self.axi.bready.eq(1),
            answered.eq(self.axi.bvalid & answers.valid),
            answers.pop.eq(answered),
            wrong.eq(answered & (self.axi.bresp != axi.OKAY)),
            self.idle.eq(~busy & ~full & ~answers.valid & ~self.done),
        ]
        m.d.sync += self.done.eq(answered & answers.head & ~wrong & ~quiet)

        m.d.sync += self.error.eq(0)
        with m.If(~failed):
            with m.If(wrong):
                m.d.sync += [self.error.eq(1), failed.eq(1), self.error_code.eq(BUS_WRITE)]
            with m.Elif(self.start & ~quiet & illegal):
                m.d.sync += [self.error.eq(1), failed.eq(1), self.error_code.eq(ILLEGAL)]
        return m
