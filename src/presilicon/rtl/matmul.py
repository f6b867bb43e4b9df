"""Matmul engine: weight fetch, moving rows, the array (section 7 of the template).

Two machines follow each other. The fetch of weights goes through an instruction's blocks tile by tile, a read a cycle; a tile
that is loaded waits until the rows of the block before have been read. In that cycle the block starts: its first row is read,
its other rows are left to the second machine, and the fetch of the next tile begins. So the rows of an instruction's last block
are read from registers of their own, while the next instruction's weights are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.array import INT4, PACKED, STRIDED, TRANSPOSED, Array, sum_bits, sum_cycles
from presilicon.rtl.engine import engine_ports
from presilicon.rtl.hierarchy import place
from presilicon.rtl.parts import delayed, register
from presilicon.rtl.scratchpad import port_bytes
from presilicon.template import Core

_FIELD, _ROW = 2, 4
_COUNTS = ("m0", "m1", "kb", "k1", "tail", "group_blocks")  # none may be 0


class _State(IntEnum):
    """Of the weight fetch."""

    IDLE = 0
    FETCH = 1  # a word of a tile is read in this cycle
    LOADED = 2  # a tile waits for its first moving row


@dataclass(frozen=True, slots=True)
class _Block:
    """The block that may start: what its rows need, as long as ``start`` is not given."""

    x: Signal  # address of its first row
    first: Signal  # first of its instruction
    last_of_kb: Value
    last: Value  # last of its instruction


class Matmul(wiring.Component):
    """The matmul engine of a core, with its array.

    Ports: ``engine_ports("matmul")``; ``x_*`` and ``w_*``, the scratchpad's read ports; ``add_*`` and ``sums``, the port of the
    same names of the accumulators. Error 2 (a law; info: a bit for each of m0, m1, kb, k1, tail, group_blocks) in the cycle
    after ``start``, error 4 (info: the row) in the cycle after the read of a moving row whose accumulator does not exist.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        width = port_bytes(core)
        super().__init__(
            {
                **engine_ports("matmul"),
                "x_en": Out(1),
                "x_address": Out(24),
                "x_count": Out(range(width["x"] + 1)),
                "x_data": In(8 * width["x"]),
                "w_en": Out(1),
                "w_address": Out(24),
                "w_count": Out(range(width["w"] + 1)),
                "w_data": In(8 * width["w"]),
                "add_en": Out(1),
                "add_bank": Out(1),
                "add_row": Out(range(core.accumulator_rows)),
                "add_keep": Out(1),
                "sums": Out(core.cols * sum_bits(core)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """The instruction, its laws; the two machines around the array."""
        m = Module()
        array = place(m, Array(self.core), "array", "array")
        fields = Signal(self.payload.shape(), name="fields", reset_less=True)
        m0_less, m1_less = register("m0_less", len(fields.m0)), register("m1_less", len(fields.m1))
        wrong = Cat(*((self.payload[name] == 0) for name in _COUNTS))
        wrong = wrong | (self.payload.tail > self.core.rows) << _COUNTS.index("tail")
        accepted = self.start & ~wrong.any() & ~self.stop
        with m.If(self.start):
            m.d.sync += [fields.eq(self.payload), m0_less.eq(self.payload.m0 - 1), m1_less.eq(self.payload.m1 - 1)]

        state, start = Signal(_State), Signal()
        block = self._blocks(m, fields, accepted, start)
        self._fetch(m, fields, array, state, accepted, start, block)
        free, row = self._rows(m, fields, m0_less, m1_less, array, start, block)
        m.d.comb += start.eq((state == _State.LOADED) & free & ~self.stop)
        m.d.comb += self.ready.eq((state == _State.IDLE) & ~self.stop)

        beyond = Signal()
        m.d.comb += beyond.eq(self.x_en & (row >= self.core.accumulator_rows))
        m.d.sync += [
            self.error.eq((self.start & wrong.any()) | beyond),
            self.error_code.eq(Mux(beyond, _ROW, _FIELD)),
            self.error_info.eq(Mux(beyond, row, wrong)),
        ]
        return m

    def _blocks(self, m: Module, fields: data.View, accepted: Value, start: Value) -> _Block:
        """Counts the blocks of an instruction along k and makes the address of their first row."""
        kb, k1 = register("kb_left", len(fields.kb)), register("k1_left", len(fields.k1))
        x, x_outer, first = register("x_block", 24), register("x_outer", 24), register("first", 1)
        last_of_kb, last_of_k1 = kb == 1, k1 == 1
        with m.If(accepted):
            m.d.sync += [kb.eq(self.payload.kb), k1.eq(self.payload.k1), first.eq(1)]
            m.d.sync += [x.eq(self.payload.x), x_outer.eq(self.payload.x)]
        with m.Elif(start):
            m.d.sync += first.eq(0)
            with m.If(last_of_kb):
                outer = (x_outer + fields.k_stride1)[:24]
                m.d.sync += [kb.eq(fields.kb), k1.eq(k1 - 1), x.eq(outer), x_outer.eq(outer)]
            with m.Else():
                m.d.sync += [kb.eq(kb - 1), x.eq(x + self.core.rows)]
        return _Block(x=x, first=first, last_of_kb=last_of_kb, last=last_of_kb & last_of_k1)

    def _fetch(
        self, m: Module, fields: data.View, array: Array, state: Signal, accepted: Value, start: Value, block: _Block
    ) -> None:
        """Reads the tiles: ``w`` and ``index`` are of the next read, ``gain`` says that it is of a group's multipliers."""
        core = self.core
        mode, wrpc, cols = fields.weights, core.weight_rows_per_cycle, core.cols
        index, w, tile = register("index", len(array.index)), register("w_next", 24), register("w_tile", 24)
        gain, groups = register("gain", 1), register("groups_next", 24)
        blocks = register("group_left", len(fields.group_blocks))
        packed, last = Signal(), Signal()
        last_index, step = Signal.like(index), Signal(24)
        m.d.comb += [
            packed.eq((mode == PACKED) | (mode == INT4)),
            last_index.eq(Mux(packed, core.weight_words - 1, Mux(mode == STRIDED, core.rows - 1, cols - 1))),
            last.eq(index == last_index),
            step.eq(Mux(packed, Mux(mode == INT4, wrpc * cols // 2, wrpc * cols), fields.w_pitch)),
        ]
        now = Signal(name="fetch_now")
        m.d.comb += now.eq(((state == _State.FETCH) & ~self.stop) | (start & ~block.last))
        # The rows of the last word may be fewer: what lies behind a tile need not exist.
        last_rows = core.rows - (core.weight_words - 1) * wrpc
        with m.If(gain):
            m.d.comb += [self.w_address.eq(groups), self.w_count.eq(cols // 2)]
        with m.Else():
            m.d.comb += self.w_address.eq(w)
            with m.Switch(mode):
                with m.Case(PACKED):
                    m.d.comb += self.w_count.eq(Mux(last, last_rows * cols, wrpc * cols))
                with m.Case(INT4):
                    m.d.comb += self.w_count.eq(Mux(last, last_rows * cols // 2, wrpc * cols // 2))
                with m.Case(STRIDED):
                    m.d.comb += self.w_count.eq(cols)
                with m.Case(TRANSPOSED):
                    m.d.comb += self.w_count.eq(core.rows)
        m.d.comb += [self.w_en.eq(now), array.fetch.eq(now), array.weights.eq(mode), array.index.eq(index)]
        m.d.comb += [array.multipliers.eq(gain), array.w_data.eq(self.w_data)]

        with m.If(now):
            with m.If(gain):
                m.d.sync += [gain.eq(0), groups.eq(groups + cols // 2)]
            with m.Elif(last):
                behind = (tile + core.rows)[:24]
                m.d.sync += [index.eq(0), w.eq(Mux(mode == TRANSPOSED, behind, w + step)), tile.eq(behind)]
                m.d.sync += [
                    gain.eq((mode == INT4) & (blocks == 1)),
                    blocks.eq(Mux(blocks == 1, fields.group_blocks, blocks - 1)),
                ]
            with m.Else():
                m.d.sync += [index.eq(index + 1), w.eq(w + step)]
            m.d.sync += state.eq(Mux(~gain & last, _State.LOADED, _State.FETCH))
        with m.Elif(start | self.stop):
            m.d.sync += state.eq(_State.IDLE)
        with m.Elif(accepted):
            payload = self.payload
            m.d.sync += [state.eq(_State.FETCH), index.eq(0), w.eq(payload.w), tile.eq(payload.w)]
            m.d.sync += [gain.eq(payload.weights == INT4), groups.eq(payload.groups), blocks.eq(payload.group_blocks)]

    def _rows(
        self, m: Module, fields: data.View, m0_less: Signal, m1_less: Signal, array: Array, start: Value, block: _Block
    ) -> tuple[Value, Value]:
        """Reads the rows of a block; returns whether a block may start, and the accumulator row of the read."""
        core = self.core
        # The block's own copies, as `fields` may soon be of the next instruction.
        names = {"m0": m0_less, "x_stride0": fields.x_stride0, "x_stride1": fields.x_stride1}
        names |= {"count": Mux(block.last_of_kb, fields.tail, core.rows)[: len(self.x_count)]}  # bytes of a row that count
        names |= {"bank": fields.bank, "keep": ~block.first | fields.accumulate, "last": block.last}
        held = {name: register(f"row_{name}", len(value)) for name, value in names.items()}
        now = {name: Mux(start, value, held[name]) for name, value in names.items()}
        left0, left1 = register("left0", len(m0_less)), register("left1", len(m1_less))
        x, outer, acc = register("x_next", 24), register("x_line", 24), register("acc_next", 24)
        moving, hold = Signal(), Signal(range(core.accumulate_cycles))

        with m.If(start):
            m.d.sync += [held[name].eq(value) for name, value in names.items()]
        read, ends_line, ends_block, row = Signal(), Signal(), Signal(), Signal(24)
        line = Signal(24)
        m.d.comb += [
            read.eq(start | (moving & ~self.stop)),
            ends_line.eq(Mux(start, m0_less, left0) == 0),
            ends_block.eq(ends_line & (Mux(start, m1_less, left1) == 0)),
            line.eq(Mux(start, block.x, outer)),
            row.eq(Mux(start, fields.acc, acc)),
            self.x_en.eq(read),
            self.x_address.eq(Mux(start, block.x, x)),
            self.x_count.eq(now["count"]),
            array.move.eq(read),
            array.swap.eq(start),
            array.x_data.eq(self.x_data),
        ]
        with m.If(read):
            m.d.sync += [moving.eq(~ends_block), acc.eq(row + 1)]
            with m.If(ends_line):
                below = (line + now["x_stride1"].as_signed())[:24]
                m.d.sync += [x.eq(below), outer.eq(below), left0.eq(now["m0"]), left1.eq(Mux(start, m1_less, left1) - 1)]
            with m.Else():
                m.d.sync += [x.eq(self.x_address + now["x_stride0"].as_signed()), outer.eq(line)]
                m.d.sync += [left0.eq(Mux(start, m0_less, left0) - 1), left1.eq(Mux(start, m1_less, left1))]
        with m.If(start):
            m.d.sync += hold.eq(core.accumulate_cycles - 1)
        with m.Elif(hold.any()):
            m.d.sync += hold.eq(hold - 1)
        with m.If(self.stop):
            m.d.sync += moving.eq(0)

        # The block's last cycle: its last row is read, and the one after may be added to the same accumulator.
        ends, free = Signal(), Signal()
        m.d.comb += free.eq(~moving & ~hold.any())
        m.d.comb += ends.eq(~free & (hold <= 1) & (~moving | ends_block) & held["last"])
        self._results(m, array, read, Cat(row[: len(self.add_row)], now["bank"], now["keep"]), ends, free)
        return free, row

    def _results(self, m: Module, array: Array, read: Value, row: Value, ends: Value, free: Value) -> None:
        """Sends the sums to the accumulators and the end of an instruction behind them."""
        before = sum_cycles(self.core) - 2
        to = delayed(m, row, "add", before, reset=False)
        bits = len(self.add_row)
        m.d.comb += [
            self.sums.eq(array.sums),
            self.add_en.eq(delayed(m, read, "add_en", before)),
            self.add_row.eq(to[:bits]),
            self.add_bank.eq(to[bits]),
            self.add_keep.eq(to[bits + 1]),
        ]
        flight = Signal(self.core.matmul_drain_cycles)
        m.d.sync += flight.eq(Cat(ends, flight))
        m.d.comb += [self.done.eq(flight[-1]), self.idle.eq(self.ready & free & ~flight.any())]
