"""Accumulators: two banks of int32 rows, added to by the array and read by the vector unit (section 1 of the template)."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.array import sum_bits
from presilicon.rtl.parts import any_of, delayed, register, where
from presilicon.rtl.sram import Sram
from presilicon.template import ENGINES, Core

BANKS = 2
_ROW, _CONFLICT = 4, 5


class Accumulators(wiring.Component):
    """Both accumulator banks of a core; a bank is an SRAM for each chunk of ``lanes`` columns.

    ``add_*``: in cycle t the row; ``sums`` (``sum_bits`` a column, column 0 first) two cycles later; written in t + 3, so that
    what reads from t + ``accumulate_cycles`` on sees it. ``add_keep`` 0: the row's old value counts as 0.
    ``read_*``: ``lanes`` int32 of a row, ``read_data`` three cycles after ``read_en``, until the data of the next read; it may
    come from t + 3 of the addition on. ``error``: a pulse with its code (4 row of a read, 5 both read one bank), the engine
    blamed, and as info the row (bits 0-15) and the bank (bit 24).
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__(
            {
                "add_en": In(1),
                "add_bank": In(1),
                "add_row": In(range(core.accumulator_rows)),
                "add_keep": In(1),
                "sums": In(core.cols * sum_bits(core)),
                "read_en": In(1),
                "read_bank": In(1),
                "read_row": In(16),
                "read_chunk": In(range(max(core.chunks, 2))),
                "read_data": Out(32 * core.lanes),
                "error": Out(1),
                "error_code": Out(8),
                "error_engine": Out(range(len(ENGINES))),
                "error_info": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Read, old values in a register, sums in a register, write."""
        core = self.core
        m = Module()
        chunks, bits = core.chunks, 32 * core.lanes
        srams = [[Sram(bits, core.accumulator_rows, bits) for _ in range(chunks)] for _ in range(BANKS)]
        for bank, row in enumerate(srams):
            for chunk, sram in enumerate(row):
                m.submodules[f"bank_{bank}_{chunk}"] = sram

        # The vector unit's read is a cycle late at the SRAMs, so that it needs one register behind them.
        en, bank = delayed(m, self.read_en, "read_en", 1), delayed(m, self.read_bank, "read_bank", 1, reset=False)
        row, chunk = (delayed(m, getattr(self, n), n, 1, reset=False) for n in ("read_row", "read_chunk"))
        keeps = [self.add_en & self.add_keep & (self.add_bank == b) for b in range(BANKS)]
        reads = [en & (bank == b) for b in range(BANKS)]
        for b in range(BANKS):
            for c, sram in enumerate(srams[b]):
                m.d.comb += [
                    sram.read_en.eq(keeps[b] | (reads[b] & (chunk == c))),
                    sram.read_address.eq(Mux(keeps[b], self.add_row, row)),
                ]
        taken = [delayed(m, reads[b] & (chunk == c), f"taken_{b}_{c}", 1) for b in range(BANKS) for c in range(chunks)]
        data = register("data", bits)
        with m.If(delayed(m, en, "read_late", 1)):
            outputs = [sram.read_data for row_of in srams for sram in row_of]
            m.d.sync += data.eq(any_of([where(on, output) for on, output in zip(taken, outputs, strict=True)]))
        m.d.comb += self.read_data.eq(data)

        self._add(m, srams, [delayed(m, keep, f"keep_{b}", 1) for b, keep in enumerate(keeps)])
        self._errors(m, row, bank, en, any_of([keeps[b] & reads[b] for b in range(BANKS)]))
        return m

    def _add(self, m: Module, srams: list[list[Sram]], kept: list[Value]) -> None:
        """Old values (0 where none is kept) plus sums, two and three cycles after ``add_en``."""
        core = self.core
        first, second, third = Signal(name="add_1"), Signal(name="add_2"), Signal(BANKS, name="add_3")
        bank, row = delayed(m, self.add_bank, "bank", 2, reset=False), delayed(m, self.add_row, "add_row", 3, reset=False)
        m.d.sync += [first.eq(self.add_en), second.eq(first), third.eq(Cat(second & (bank == b) for b in range(BANKS)))]
        width = sum_bits(core)
        for column in range(core.cols):
            chunk, lane = divmod(column, core.lanes)
            old, total = register(f"old_{column}", 32), register(f"total_{column}", 32)
            words = [row_of[chunk].read_data.word_select(lane, 32) for row_of in srams]
            with m.If(first):
                m.d.sync += old.eq(any_of([where(on, word) for on, word in zip(kept, words, strict=True)]))
            with m.If(second):
                m.d.sync += total.eq(old + self.sums.word_select(column, width).as_signed())
            for b in range(BANKS):
                m.d.comb += srams[b][chunk].write_data.word_select(lane, 32).eq(total)
        for b in range(BANKS):
            for sram in srams[b]:
                m.d.comb += [sram.write_en.eq(third[b]), sram.write_address.eq(row)]

    def _errors(self, m: Module, row: Value, bank: Value, en: Value, conflict: Value) -> None:
        vector = ENGINES.index("vector")
        beyond = en & (row >= self.core.accumulator_rows)
        m.d.sync += self.error.eq(beyond | conflict)
        with m.If(beyond | conflict):
            m.d.sync += [
                self.error_code.eq(Mux(beyond, _ROW, _CONFLICT)),
                self.error_engine.eq(vector),
                self.error_info.eq(Cat(row, Const(0, 8), bank)),
            ]
