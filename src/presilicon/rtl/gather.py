"""Index memory of LOAD, and the pipeline that makes DRAM addresses of its entries."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import LAYOUT
from presilicon.rtl.axi import ADDRESS_BITS
from presilicon.rtl.sram import Sram
from presilicon.template import Core

_FIELDS = {f.name: f for f in LAYOUT["load"]}
INDEX_BITS = 32


class Gather(Component):
    """Addresses ``dram + index[index0 + i] * stride1`` for i = 0, 1, 2, ...

    ``start`` in cycle t takes the fields; the first address is ``valid`` from t + 3 (index memory, operand register,
    product), the following ones without a gap; ``next`` asks for the next one. ``outside``: this entry is beyond the memory.
    ``write_en`` writes a beat of the bus at a byte address.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        super().__init__(
            {
                "start": In(1),
                "dram": In(ADDRESS_BITS),
                "index0": In(_FIELDS["index0"].bits),
                "stride1": In(signed(_FIELDS["stride1"].bits)),
                "next": In(1),
                "valid": Out(1),
                "source": Out(ADDRESS_BITS),
                "outside": Out(1),
                "write_en": In(1),
                "write_address": In(24),
                "write_data": In(8 * core.bus_bytes),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slots, beat = self._core.index_slots, self._core.bus_bytes
        lanes_bits = (beat // 4).bit_length() - 1
        m.submodules.memory = memory = Sram(8 * beat, max(slots * 4 // beat, 2), 8 * beat)

        move = Signal()  # the whole pipeline moves on
        wanted = Signal(self.index0.shape())  # entry that the memory is asked for
        following = Signal(self.index0.shape(), reset_less=True)
        beyond, was_beyond = Signal(), Signal(reset_less=True)
        dram = Signal(ADDRESS_BITS, reset_less=True)
        stride = Signal(signed(self.stride1.shape().width), reset_less=True)
        m.d.comb += [
            move.eq(self.start | ~self.valid | self.next),
            wanted.eq(Mux(self.start, self.index0, following)),
            beyond.eq((wanted >= slots) | (was_beyond & ~self.start)),
            memory.read_en.eq(move),
            memory.read_address.eq(wanted >> lanes_bits),
            memory.write_en.eq(self.write_en),
            memory.write_address.eq(self.write_address >> (beat.bit_length() - 1)),
            memory.write_data.eq(self.write_data),
        ]
        with m.If(self.start):
            m.d.sync += [dram.eq(self.dram), stride.eq(self.stride1)]

        lane = Signal(lanes_bits, reset_less=True)
        read, held = Signal(), Signal()
        held_beyond = Signal(reset_less=True)
        index = Signal(INDEX_BITS, reset_less=True)
        with m.If(move):
            m.d.sync += [
                following.eq(wanted + 1),
                was_beyond.eq(beyond),
                lane.eq(wanted),
                read.eq(1),
                held.eq(read & ~self.start),
                index.eq(memory.read_data.word_select(lane, INDEX_BITS)),
                held_beyond.eq(was_beyond),
                self.valid.eq(held & ~self.start),
                self.source.eq(dram + index * stride),
                self.outside.eq(held_beyond),
            ]
        return m
