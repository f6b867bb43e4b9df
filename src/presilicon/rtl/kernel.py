"""Micro-sequencer of the vector unit: which micro-operation runs in which slot, on which row and strip."""

from __future__ import annotations

from amaranth.hdl import Array, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from presilicon.isa.layout import UOP, UOP_BITS, UOPS
from presilicon.rtl.engine import payload
from presilicon.rtl.sram import Sram
from presilicon.template import GROUP, Core

UOP_LAYOUT = data.StructLayout({**{f.name: f.bits for f in UOP}, "unused": UOP_BITS - sum(f.bits for f in UOP)})
ROW_UOPS = 4
# Rows and strips are counted to a group beyond the 24 bits of their fields.
COUNT_BITS = 25
# A slot's index in which the next slot is decided: its micro-operation is read in the next cycle, long before it is needed.
TURN = 1


class Kernel(wiring.Component):
    """Kernel memory, and the order of execution: groups of sections of micro-operations, a slot of ``GROUP`` cycles each.

    ``start`` reads micro-operation ``first``, whose slot begins two cycles later; ``fields`` stay in place from the next cycle
    until the end. ``active``: an element of a slot is in stage 0, the ``index``-th of ``GROUP``, of micro-operation ``uop``, at
    ``row`` and ``strip``; ``index`` runs on after the last slot. ``load``: the next slot begins in the next cycle, ``offset``
    is its micro-operation's. ``turn`` is high in one cycle a slot; with it ``again`` means another pass of the loop, ``passes``
    the strips it goes on, ``leave`` that strips begin at 0 again, ``next_group`` that rows go on. ``final``: the slot in
    progress is the last. ``wrong``: the kernel is malformed at ``address``.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__(
            {
                "start": In(1),
                "first": In(8),
                "fields": In(payload("vector")),
                "stop": In(1),
                "write_en": In(1),
                "write_address": In(range(core.kernel_slots * UOP_BITS // 8)),
                "write_data": In(8 * core.bus_bytes),
                "active": Out(1),
                "index": Out(range(GROUP)),
                "uop": Out(UOP_LAYOUT),
                "row": Out(COUNT_BITS),
                "strip": Out(COUNT_BITS),
                "load": Out(1),
                "offset": Out(3),
                "turn": Out(1),
                "again": Out(1),
                "passes": Out(4),
                "leave": Out(1),
                "next_group": Out(1),
                "final": Out(1),
                "wrong": Out(1),
                "address": Out(range(core.kernel_slots)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """A prefetched word and two levels of counters: the strips of a loop, the rows of groups."""
        m = Module()
        slots, fields, uop = self.core.kernel_slots, self.fields, self.uop
        loading, in_loop, prefix, fetch = Signal(), Signal(), Signal(), Signal()
        loop_start, body = Signal(range(slots)), Signal(range(slots))
        next_row, next_strip = Signal(COUNT_BITS), Signal(COUNT_BITS)
        pc = self.address
        memory = self._memory(m)
        word = Signal(UOP_LAYOUT)
        m.d.comb += [
            word.eq(Array(memory.read_data.word_select(i, UOP_BITS) for i in range(ROW_UOPS))[pc[:2]]),
            memory.read_en.eq(self.start | fetch),
            memory.read_address.eq(Mux(self.start, self.first, pc)[2:]),
            self.load.eq(loading | (self.active & (self.index == GROUP - 1) & ~self.final)),
            self.offset.eq(word.offset),
            self.turn.eq(self.active & (self.index == TURN)),
        ]
        m.d.sync += [loading.eq(self.start), fetch.eq(self.turn), self.index.eq(self.index + 1)]
        with m.If(self.load):
            m.d.sync += [
                self.active.eq(1),
                self.index.eq(0),
                uop.eq(word),
                self.row.eq(next_row),
                self.strip.eq(next_strip + word.offset),
            ]
        with m.Else():
            m.d.sync += [self.row.eq(self.row + ~fields.by_strips), self.strip.eq(self.strip + fields.by_strips)]
            with m.If(self.index == GROUP - 1):
                m.d.sync += self.active.eq(0)

        inside = in_loop | uop.loop_begin
        end_strip, end_row = Signal(COUNT_BITS), Signal(COUNT_BITS)
        first_body = prefix & ~uop.once
        done, more = Signal(), Signal()
        m.d.comb += [
            self.passes.eq(Mux(fields.by_strips, GROUP, uop.step)),
            end_strip.eq(next_strip + self.passes),
            end_row.eq(next_row + Mux(fields.by_strips, 1, GROUP)),
            self.again.eq(uop.loop_end & (end_strip < fields.strips)),
            done.eq(uop.last & ~self.again),
            more.eq((end_row < fields.rows) & ~(prefix & uop.once)),
            self.leave.eq(done | (uop.loop_end & ~self.again)),
            self.next_group.eq(self.turn & done & more),
        ]
        bad_loop = (uop.loop_begin & in_loop) | (uop.loop_end & ~inside) | (uop.last & inside & ~uop.loop_end)
        bad_step = uop.loop_end & ((self.passes == 0) | (self.passes > GROUP))
        bad_once = uop.once & (inside | ~prefix)
        beyond = ~done & ~self.again & (pc == slots - 1)
        bad_exchange = (uop.b_kind == 3) & (uop.b_xor >= exact_log2(self.core.lanes))
        bad_fields = (uop.op > max(UOPS.values())) | uop.unused.any() | (fields.by_strips & uop.offset.any()) | bad_exchange
        m.d.comb += self.wrong.eq(self.turn & (bad_loop | bad_step | bad_once | beyond | bad_fields))
        with m.If(self.turn):
            m.d.sync += [
                prefix.eq(prefix & uop.once),
                in_loop.eq(inside & ~uop.loop_end),
                self.final.eq(done & ~more),
                pc.eq(pc + 1),
            ]
            with m.If(uop.loop_begin):
                m.d.sync += loop_start.eq(pc)
            with m.If(first_body):
                m.d.sync += body.eq(pc)
            with m.If(self.again):
                m.d.sync += [next_strip.eq(end_strip), pc.eq(Mux(uop.loop_begin, pc, loop_start))]
            with m.Elif(self.leave):
                m.d.sync += next_strip.eq(0)
            with m.If(done):
                m.d.sync += [next_row.eq(end_row), pc.eq(Mux(first_body, pc, body))]
        with m.If(self.start):
            m.d.sync += [pc.eq(self.first), next_row.eq(0), next_strip.eq(0), prefix.eq(1), in_loop.eq(0), self.final.eq(0)]
        with m.If(self.stop):
            m.d.sync += [self.active.eq(0), loading.eq(0)]
        return m

    def _memory(self, m: Module) -> Sram:
        """Rows of four micro-operations, written a beat of the bus at a time."""
        core = self.core
        row_bytes = ROW_UOPS * UOP_BITS // 8
        beats = row_bytes // core.bus_bytes
        m.submodules.memory = memory = Sram(8 * row_bytes, core.kernel_slots // ROW_UOPS, 8 * core.bus_bytes)
        beat, row = exact_log2(core.bus_bytes), exact_log2(row_bytes)
        m.d.comb += [
            memory.write_address.eq(self.write_address[row:]),
            memory.write_en.eq(self.write_en << self.write_address[beat:row]),
            memory.write_data.eq(self.write_data.replicate(beats)),
        ]
        return memory
