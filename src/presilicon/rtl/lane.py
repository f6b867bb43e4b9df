"""One lane of the vector unit: registers, tables and the fp32 pipeline between them; it is emitted once and placed often."""

from __future__ import annotations

from amaranth.hdl import C, Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from presilicon.rtl.float32 import (
    Adder,
    FromInt,
    Multiplier,
    RoundEven,
    Seed,
    TableIndex,
    ToInt,
    canonical,
    is_nan,
)
from presilicon.rtl.sram import Sram
from presilicon.template import GROUP

REGISTERS = 16
TABLE_ENTRIES = 512
WORDS = range(REGISTERS * GROUP)

# What all lanes are told alike. The number is the stage in which it is looked at: an element's registers are read in stage 0
# and its result is written in stage 7, one cycle before the next micro-operation reads the same word in its stage 0.
CONTROL = data.StructLayout(
    {
        "read_0": 1,
        "a_0": 7,
        "b_0": 7,
        "c_0": 7,
        "live_1": 1,  # operands from memory are there; else they are 0
        "a_kind_1": 2,
        "b_kind_1": 2,
        "c_kind_1": 2,
        "imm_1": 32,
        "stream_int8_1": 1,
        "integer_2": 1,  # operand a is an integer
        "negate_p_3": 1,
        "negate_c_3": 1,
        "copy_3": 1,  # the result is a ...
        "select_3": 1,  # ... or one of b and c' ...
        "seed_3": 1,  # ... or a seed
        "root_3": 1,
        "negate_c_5": 1,
        "product_5": 1,
        "round_5": 1,
        "larger_5": 1,
        "table_6": 1,
        "second_table_6": 1,
        "sum_7": 1,
        "table_7": 1,
        "write_7": 1,
        "to_7": 7,
        "int32_9": 1,
        "zero_point_9": 8,
    }
)


