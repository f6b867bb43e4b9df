"""The arithmetic of ``set``: two cycles, on 40-bit unsigned values."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import ALU
from presilicon.rtl.register_file import VALUE_BITS

_HALF = VALUE_BITS // 2


def _mirrored(value: Value) -> Value:
    """The bits in reverse order."""
    return Cat(value[i] for i in reversed(range(len(value))))


class Alu(Component):
    """``result`` = ``a`` op ``b`` in the cycle after ``en`` with ``op`` (a position in ``ALU``).

    Two multipliers work side by side, of 40 x 20 and of 20 x 20 bits, and the second cycle adds their products: a multiplier
    and an adder in one cycle were the longest path of the core. One adder also subtracts and compares; one shifter goes both
    ways.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "en": In(1),
                "op": In(range(len(ALU))),
                "a": In(VALUE_BITS),
                "b": In(VALUE_BITS),
                "result": Out(VALUE_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        a, b = self.a, self.b
        is_ = {name: self.op == number for number, name in enumerate(ALU)}
        first = Signal(VALUE_BITS)  # what the first cycle made: the result, or the product with the low half

        # a * b is a * low(b), and a * high(b) in its upper half: both are registers, so that the second cycle only adds.
        low, high = Signal(VALUE_BITS), Signal(_HALF)
        m.d.comb += low.eq(a * b[:_HALF])
        with m.If(self.en):
            m.d.sync += high.eq(Mux(is_["mul"], a[:_HALF] * b[_HALF:], 0))

        subtracts, total = Signal(), Signal(VALUE_BITS + 1)
        m.d.comb += [
            subtracts.eq(~is_["add"]),
            total.eq(a + Mux(subtracts, ~b, b) + subtracts),
        ]
        below = ~total[VALUE_BITS]  # no carry out of a - b
        left = is_["shl"]
        shifted = Mux(left, _mirrored(a), a) >> b[:6]

        values = {
            "add": total[:VALUE_BITS],
            "sub": total[:VALUE_BITS],
            "mul": low,
            "and": a & b,
            "shl": _mirrored(shifted),
            "shr": shifted,
            "min": Mux(below, a, b),
            "max": Mux(below, b, a),
        }
        with m.If(self.en), m.Switch(self.op):
            for number, name in enumerate(ALU):
                with m.Case(number):
                    m.d.sync += first.eq(values[name])
        m.d.comb += self.result.eq(first + (high << _HALF))
        return m
