"""Address generators of the vector unit: four streams in the scratchpad, and the rows of an accumulator bank."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.engine import payload
from presilicon.rtl.kernel import COUNT_BITS
from presilicon.template import GROUP, Core

STREAMS = 4
BITS = 24
INT8 = 1
# Stage in which the first element of a slot has its write address computed, one before it is at the port.
WRITE_STAGE = 12


class StreamAddresses(wiring.Component):
    """Base of each stream at the group's first row, and the addresses that go on from there.

    ``read_stream`` and ``write_stream`` are of the micro-operation in stage 0, ``strip`` of its element there;
    ``late_stream`` is ``write_stream`` in stage ``WRITE_STAGE``. ``read`` is in a register in stage 1, ``write`` in the stage
    after ``WRITE_STAGE``. ``next_group`` comes with the turn of a slot.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__(
            {
                "start": In(1),
                "bases": In(STREAMS * BITS),
                "fields": In(payload("vector")),
                "index": In(range(GROUP)),
                "strip": In(COUNT_BITS),
                "next_group": In(1),
                "read_stream": In(2),
                "write_stream": In(2),
                "late_stream": In(2),
                "read": Out(BITS),
                "write": Out(BITS),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """One adder serves the first read address, the first write address and, at the end of a group, the four bases."""
        m = Module()
        lanes, fields = self.core.lanes, self.fields
        pitch = Array(fields[f"pitch{s}"] for s in range(STREAMS))
        bases = Array(Signal(BITS, name=f"base_{s}", reset_less=True) for s in range(STREAMS))

        def narrow(stream: Value) -> Value:
            return fields.formats.word_select(stream, 2) == INT8

        def step(stream: Value) -> Value:
            """Bytes from one element to the next."""
            along = Mux(fields.fixed.bit_select(stream, 1), 0, Mux(narrow(stream), lanes, 4 * lanes))
            return Mux(fields.by_strips, along, pitch[stream])

        strip_1, advance = Signal(COUNT_BITS, reset_less=True), Signal()
        stream, strip = Signal(2), Signal(COUNT_BITS)
        offset, increment, total = Signal(BITS), Signal(BITS), Signal(BITS)
        m.d.comb += [
            stream.eq(Mux(self.index == 0, self.read_stream, Mux(self.index == 1, self.write_stream, self.index - 2))),
            # In index 1 the strip has gone on by one already, where a group is strips.
            strip.eq(Mux(self.index == 0, self.strip, strip_1)),
            offset.eq(Mux(fields.fixed.bit_select(stream, 1), 0, strip * lanes << Mux(narrow(stream), 0, 2))),
            increment.eq(Mux(fields.by_strips, pitch[stream], pitch[stream] << 3)),
            total.eq(bases[stream] + Mux(self.index < 2, offset, increment)),
        ]
        first_write, held_write = Signal(BITS, reset_less=True), Signal(BITS, reset_less=True)
        m.d.sync += strip_1.eq(self.strip)
        m.d.sync += self.read.eq(Mux(self.index == 0, total, self.read + step(self.read_stream)))
        with m.If(self.index == 1):
            m.d.sync += [first_write.eq(total), held_write.eq(first_write), advance.eq(self.next_group)]
        for s in range(STREAMS):
            with m.If(advance & (self.index == 2 + s)):
                m.d.sync += bases[s].eq(total)
        m.d.sync += self.write.eq(Mux(self.index == WRITE_STAGE % GROUP, held_write, self.write + step(self.late_stream)))
        with m.If(self.start):
            m.d.sync += [bases[s].eq(self.bases.word_select(s, BITS)) for s in range(STREAMS)]
            m.d.sync += advance.eq(0)
        return m


class AccumulatorAddress(wiring.Component):
    """Accumulator row and chunk of each element; a row holds ``chunks`` strips, the next block of them is ``acc_step`` rows on.

    ``row`` and ``chunk`` are in registers in stage 1. The strip is counted as a chunk and rows of blocks, so nothing is
    divided by ``chunks`` but numbers up to ``chunks`` + 7.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__(
            {
                "start": In(1),
                "first": In(16),
                "fields": In(payload("vector")),
                "index": In(range(GROUP)),
                "load": In(1),
                "offset": In(3),
                "turn": In(1),
                "again": In(1),
                "passes": In(4),
                "leave": In(1),
                "next_group": In(1),
                "row": Out(16),
                "chunk": Out(range(max(core.chunks, 2))),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """State at strip 0 of the loop's pass (``pass_*``), of a slot's first element (``slot_*``) and of the element."""
        m = Module()
        chunks, fields = self.core.chunks, self.fields
        group_row, pass_rows = Signal(16), Signal(16)
        pass_chunk, slot_chunk = Signal(range(max(chunks, 2))), Signal(range(max(chunks, 2)))
        slot_blocks = Signal(4)

        def divided(strips: Value, name: str) -> tuple[Signal, Signal]:
            """Quotient and rest of up to ``chunks`` + 7 strips by ``chunks``."""
            quotient, rest = Signal(4, name=f"{name}_quotient"), Signal(range(max(chunks, 2)), name=f"{name}_rest")
            m.d.comb += [quotient.eq(0), rest.eq(strips)]
            for k in range(1, (chunks - 1 + GROUP) // chunks + 1):
                with m.If(strips >= k * chunks):
                    m.d.comb += [quotient.eq(k), rest.eq(strips - k * chunks)]
            return quotient, rest

        def rows_of(blocks: Value) -> Value:
            total: Value = Const(0, 16)
            for k in range(4):
                total = total + (Cat(Const(0, k), fields.acc_step) & blocks[k].replicate(16 + k))
            return total

        ahead_blocks, ahead_chunk = divided(pass_chunk + self.offset, "ahead")
        pass_blocks, next_chunk = divided(pass_chunk + self.passes, "pass")
        with m.If(self.load):
            m.d.sync += [slot_chunk.eq(ahead_chunk), slot_blocks.eq(ahead_blocks)]
        with m.If(self.index == 0):
            m.d.sync += [self.row.eq(group_row + pass_rows + rows_of(slot_blocks)), self.chunk.eq(slot_chunk)]
        with m.Elif(~fields.by_strips):
            m.d.sync += self.row.eq(self.row + 1)
        with m.Elif(self.chunk == chunks - 1):
            m.d.sync += [self.row.eq(self.row + fields.acc_step), self.chunk.eq(0)]
        with m.Else():
            m.d.sync += self.chunk.eq(self.chunk + 1)
        with m.If(self.turn):
            with m.If(self.again):
                m.d.sync += [pass_chunk.eq(next_chunk), pass_rows.eq(pass_rows + rows_of(pass_blocks))]
            with m.Elif(self.leave):
                m.d.sync += [pass_chunk.eq(0), pass_rows.eq(0)]
            with m.If(self.next_group):
                m.d.sync += group_row.eq(group_row + Mux(fields.by_strips, 1, GROUP))
        with m.If(self.start):
            m.d.sync += [group_row.eq(self.first), pass_chunk.eq(0), pass_rows.eq(0)]
        return m
