"""The array: columns of int8 dot products with shadow weights (section 7 of the template).

A column holds ``rows`` active and ``rows`` shadow weights; its products and every level of its adder tree end in a register,
each as wide as its values need. Columns stand in groups of eight that share a register of the moving row and of the controls,
so that no register drives the whole array. Both are emitted once and placed.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.hierarchy import place
from presilicon.rtl.parts import delayed, register
from presilicon.rtl.scratchpad import port_bytes
from presilicon.template import Core

GROUP_COLUMNS = 8
PACKED, INT4, STRIDED, TRANSPOSED = range(4)


def sum_bits(core: Core) -> int:
    """Bits of a column's sum: a product of int8 has 16, each level of the tree adds one."""
    return 16 + core.tree_levels


class Column(wiring.Component):
    """Dot product of the moving row with one column of weights.

    ``x`` is a register outside. A shadow weight r is written from ``column_data`` with ``column_en``, else from byte
    r mod ``weight_rows_per_cycle`` of ``row_data`` with ``row_en[r]``. ``swap`` makes the shadow weights active (after the
    edge). ``sum`` belongs to the ``x`` of ``1 + tree_levels`` cycles before.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        super().__init__(
            {
                "x": In(8 * core.rows),
                "swap": In(1),
                "row_en": In(core.rows),
                "row_data": In(8 * core.weight_rows_per_cycle),
                "column_en": In(1),
                "column_data": In(8 * core.rows),
                "sum": Out(sum_bits(core)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Weights, products, tree."""
        m = Module()
        terms: list[Value] = []
        for row in range(self.core.rows):
            lane = row % self.core.weight_rows_per_cycle
            shadow, active = register(f"shadow_{row}", 8), register(f"active_{row}", 8)
            with m.If(self.column_en | self.row_en[row]):
                byte = Mux(self.column_en, self.column_data.word_select(row, 8), self.row_data.word_select(lane, 8))
                m.d.sync += shadow.eq(byte)
            with m.If(self.swap):
                m.d.sync += active.eq(shadow)
            product = Signal(16, name=f"product_{row}", reset_less=True)
            m.d.sync += product.eq(self.x.word_select(row, 8).as_signed() * active.as_signed())
            terms.append(product.as_signed())
        for level in range(self.core.tree_levels):
            sums = []
            for i in range(0, len(terms), 2):
                total = register(f"sum_{level}_{i // 2}", 17 + level)
                m.d.sync += total.eq(sum(terms[i + 1 : i + 2], terms[i]))
                sums.append(total.as_signed())
            terms = sums
        m.d.comb += self.sum.eq(terms[0])
        return m