class Lane(wiring.Component):
    """Registers, operand select, multiplier, adder, seeds, tables and quantiser of one lane.

    ``acc``, ``stream`` and ``stream_byte`` are data from memory in stage 1, ``b_own`` operand b's register for other lanes and
    ``b_other`` theirs in the same stage; ``masked`` (stage 3) makes operand c the result. ``word`` and ``byte`` are what a
    stream takes, by logic in stage 9. ``table_*`` writes one entry, canonical, at any time.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "control": In(CONTROL),
                "acc": In(32),
                "stream": In(32),
                "stream_byte": In(8),
                "b_own": Out(32),
                "b_other": In(32),
                "masked": In(1),
                "word": Out(32),
                "byte": Out(8),
                "table_en": In(1),
                "table_address": In(range(TABLE_ENTRIES)),
                "table_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Stages 1 to 9; a signal's last number is the stage in which it has its value."""
        m = Module()
        control = self.control
        result_7 = Signal(32)

        def register(value: Value, name: str) -> Signal:
            stage = Signal(len(value), name=name, reset_less=True)
            m.d.sync += stage.eq(value)
            return stage

        def registers(name: str, address: Value) -> Value:
            m.submodules[name] = copy = Sram(32, len(WORDS), 32)
            m.d.comb += [
                copy.read_en.eq(control.read_0),
                copy.read_address.eq(address),
                copy.write_en.eq(control.write_7),
                copy.write_address.eq(control.to_7),
                copy.write_data.eq(result_7),
            ]
            return copy.read_data

        # Stage 1: operands.
        register_a, register_b, register_c = (registers(f"registers_{x}", control[f"{x}_0"]) for x in "abc")
        m.d.comb += self.b_own.eq(register_b)
        m.submodules.from_int8 = from_int8 = FromInt(8)
        m.d.comb += from_int8.value.eq(self.stream_byte)
        live = control.live_1.replicate(32)
        stream_1, integer_1 = Signal(32), Signal(32)
        m.d.comb += stream_1.eq(Mux(control.stream_int8_1, Cat(from_int8.magnitude, from_int8.sign), self.stream) & live)
        m.d.comb += integer_1.eq((self.acc + (register_a & control.a_kind_1[1].replicate(32))) & live)
        a_1, b_1, c_1 = Signal(32), Signal(32), Signal(32)
        with m.Switch(control.a_kind_1):
            with m.Case(0):
                m.d.comb += a_1.eq(register_a)
            with m.Case(2):
                m.d.comb += a_1.eq(stream_1)
            with m.Default():
                m.d.comb += a_1.eq(integer_1)
        for kind, operand, own, last in (
            (control.b_kind_1, b_1, register_b, self.b_other),
            (control.c_kind_1, c_1, register_c, C(0, 32)),
        ):
            with m.Switch(kind):
                for case, value in enumerate((own, control.imm_1, stream_1, last)):
                    with m.Case(case):
                        m.d.comb += operand.eq(value)
        a_2, b_2, c_2 = register(a_1, "a_2"), register(b_1, "b_2"), register(c_1, "c_2")

        # Stage 2: integers to fp32, up to their rounding.
        m.submodules.from_int32 = from_int32 = FromInt()
        m.d.comb += from_int32.value.eq(a_2)
        a_3 = register(Mux(control.integer_2, Cat(from_int32.magnitude, from_int32.sign), a_2), "a_3")
        increment_3 = register(control.integer_2 & from_int32.increment, "increment_3")
        b_3, c_3 = register(b_2, "b_3"), register(c_2, "c_3")

        # Stages 3 and 4: product. Where another result needs no product it takes the place of operand c.
        rounded_3 = Signal(32)
        m.d.comb += rounded_3.eq(Cat((a_3[:31] + increment_3)[:31], a_3[31]))
        m.submodules.multiplier = multiplier = Multiplier()
        m.d.comb += [multiplier.a.eq(rounded_3), multiplier.b.eq(b_3), multiplier.negate.eq(control.negate_p_3)]
        p_5 = multiplier.p
        m.submodules.seed = seed = Seed()
        m.d.comb += [seed.value.eq(rounded_3), seed.root.eq(control.root_3)]
        not_negative = ~a_3[31] & ~is_nan(a_3) | ~a_3[23:31].any()
        chosen_3, other_3 = Signal(32), Signal(32)
        m.d.comb += chosen_3.eq(Mux(not_negative, b_3, Cat(c_3[:31], c_3[31] ^ control.negate_c_3)))
        m.d.comb += other_3.eq(c_3)
        with m.If(~self.masked):
            with m.If(control.copy_3):
                m.d.comb += other_3.eq(rounded_3)
            with m.Elif(control.select_3):
                m.d.comb += other_3.eq(canonical(chosen_3))
            with m.Elif(control.seed_3):
                m.d.comb += other_3.eq(seed.seed)
        c_5 = register(register(other_3, "c_4"), "c_5")
        masked_5 = register(register(self.masked, "masked_4"), "masked_5")

        # Stages 5 to 7: sum, or what is known before.
        m.submodules.adder = adder = Adder()
        m.submodules.rounder = rounder = RoundEven()
        m.submodules.index = index = TableIndex()
        m.d.comb += [
            adder.x.eq(p_5),
            adder.y.eq(Cat(c_5[:31], c_5[31] ^ control.negate_c_5)),
            rounder.value.eq(p_5),
            index.value.eq(p_5),
        ]
        other_5 = Signal(32)
        m.d.comb += other_5.eq(c_5)
        with m.If(~masked_5):
            with m.If(control.product_5):
                m.d.comb += other_5.eq(p_5)
            with m.Elif(control.round_5):
                m.d.comb += other_5.eq(rounder.rounded)
            with m.Elif(control.larger_5):
                m.d.comb += other_5.eq(adder.larger)
        other_7 = register(register(other_5, "other_6"), "other_7")
        masked_7 = register(register(masked_5, "masked_6"), "masked_7")
        m.submodules.tables = tables = Sram(32, TABLE_ENTRIES, 32)
        m.d.comb += [
            tables.read_en.eq(control.table_6),
            tables.read_address.eq(Cat(register(index.index, "index_6"), control.second_table_6)),
            tables.write_en.eq(self.table_en),
            tables.write_address.eq(self.table_address),
            tables.write_data.eq(self.table_data),
        ]
        m.d.comb += result_7.eq(other_7)
        with m.If(~masked_7):
            with m.If(control.sum_7):
                m.d.comb += result_7.eq(adder.sum)
            with m.Elif(control.table_7):
                m.d.comb += result_7.eq(tables.read_data)

        # Stages 8 and 9: integers.
        result_8 = register(result_7, "result_8")
        m.submodules.to_int = to_int = ToInt()
        m.d.comb += [
            to_int.value.eq(result_8),
            to_int.zero_point.eq(control.zero_point_9),
            self.word.eq(Mux(control.int32_9, to_int.int32, register(result_8, "result_9"))),
            self.byte.eq(to_int.int8),
        ]
        return m
