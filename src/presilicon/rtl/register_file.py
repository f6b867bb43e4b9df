"""The registers that the sequencer adds to slots: runtime arguments, loop variables."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import REGISTER_BITS

VALUE_BITS = 40
REGISTERS = 1 << REGISTER_BITS


class RegisterFile(Component):
    """Registers r1 to r15 of 40 bits (r0 is 0), ``reads`` combinational read ports, one write port, one for the host.

    The host writes a half at a time: ``host_high`` chooses bits 39 to 32, else 31 to 0. A write is seen in the next cycle.
    """

    def __init__(self, reads: int) -> None:
        self._reads = reads
        super().__init__(
            {
                "number": In(unsigned(REGISTER_BITS)).array(reads),
                "value": Out(unsigned(VALUE_BITS)).array(reads),
                "write_en": In(1),
                "write_number": In(REGISTER_BITS),
                "write_value": In(VALUE_BITS),
                "host_en": In(1),
                "host_high": In(1),
                "host_number": In(REGISTER_BITS),
                "host_value": In(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        registers = [Signal(VALUE_BITS, name=f"r{i}") for i in range(1, REGISTERS)]
        for i, register in enumerate(registers, 1):
            with m.If(self.write_en & (self.write_number == i)):
                m.d.sync += register.eq(self.write_value)
            with m.Elif(self.host_en & (self.host_number == i)):
                with m.If(self.host_high):
                    m.d.sync += register[32:].eq(self.host_value)
                with m.Else():
                    m.d.sync += register[:32].eq(self.host_value)
        for port in range(self._reads):
            with m.Switch(self.number[port]):
                for i, register in enumerate(registers, 1):
                    with m.Case(i):
                        m.d.comb += self.value[port].eq(register)
        return m