class Group(wiring.Component):
    """Neighbouring columns with their own registers of the moving row and of the controls.

    The controls ``move``, ``swap``, ``row_en`` and ``column_en`` come in the cycle before their data ``x``, ``row_data`` and
    ``column_data``.
    """

    def __init__(self, core: Core, columns: int) -> None:
        self.core = core
        self.columns = columns
        super().__init__(
            {
                "move": In(1),
                "swap": In(1),
                "x": In(8 * core.rows),
                "row_en": In(core.rows),
                "row_data": In(8 * core.weight_rows_per_cycle * columns),
                "column_en": In(columns),
                "column_data": In(8 * core.rows),
                "sums": Out(sum_bits(core) * columns),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Registers, and the columns."""
        m = Module()
        x = register("x_q", 8 * self.core.rows)
        move, swap = delayed(m, self.move, "move_q", 1), delayed(m, self.swap, "swap_q", 1)
        row_en, column_en = delayed(m, self.row_en, "row_en_q", 1), delayed(m, self.column_en, "column_en_q", 1)
        with m.If(move):
            m.d.sync += x.eq(self.x)
        width = 8 * self.core.weight_rows_per_cycle
        sums = []
        for i in range(self.columns):
            column = place(m, Column(self.core), "column", f"column_{i}")
            m.d.comb += [
                column.x.eq(x),
                column.swap.eq(swap),
                column.row_en.eq(row_en),
                column.row_data.eq(self.row_data.word_select(i, width)),
                column.column_en.eq(column_en[i]),
                column.column_data.eq(self.column_data),
            ]
            sums.append(column.sum)
        m.d.comb += self.sums.eq(Cat(sums))
        return m


class Array(wiring.Component):
    """``rows`` x ``cols`` int8 PEs.

    ``move``: a moving row is read from the scratchpad in this cycle; with ``swap`` the shadow weights become active for it and
    those after it. ``fetch``: weights are read in this cycle, in the form ``weights`` (as the instruction's field): word
    ``index`` of the packed forms, row ``index`` if strided, column ``index`` if transposed; with ``multipliers`` those of int4
    instead. ``x_data`` (bytes that do not count are 0) and ``w_data`` come ``scratchpad_read_cycles`` later, ``sums`` of the
    moving row ``sum_cycles`` later.
    """

    def __init__(self, core: Core) -> None:
        self.core = core
        width = port_bytes(core)
        super().__init__(
            {
                "move": In(1),
                "swap": In(1),
                "x_data": In(8 * width["x"]),
                "fetch": In(1),
                "weights": In(2),
                "multipliers": In(1),
                "index": In(range(max(core.rows, core.cols))),
                "w_data": In(8 * width["w"]),
                "sums": Out(core.cols * sum_bits(core)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Controls are delayed to one cycle before their data, decoded there, and registered in the groups."""
        core = self.core
        m = Module()
        before = core.scratchpad_read_cycles - 1
        move, swap = delayed(m, self.move, "move", before), delayed(m, self.move & self.swap, "swap", before)
        fetch, gain = delayed(m, self.fetch, "fetch", before), delayed(m, self.multipliers, "multipliers", before, reset=False)
        weights, index = (delayed(m, getattr(self, n), n, before, reset=False) for n in ("weights", "index"))
        row_en, column_en = Signal(core.rows), Signal(core.cols)
        with m.If(fetch & ~gain):
            with m.If(weights == TRANSPOSED):
                m.d.comb += column_en.eq(Cat(index == column for column in range(core.cols)))
            with m.Else():
                strided, wrpc = weights == STRIDED, core.weight_rows_per_cycle
                m.d.comb += row_en.eq(Cat(index == Mux(strided, row, row // wrpc) for row in range(core.rows)))
        form = delayed(m, weights, "form", 1, reset=False)
        unpacked = self._unpacked(m, form, delayed(m, fetch & gain, "load_gain", 1))

        sums = []
        for first in range(0, core.cols, GROUP_COLUMNS):
            columns = min(GROUP_COLUMNS, core.cols - first)
            group = place(m, Group(core, columns), f"column_group_{columns}", f"group_{first}")
            m.d.comb += [
                group.move.eq(move),
                group.swap.eq(swap),
                group.x.eq(self.x_data),
                group.row_en.eq(row_en),
                group.row_data.eq(Cat(unpacked[first : first + columns])),
                group.column_en.eq(column_en[first : first + columns]),
                group.column_data.eq(self.w_data),
            ]
            sums.append(group.sums)
        m.d.comb += self.sums.eq(Cat(sums))
        return m

    def _unpacked(self, m: Module, weights: Value, load: Value) -> list[Value]:
        """For each column the bytes of the rows that ``w_data`` holds, int4 times its multipliers."""
        core = self.core
        gain = register("gain", 4 * core.cols)
        with m.If(load):
            m.d.sync += gain.eq(self.w_data)
        columns: list[Value] = []
        for column in range(core.cols):
            rows = []
            for lane in range(core.weight_rows_per_cycle):
                at = lane * core.cols + column
                nibble = self.w_data.word_select(at, 4).as_signed()
                scaled = (nibble * gain.word_select(column, 4))[:8]
                packed, strided = self.w_data.word_select(at, 8), self.w_data.word_select(column, 8)
                byte = Signal(8, name=f"weight_{column}_{lane}")
                m.d.comb += byte.eq(Mux(weights == INT4, scaled, Mux(weights == STRIDED, strided, packed)))
                rows.append(byte)
            columns.append(Cat(rows))
        return columns


def sum_cycles(core: Core) -> int:
    """Cycles from the read of a moving row until its sums leave the array: scratchpad, broadcast, product, tree."""
    return core.scratchpad_read_cycles + 1 + 1 + core.tree_levels
