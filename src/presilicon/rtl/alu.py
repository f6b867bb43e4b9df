"""The arithmetic of ``set``: two cycles, on 40-bit unsigned values."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import ALU
from presilicon.rtl.register_file import VALUE_BITS

_HALF = VALUE_BITS // 2


class Alu(Component):
    """``result`` = ``a`` op ``b`` in the cycle after ``a``, ``b`` and ``op`` (a position in ``ALU``).

    Products of halves are registered and added up in the second cycle: a 40-bit multiplication would not fit one.
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
        less, multiplied = Signal(), Signal()
        low, cross, other = Signal(VALUE_BITS), Signal(_HALF), Signal(VALUE_BITS)
        values = {
            "add": a + b,
            "sub": a - b,
            "and": a & b,
            "shl": (a << b[:6])[:VALUE_BITS],
            "shr": a >> b[:6],
            "min": Mux(less, a, b),
            "max": Mux(less, b, a),
        }
        m.d.comb += less.eq(a < b)
        with m.If(self.en):
            m.d.sync += [
                multiplied.eq(self.op == ALU.index("mul")),
                low.eq(a[:_HALF] * b[:_HALF]),
                cross.eq(a[_HALF:] * b[:_HALF] + a[:_HALF] * b[_HALF:]),
            ]
            with m.Switch(self.op):
                for name, value in values.items():
                    with m.Case(ALU.index(name)):
                        m.d.sync += other.eq(value)
        m.d.comb += self.result.eq(Mux(multiplied, low + (cross << _HALF), other))
        return m
