"""The rows that LOAD and STORE move: three nested counts, a DRAM address and a scratchpad address."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import LAYOUT
from presilicon.rtl.axi import ADDRESS_BITS

FIELDS = {f.name: f for f in LAYOUT["store"]}
PLACE_BITS = FIELDS["spad"].bits
RUN_BITS = FIELDS["run"].bits


class RowWalker(Component):
    """Where the next byte comes from and goes to, row after row.

    ``start`` takes the fields of a LOAD or STORE; the first row stands from the next cycle on. ``source`` is its DRAM address,
    ``place`` its scratchpad address, ``left`` the bytes of ``run`` not moved yet. ``take`` with ``bytes`` moves all three on;
    ``skip`` with ``bytes`` only ``place`` (fill); ``row`` goes to the next row, whatever is left of this one. ``turn``: the
    next row is the first along n1 again; ``last``: there is no next row. While ``gathered`` the row begins at
    ``gathered_source`` instead.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                **{name: In(signed(f.bits) if f.signed else f.bits) for name, f in FIELDS.items()},
                "take": In(1),
                "skip": In(1),
                "bytes": In(16),
                "row": In(1),
                "gathered": In(1),
                "gathered_source": In(ADDRESS_BITS),
                "source": Out(ADDRESS_BITS),
                "place": Out(PLACE_BITS),
                "left": Out(RUN_BITS),
                "turn": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        counts = [Signal(FIELDS[n].bits, name=f"count_{n}", reset_less=True) for n in ("n1", "n2", "n3")]
        again = [Signal(FIELDS[n].bits, name=f"again_{n}", reset_less=True) for n in ("n1", "n2")]
        strides = [Signal(signed(FIELDS[n].bits), name=f"step_{n}", reset_less=True) for n in ("stride1", "stride2", "stride3")]
        # bases[k]: address of the row at which count k began; bases[0] is the current row's.
        bases = [Signal(ADDRESS_BITS, name=f"base{k}", reset_less=True) for k in range(3)]
        pitch = Signal(PLACE_BITS, reset_less=True)
        cursor = Signal(ADDRESS_BITS, reset_less=True)
        row_place = Signal(PLACE_BITS, reset_less=True)
        run = Signal(RUN_BITS, reset_less=True)

        ends = [Signal(name=f"end{k}") for k in range(3)]
        m.d.comb += [end.eq(count == 1) for end, count in zip(ends, counts, strict=True)]
        both = Signal()
        m.d.comb += [both.eq(ends[0] & ends[1]), self.turn.eq(ends[0]), self.last.eq(both & ends[2])]
        next_source = Signal(ADDRESS_BITS)
        m.d.comb += next_source.eq(
            Mux(both, bases[2], Mux(ends[0], bases[1], bases[0])) + Mux(both, strides[2], Mux(ends[0], strides[1], strides[0]))
        )
        next_place = Signal(PLACE_BITS)
        m.d.comb += [next_place.eq(row_place + pitch), self.source.eq(Mux(self.gathered, self.gathered_source, cursor))]

        with m.If(self.start):
            m.d.sync += [base.eq(self.dram) for base in bases]
            m.d.sync += [
                counts[0].eq(self.n1),
                counts[1].eq(self.n2),
                counts[2].eq(self.n3),
                again[0].eq(self.n1),
                again[1].eq(self.n2),
                strides[0].eq(self.stride1),
                strides[1].eq(self.stride2),
                strides[2].eq(self.stride3),
                pitch.eq(self.pitch),
                run.eq(self.run),
                row_place.eq(self.spad),
                cursor.eq(self.dram),
                self.place.eq(self.spad),
                self.left.eq(self.run),
            ]
        with m.Elif(self.row):
            m.d.sync += [
                counts[0].eq(Mux(ends[0], again[0], counts[0] - 1)),
                bases[0].eq(next_source),
                row_place.eq(next_place),
                cursor.eq(next_source),
                self.place.eq(next_place),
                self.left.eq(run),
            ]
            with m.If(ends[0]):
                m.d.sync += [counts[1].eq(Mux(ends[1], again[1], counts[1] - 1)), bases[1].eq(next_source)]
            with m.If(both):
                m.d.sync += [counts[2].eq(counts[2] - 1), bases[2].eq(next_source)]
        with m.Else():
            with m.If(self.take):
                m.d.sync += [cursor.eq(self.source + self.bytes), self.left.eq(self.left - self.bytes)]
            with m.If(self.take | self.skip):
                m.d.sync += self.place.eq(self.place + self.bytes)
        return m
