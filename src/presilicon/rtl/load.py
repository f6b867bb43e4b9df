"""LOAD engine: rows of DRAM to the scratchpad, the tables, the kernel, index and instruction memories.

Its front turns rows into *entries*, a burst or a fill each, one a cycle; eight of them wait for their data in a Fifo; its back
(sink.py) works on the oldest: takes beats from R, or makes bytes of fill, and writes them.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, Out

from presilicon.rtl import axi
from presilicon.rtl.engine import engine_ports
from presilicon.rtl.fifo import Fifo
from presilicon.rtl.gather import Gather
from presilicon.rtl.sink import INDEX, SCRATCHPAD, TARGETS, Sink, entry
from presilicon.rtl.walk import FIELDS, RUN_BITS, RowWalker
from presilicon.template import Core

ILLEGAL, BUS_READ, RANGE, MISALIGNED, INDEX_RANGE = 2, 9, 3, 13, 14


class Load(Component):
    """LOAD of a core.

    Beside ``engine_ports("load")``: ``axi``: AR and R; ``spad_*``: write port ``l`` of the scratchpad; ``side_*``: writes of
    tables (a 32-bit entry a cycle at a byte address), kernel, index and instruction memories (a beat at a byte address).
    Section 4 of the template has the timing: first entry two cycles after ``start`` (four with gather), ``ready`` the cycle
    after the last entry, ``done`` four cycles after the last beat or fill; ``idle`` from the cycle after ``done``.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        bus = core.bus_bytes
        super().__init__(
            {
                **engine_ports("load"),
                "axi": Out(axi.read_port(bus)),
                "spad_en": Out(1),
                "spad_address": Out(24),
                "spad_data": Out(8 * bus),
                "spad_count": Out(range(bus + 1)),
                "side_en": Out(1),
                "side_target": Out(3),
                "side_address": Out(24),
                "side_data": Out(8 * bus),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus, payload = self.core.bus_bytes, self.payload
        m.submodules.walker = walker = RowWalker()
        m.submodules.gather = gather = Gather(self.core)
        m.submodules.splitter = splitter = axi.BurstSplitter(bus, RUN_BITS)
        m.submodules.waiting = waiting = Fifo(entry(bus), self.core.outstanding)
        m.submodules.sink = sink = Sink(self.core)

        failed = Signal()  # an error was told: nothing starts until reset
        quiet = Signal()
        begin = Signal()
        illegal, misaligned = self._laws(m)
        m.d.comb += [quiet.eq(self.stop | failed), begin.eq(self.start & ~quiet & ~illegal & ~misaligned)]

        # What of the payload the rows need.
        has = {
            n: Signal(payload[n].shape(), name=f"held_{n}", reset_less=True)
            for n in ("left", "right", "fill", "target", "gather")
        }
        whole = Signal(RUN_BITS + 1, reset_less=True)  # bytes of a row that is all fill
        y0, limit = Signal(signed(24), reset_less=True), Signal(24, reset_less=True)
        y = Signal(signed(26), reset_less=True)  # number of the row along n1: y0 + i1, exact
        next_y = Signal(signed(26))
        beyond = Signal(reset_less=True)  # this row does not exist: all fill
        m.d.comb += next_y.eq(Mux(walker.turn, y0, y + 1))
        with m.If(begin):
            m.d.sync += [signal.eq(payload[name]) for name, signal in has.items()]
            m.d.sync += [whole.eq(payload.left + payload.run + payload.right), y0.eq(payload.y0), limit.eq(payload.limit)]
            m.d.sync += [y.eq(payload.y0), beyond.eq(_outside(payload.y0, payload.limit))]
        with m.Elif(walker.row):
            m.d.sync += [y.eq(next_y), beyond.eq(_outside(next_y, limit))]
        m.d.comb += [getattr(walker, name).eq(payload[name]) for name in FIELDS]
        m.d.comb += [getattr(gather, name).eq(payload[name]) for name in ("dram", "index0", "stride1")]

        # The next entry, of one of four kinds.
        walking = Signal()  # rows are left
        begun = Signal(reset_less=True)  # left fill of this row is behind us
        tail = Signal(reset_less=True)  # only the right fill is left
        moved = Signal(reset_less=True)  # a burst of this row is behind us
        all_fill, left_fill, burst, row_end = Signal(), Signal(), Signal(), Signal()
        go = Signal()
        free = Signal()  # the entry register takes one
        m.d.comb += [
            all_fill.eq(beyond),
            left_fill.eq(~beyond & ~begun & (has["left"] != 0)),
            burst.eq(~beyond & ~left_fill & ~tail),
            row_end.eq(all_fill | tail | (burst & splitter.final & (has["right"] == 0))),
            go.eq(walking & free & ~quiet & (~has["gather"] | gather.valid)),
            walker.start.eq(begin),
            walker.gathered.eq(has["gather"] & ~moved),
            walker.gathered_source.eq(gather.source),
            walker.take.eq(go & burst),
            walker.skip.eq(go & left_fill),
            walker.row.eq(go & row_end),
            walker.bytes.eq(Mux(left_fill, has["left"], splitter.bytes)),
            splitter.address.eq(walker.source),
            splitter.left.eq(walker.left),
            gather.start.eq(begin & payload.gather),
            gather.next.eq(go & row_end),
        ]
        with m.If(go):
            m.d.sync += [begun.eq(~row_end), tail.eq(burst & splitter.final & ~row_end), moved.eq((burst | moved) & ~row_end)]
        with m.If(begin):
            m.d.sync += [walking.eq(1), begun.eq(0), tail.eq(0), moved.eq(0)]
        with m.Elif(quiet | (go & row_end & walker.last)):
            m.d.sync += walking.eq(0)

        # The entry register: AR is driven from it.
        full, held = Signal(), Signal()  # held: AR was seen and must stay
        made = Signal(entry(bus), reset_less=True)
        address, length = Signal(axi.ADDRESS_BITS, reset_less=True), Signal(8, reset_less=True)
        fire, busy = Signal(), Signal()
        m.d.comb += [
            self.axi.arvalid.eq(full & made.data & waiting.room & (held | ~quiet)),
            self.axi.araddr.eq(axi.aligned(address, bus)),
            self.axi.arlen.eq(length),
            fire.eq(Mux(made.data, self.axi.arvalid & self.axi.arready, full & waiting.room & ~quiet)),
            free.eq(fire | ~full),
            waiting.push.eq(fire),
            waiting.entry.eq(made),
            self.ready.eq(~busy & ~quiet),
        ]
        m.d.sync += held.eq(self.axi.arvalid & ~self.axi.arready)
        with m.If(go):
            m.d.sync += [
                full.eq(1),
                made.data.eq(burst),
                made.place.eq(walker.place),
                made.bytes.eq(Mux(all_fill, whole, Mux(left_fill, has["left"], Mux(tail, has["right"], splitter.bytes)))),
                made.offset.eq(Mux(burst, splitter.offset, 0)),
                made.target.eq(has["target"]),
                made.fill.eq(has["fill"]),
                made.last.eq(row_end & walker.last),
                address.eq(walker.source),
                length.eq(splitter.length),
            ]
        with m.Elif(fire | (quiet & ~self.axi.arvalid)):
            m.d.sync += full.eq(0)
        with m.If(begin):
            m.d.sync += busy.eq(1)
        with m.Elif(quiet | (fire & made.last)):
            m.d.sync += busy.eq(0)

        # The back.
        m.d.comb += [
            sink.quiet.eq(quiet),
            sink.valid.eq(waiting.valid),
            sink.head.eq(waiting.head),
            waiting.pop.eq(sink.pop),
            waiting.change.eq(sink.change),
            waiting.changed.eq(sink.changed),
            sink.rdata.eq(self.axi.rdata),
            sink.rresp.eq(self.axi.rresp),
            sink.rvalid.eq(self.axi.rvalid),
            self.axi.rready.eq(sink.rready),
            self.spad_en.eq(sink.write_en & (sink.write_target == SCRATCHPAD)),
            self.spad_address.eq(sink.write_address),
            self.spad_data.eq(sink.write_data),
            self.spad_count.eq(sink.write_count),
            self.side_en.eq(sink.write_en & (sink.write_target != SCRATCHPAD)),
            self.side_target.eq(sink.write_target),
            self.side_address.eq(sink.write_address),
            self.side_data.eq(sink.write_data),
            gather.write_en.eq(sink.write_en & (sink.write_target == INDEX)),
            gather.write_address.eq(sink.write_address),
            gather.write_data.eq(sink.write_data),
            self.done.eq(sink.done),
            self.idle.eq(~busy & ~full & ~waiting.valid & ~sink.draining),
        ]

        self._errors(
            m,
            failed,
            [
                (sink.bus_error, BUS_READ, waiting.head.place),
                (sink.range_error, RANGE, waiting.head.place),
                (go & burst & has["gather"] & gather.outside, INDEX_RANGE, walker.place),
                (self.start & ~quiet & illegal, ILLEGAL, 0),
                (self.start & ~quiet & misaligned, MISALIGNED, payload.spad),
            ],
        )
        return m

    def _laws(self, m: Module) -> tuple[Signal, Signal]:
        """Whether the payload breaks a law of its fields, or only one of alignment."""
        payload, low = self.payload, self.core.bus_bytes.bit_length() - 1
        aside = payload.target != SCRATCHPAD
        illegal, misaligned = Signal(), Signal()
        nothing = [payload[name] == 0 for name in ("n1", "n2", "n3", "run")]
        two_d = payload.gather & ((payload.n2 != 1) | (payload.n3 != 1))
        filled = aside & ((payload.left != 0) | (payload.right != 0) | (payload.limit != 0))
        illegal_when = two_d | filled | (payload.target > max(TARGETS))
        for condition in nothing:
            illegal_when |= condition
        bits = payload.dram.as_unsigned()[:low]
        for name in ("spad", "run", "pitch", "stride1", "stride2", "stride3"):
            bits |= payload[name][:low]
        m.d.comb += [illegal.eq(illegal_when), misaligned.eq(aside & (bits != 0) & ~illegal)]
        return illegal, misaligned

    def _errors(self, m: Module, failed: Signal, causes: list[tuple[Any, int, Any]]) -> None:
        """Tell the first error, a cycle after it was seen; of several in one cycle the first of the list."""
        told = Signal(8, reset_less=True)
        info = Signal(32, reset_less=True)
        m.d.comb += [self.error_code.eq(told), self.error_info.eq(info)]
        m.d.sync += self.error.eq(0)
        with m.If(~failed):
            branch = m.If
            for condition, code, where in causes:
                with branch(condition):
                    m.d.sync += [self.error.eq(1), failed.eq(1), told.eq(code), info.eq(where)]
                branch = m.Elif


def _outside(number: Any, limit: Any) -> Any:
    """Row ``number`` does not exist: there is a limit and it is not in 0 .. limit - 1."""
    return (limit != 0) & ((number < 0) | (number >= limit))
