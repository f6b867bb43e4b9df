"""Back of LOAD: takes the beats of the oldest burst, or makes fill, and writes them where they belong."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from presilicon.rtl.axi import OKAY
from presilicon.rtl.walk import PLACE_BITS, RUN_BITS
from presilicon.template import Core

TARGETS = range(5)
SCRATCHPAD, TABLES, KERNELS, INDEX, INSTRUCTIONS = TARGETS
TABLE_BYTES = 2 * 256 * 4


def entry(bus_bytes: int) -> data.StructLayout:
    """A burst (``data``) or a fill: where its first byte goes, how many there are, the first one's place in its beat."""
    return data.StructLayout(
        {
            "data": 1,
            "place": PLACE_BITS,
            "bytes": RUN_BITS + 1,
            "offset": bus_bytes.bit_length() - 1,
            "target": 3,
            "fill": 8,
            "last": 1,
        }
    )


class Sink(Component):
    """Works on ``head`` while ``valid``: ``change`` writes what is left of it back, ``pop`` ends it.

    R: ``rready`` is high while the head is a burst and no table entries are being written. Writes leave through a register, a
    cycle after their beat: ``write_*``. ``done`` comes four cycles after the ``pop`` of an entry marked ``last``; ``draining``
    until then. ``bus_error`` and ``range_error`` pulse with the beat. While ``quiet`` beats are taken and nothing is written.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        bus = core.bus_bytes
        super().__init__(
            {
                "quiet": In(1),
                "valid": In(1),
                "head": In(entry(bus)),
                "pop": Out(1),
                "change": Out(1),
                "changed": Out(entry(bus)),
                "rdata": In(8 * bus),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
                "write_en": Out(1),
                "write_target": Out(3),
                "write_address": Out(PLACE_BITS),
                "write_data": Out(8 * bus),
                "write_count": Out(range(bus + 1)),
                "done": Out(1),
                "draining": Out(1),
                "bus_error": Out(1),
                "range_error": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        core, head = self._core, self.head
        bus = core.bus_bytes
        room, count = Signal(range(bus + 1)), Signal(range(bus + 1))
        final = Signal()  # this beat is the entry's last
        accept, fill = Signal(), Signal()
        left = Signal(range(bus // 4))  # table entries of the register that are not written yet
        table, table_final = Signal(), Signal(reset_less=True)
        m.d.comb += [
            room.eq(bus - head.offset),
            final.eq(head.bytes <= room),
            count.eq(Mux(final, head.bytes, room)),
            self.rready.eq(self.valid & head.data & (left == 0)),
            accept.eq(self.rready & self.rvalid),
            fill.eq(self.valid & ~head.data),
            table.eq(head.target == TABLES),
            self.pop.eq((fill & (final | self.quiet)) | (accept & final & ~table) | ((left == 1) & table_final)),
            self.change.eq((fill | accept) & ~self.pop),
            self.changed.eq(head),
            self.changed.place.eq(head.place + count),
            self.changed.bytes.eq(head.bytes - count),
            self.changed.offset.eq(0),
        ]

        ends = (1 << PLACE_BITS, TABLE_BYTES, 16 * core.kernel_slots, 4 * core.index_slots, 64 * core.instruction_slots)
        m.d.comb += [
            self.bus_error.eq(accept & (self.rresp != OKAY)),
            self.range_error.eq(accept & (head.place >= Array(ends)[head.target])),
        ]

        m.d.sync += self.write_en.eq((fill | accept | (left != 0)) & ~self.quiet & ~self.bus_error & ~self.range_error)
        with m.If(fill | accept):
            m.d.sync += [
                self.write_target.eq(head.target),
                self.write_address.eq(head.place),
                self.write_count.eq(count),
                self.write_data.eq(Mux(fill, head.fill.replicate(bus), self.rdata >> Cat(Const(0, 3), head.offset))),
            ]
        with m.Elif(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                self.write_address.eq(self.write_address + 4),
                self.write_data.eq(self.write_data >> 32),
            ]
        with m.If(accept & table):
            m.d.sync += [left.eq(bus // 4 - 1), table_final.eq(final)]

        drain = Signal(4)
        m.d.sync += drain.eq(Mux(self.quiet, 0, Cat(self.pop & head.last, drain)))
        m.d.comb += [self.done.eq(drain[-1]), self.draining.eq(drain.any())]
        return m
