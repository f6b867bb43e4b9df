"""Vector unit: the kernel's order, the addresses it reads and writes, and the lanes (section "VECTOR" of the template)."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from presilicon.isa.layout import UOPS
from presilicon.rtl.address import INT8, STREAMS, WRITE_STAGE, AccumulatorAddress, StreamAddresses
from presilicon.rtl.engine import engine_ports, payload
from presilicon.rtl.float32 import canonical
from presilicon.rtl.hierarchy import place
from presilicon.rtl.kernel import Kernel
from presilicon.rtl.lane import CONTROL, Lane
from presilicon.template import GROUP, Core

INT32 = 2
ILLEGAL_FIELD, BAD_KERNEL = 2, 12
# Stages of an element: addresses are computed in 0 and are at the memories' ports in 1; the lane's stage 0 is 3, so that
# its operands from memory come with those from registers; what a stream takes is at the scratchpad's port in 13.
LANE = 3


class Vector(wiring.Component):
    """The vector engine of a core.

    Ports: ``engine_ports("vector")``; ``read_*`` and ``write_*``, the scratchpad's ports ``v`` (``count`` in bytes, data in a
    register ``scratchpad_read_cycles`` after ``read_en``); ``acc_*``, the accumulators' read port (data as late);
    ``kernel_*``, a beat of ``bus_bytes`` for the kernel memory at a byte address; ``table_*``, one entry for all lanes.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        assert core.scratchpad_read_cycles == LANE, core
        width = 4 * core.lanes
        super().__init__(
            {
                **engine_ports("vector"),
                "read_en": Out(1),
                "read_address": Out(24),
                "read_count": Out(range(width + 1)),
                "read_data": In(8 * width),
                "write_en": Out(1),
                "write_address": Out(24),
                "write_count": Out(range(width + 1)),
                "write_data": Out(8 * width),
                "acc_en": Out(1),
                "acc_bank": Out(1),
                "acc_row": Out(16),
                "acc_chunk": Out(range(max(core.chunks, 2))),
                "acc_data": In(8 * width),
                "kernel_en": In(1),
                "kernel_address": In(range(16 * core.kernel_slots)),
                "kernel_data": In(8 * core.bus_bytes),
                "table_en": In(1),
                "table_address": In(9),
                "table_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Engine interface, and what happens in stages 0, 1 and 13; the lanes and their control are methods."""
        m = Module()
        fields = Signal(payload("vector"), reset_less=True)
        begun, busy, drain = Signal(), Signal(), Signal(range(self.core.vector_drain_cycles + 1))
        m.submodules.kernel = kernel = Kernel(self.core)
        illegal = (fields.rows == 0) | (fields.strips == 0)
        for stream in range(STREAMS):
            illegal |= fields.formats.word_select(stream, 2) == 3
        outside = fields.kernel >= self.core.kernel_slots
        m.d.comb += [
            self.ready.eq(~busy & ~self.stop),
            self.idle.eq(~busy),
            self.done.eq(busy & (drain == 1)),
            self.error.eq(busy & ((begun & (illegal | outside)) | kernel.wrong)),
            self.error_code.eq(Mux(begun & illegal, ILLEGAL_FIELD, BAD_KERNEL)),
            self.error_info.eq(kernel.address),
            kernel.start.eq(self.start),
            kernel.first.eq(self.payload.kernel),
            kernel.fields.eq(fields),
            kernel.stop.eq(self.stop | self.error),
            kernel.write_en.eq(self.kernel_en),
            kernel.write_address.eq(self.kernel_address),
            kernel.write_data.eq(self.kernel_data),
        ]
        m.d.sync += begun.eq(self.start)
        with m.If(self.start):
            m.d.sync += [fields.eq(self.payload), busy.eq(1), drain.eq(0)]
        with m.Elif(self.done | self.stop | self.error):
            m.d.sync += [busy.eq(0), drain.eq(0)]
        with m.Elif(kernel.active & (kernel.index == GROUP - 1) & kernel.final):
            m.d.sync += drain.eq(self.core.vector_drain_cycles)
        with m.Elif(drain != 0):
            m.d.sync += drain.eq(drain - 1)
        stages = _Stages(m, kernel, fields)
        self._reads(m, stages)
        counted, written = self._counts(m, stages)
        self._writes(m, stages, self._lanes(m, stages, counted), written)
        return m

    def _reads(self, m: Module, stages: _Stages) -> None:
        """Stages 0 and 1: what is read of the scratchpad and the accumulators."""
        kernel, uop, fields, lanes = stages.kernel, stages.kernel.uop, stages.fields, self.core.lanes
        m.submodules.streams = streams = StreamAddresses(self.core)
        m.submodules.accumulator = accumulator = AccumulatorAddress(self.core)
        m.d.comb += [
            streams.start.eq(self.start),
            streams.bases.eq(Cat(self.payload[f"stream{s}"][:24] for s in range(STREAMS))),
            streams.fields.eq(fields),
            streams.index.eq(kernel.index),
            streams.strip.eq(kernel.strip),
            streams.next_group.eq(kernel.next_group),
            streams.read_stream.eq(uop.read_stream),
            streams.write_stream.eq(uop.write_stream),
            streams.late_stream.eq(stages.uop(WRITE_STAGE, uop.write_stream, "write_stream")),
            accumulator.start.eq(self.start),
            accumulator.first.eq(self.payload.acc),
            accumulator.fields.eq(fields),
        ]
        for name in ("index", "load", "offset", "turn", "again", "passes", "leave", "next_group"):
            m.d.comb += getattr(accumulator, name).eq(getattr(kernel, name))
        live = kernel.active & ~stages.idle
        from_stream = (uop.a_kind == 2) | (uop.b_kind == 2) | (uop.c_kind == 2)
        narrow_1 = stages.uop(1, stages.format(uop.read_stream) == INT8, "narrow")
        m.d.sync += [self.read_en.eq(live & from_stream), self.acc_en.eq(live & uop.a_kind[0])]
        m.d.comb += [
            self.read_address.eq(streams.read),
            self.read_count.eq(Mux(narrow_1, lanes, 4 * lanes)),
            self.acc_bank.eq(fields.bank),
            self.acc_row.eq(accumulator.row),
            self.acc_chunk.eq(accumulator.chunk),
            self.write_address.eq(streams.write),
        ]

    def _counts(self, m: Module, stages: _Stages) -> tuple[Signal, Signal]:
        """Lanes that count (for masks) and lanes that are written, of the element in stage 3; 0 where it is idle."""
        lanes, kernel, fields = self.core.lanes, stages.kernel, stages.fields

        def clamped(difference: Value) -> Value:
            return Mux(difference < 0, 0, Mux(difference > lanes, lanes, difference))

        strip_1, row_1 = stages.late(1, kernel.strip, "strip"), stages.late(1, kernel.row, "row")
        column_2 = stages.late(1, strip_1 * lanes, "column")
        limit_2 = stages.late(1, fields.valid + Mux(fields.causal, row_1, 0), "limit")
        idle_2 = stages.late(2, stages.idle, "idle_2")
        counts = []
        for name, limit in (("counted", limit_2), ("written", fields.columns)):
            count = Signal(range(lanes + 1), name=f"{name}_2")
            m.d.comb += count.eq(Mux(idle_2, 0, clamped(limit - column_2)))
            counts.append(stages.late(1, count, f"{name}_3"))
        return counts[0], counts[1]

    def _lanes(self, m: Module, stages: _Stages, counted_3: Signal) -> list[Lane]:
        """The lanes, their control, and the exchange of operand b between them."""
        lanes, uop, fields = self.core.lanes, stages.kernel.uop, stages.fields
        control = Signal(CONTROL)
        idle_4 = stages.late(4, stages.idle, "idle_4")

        def decoded(stage: int, *ops: str) -> Value:
            """Whether the micro-operation in a stage of the lane is one of these."""
            one_of: Value = C(0, 1)
            for op in ops:
                one_of = one_of | (uop.op == UOPS[op])
            return stages.uop(LANE + stage, one_of, "_".join(ops))

        def held(stage: int, name: str) -> Value:
            return stages.uop(LANE + stage, uop[name], name)

        def word(stage: int, register: str) -> Value:
            """Word of a register: a group's elements lie side by side."""
            return Cat((stages.kernel.index - LANE - stage)[: exact_log2(GROUP)], held(stage, register))

        write_format_9 = stages.format(held(9, "write_stream"))
        m.d.comb += [
            control.read_0.eq(stages.active(LANE)),
            control.a_0.eq(word(0, "a_reg")),
            control.b_0.eq(word(0, "b_reg")),
            control.c_0.eq(word(0, "c_reg")),
            control.live_1.eq(~idle_4),
            control.a_kind_1.eq(held(1, "a_kind")),
            control.b_kind_1.eq(held(1, "b_kind")),
            control.c_kind_1.eq(held(1, "c_kind")),
            control.imm_1.eq(held(1, "imm")),
            control.stream_int8_1.eq(stages.format(held(1, "read_stream")) == INT8),
            control.integer_2.eq(stages.uop(LANE + 2, uop.a_kind[0], "integer")),
            control.negate_p_3.eq(held(3, "negate_p")),
            control.negate_c_3.eq(held(3, "negate_c")),
            control.copy_3.eq(decoded(3, "move")),
            control.select_3.eq(decoded(3, "select")),
            control.seed_3.eq(decoded(3, "recip", "rsqrt")),
            control.root_3.eq(decoded(3, "rsqrt")),
            control.negate_c_5.eq(held(5, "negate_c")),
            control.product_5.eq(decoded(5, "product")),
            control.round_5.eq(decoded(5, "round")),
            control.larger_5.eq(decoded(5, "max")),
            control.table_6.eq(decoded(6, "table0", "table1") & stages.active(LANE + 6)),
            control.second_table_6.eq(decoded(6, "table1")),
            control.sum_7.eq(decoded(7, "add")),
            control.table_7.eq(decoded(7, "table0", "table1")),
            control.write_7.eq(held(7, "to_en") & stages.active(LANE + 7)),
            control.to_7.eq(word(7, "to")),
            control.int32_9.eq(write_format_9 == INT32),
            control.zero_point_9.eq(fields.zero_point),
        ]
        masked_5 = stages.uop(LANE + 2, uop.masked, "masked")
        counted_5 = stages.late(2, counted_3, "counted_5")
        masked_6, table = Signal(lanes, reset_less=True), Signal(32, reset_less=True)
        table_en, table_address = Signal(), Signal(9, reset_less=True)
        m.d.sync += [
            masked_6.eq(Cat(masked_5 & (counted_5 <= lane) for lane in range(lanes))),
            table.eq(canonical(self.table_data)),
            table_en.eq(self.table_en),
            table_address.eq(self.table_address),
        ]
        placed = [place(m, Lane(), "presilicon_lane", f"lane_{i}") for i in range(lanes)]
        for i, lane in enumerate(placed):
            m.d.comb += [
                lane.control.eq(control),
                lane.acc.eq(self.acc_data.word_select(i, 32)),
                lane.stream.eq(self.read_data.word_select(i, 32)),
                lane.stream_byte.eq(self.read_data.word_select(i, 8)),
                lane.masked.eq(masked_6[i]),
                lane.table_en.eq(table_en),
                lane.table_address.eq(table_address),
                lane.table_data.eq(table),
            ]
            *nearer, other = (placed[i ^ 1 << bit].b_own for bit in range(exact_log2(lanes)))
            for bit, value in enumerate(nearer):
                other = Mux(held(1, "b_xor") == bit, value, other)
            m.d.comb += lane.b_other.eq(other)
        return placed

    def _writes(self, m: Module, stages: _Stages, placed: list[Lane], written_3: Signal) -> None:
        """Stages 12 and 13: what a stream takes."""
        uop, stop = stages.kernel.uop, self.stop
        write = stages.uop(WRITE_STAGE, uop.write_en, "write_en")
        narrow = stages.format(stages.uop(WRITE_STAGE, uop.write_stream, "write_stream")) == INT8
        count = stages.late(WRITE_STAGE - LANE, written_3, "written_12")
        m.d.sync += self.write_en.eq(stages.active(WRITE_STAGE) & write & (count != 0) & ~stop)
        write_count = Signal.like(self.write_count, name="write_count", reset_less=True)
        write_data = Signal.like(self.write_data, name="write_data", reset_less=True)
        m.d.comb += [self.write_count.eq(write_count), self.write_data.eq(write_data)]
        with m.If(write):
            m.d.sync += [
                write_count.eq(Mux(narrow, count, count << 2)),
                write_data.eq(Mux(narrow, Cat(lane.byte for lane in placed), Cat(lane.word for lane in placed))),
            ]


class _Stages:
    """Values of stage 0 as later stages see them; each is registered once, whoever asks."""

    def __init__(self, m: Module, kernel: Kernel, fields: Signal) -> None:
        self.m, self.kernel, self.fields = m, kernel, fields
        self.idle = Signal()
        m.d.comb += self.idle.eq((kernel.strip >= fields.strips) | (kernel.row >= fields.rows))
        self._held: dict[tuple[int, str], Signal] = {}
        self._active = [kernel.active]

    def uop(self, stage: int, value: Value, name: str) -> Signal:
        """A value of the slot's micro-operation for the element in ``stage``: it stays for a slot, so one register holds it."""
        if (stage, name) not in self._held:
            if stage > GROUP:
                value = self.uop(stage - GROUP + 3, value, name)
            held = Signal(len(value), name=f"{name}_held_{stage}", reset_less=True)
            with self.m.If(self.kernel.index == (stage - 1) % GROUP):
                self.m.d.sync += held.eq(value)
            self._held[stage, name] = held
        return self._held[stage, name]

    def late(self, cycles: int, value: Value, name: str) -> Signal:
        """A value of an element, ``cycles`` later."""
        for i in range(cycles):
            stage = Signal(len(value), name=f"{name}_late_{i + 1}", reset_less=True)
            self.m.d.sync += stage.eq(value)
            value = stage
        return Value.cast(value)

    def active(self, stage: int) -> Value:
        """Whether ``stage`` holds an element."""
        while len(self._active) <= stage:
            self._active.append(Signal(name=f"active_{len(self._active)}"))
            self.m.d.sync += self._active[-1].eq(self._active[-2])
        return self._active[stage]

    def format(self, stream: Value) -> Value:
        """Number format of a stream."""
        return self.fields.formats.word_select(stream, 2)
