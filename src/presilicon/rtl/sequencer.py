"""The sequencer: fetches instructions, adds registers to their slots, hands them to the queues, runs loops and `set`."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import (
    INSTRUCTION_BITS,
    LAYOUT,
    REGISTER_BITS,
    SEMAPHORE_BITS,
    SIGNAL_AT,
    SLOT_BITS,
    WAIT_AT,
    slot_at,
)
from presilicon.rtl.alu import Alu
from presilicon.rtl.decode import Decode, plain
from presilicon.rtl.engine import PC_BITS, payload
from presilicon.rtl.hierarchy import place
from presilicon.rtl.loops import Loops
from presilicon.rtl.register_file import VALUE_BITS, RegisterFile
from presilicon.template import ENGINES, Core

QUEUED = ENGINES[:4]
"""Engines that have a queue."""
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
ILLEGAL_OPCODE, ILLEGAL_FIELD, LOOP_NESTING = 1, 2, 8
_LOAD, _SEQUENCER = ENGINES.index("load"), ENGINES.index("sequencer")
_BOOT = {"n3": 1, "target": 4}  # plain fields of the LOAD that brings the program; all others are 0


class Sequencer(Component):
    """Three cycles an instruction: FETCH (address to the instruction memory), DECODE (registers added to slots), EXEC.

    EXEC holds while the queue has no room, a semaphore is 0 (``sync`` of the sequencer), or engines work (``barrier``,
    ``halt``). ``start`` in cycle 0 pushes in cycle 1 the LOAD that brings the program, waits for its signal, and fetches
    instruction 0 in the cycle after. ``done`` is a pulse in the cycle in which ``halt`` leaves.

    The instruction memory stands outside: ``fetch_data`` follows ``fetch_en`` by a cycle and holds until the next one.
    ``argument_*`` write a half of a register (``argument_high``) or read one, while the sequencer is not ``running``.
    """

    def __init__(self, core: Core) -> None:
        self._slots = core.instruction_slots
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "program_address": In(VALUE_BITS),
                "program_bytes": In(32),
                "running": Out(1),
                "done": Out(1),
                # registers, from the host
                "argument": In(REGISTER_BITS),
                "argument_high": In(1),
                "argument_en": In(1),
                "argument_data": In(32),
                "argument_value": Out(VALUE_BITS),
                # instruction memory
                "fetch_en": Out(1),
                "fetch_address": Out(range(self._slots)),
                "fetch_data": In(INSTRUCTION_BITS),
                # queues: one instruction, for the queue whose bit of ``push`` is set
                "room": In(len(QUEUED)),
                "push": Out(len(QUEUED)),
                **{name: Out(payload(name)) for name in QUEUED},
                "wait_mask": Out(SEMAPHORE_BITS),
                "signal_mask": Out(SEMAPHORE_BITS),
                "sync": Out(1),
                "pc": Out(PC_BITS),
                "engines_idle": In(1),
                # its own semaphores
                "positive": In(SEMAPHORE_BITS),
                "take": Out(SEMAPHORE_BITS),
                "signals": Out(SEMAPHORE_BITS),
                # the other cores
                "barrier_arrive": Out(1),
                "barrier_release": In(1),
                # errors, with ``pc``
                "error": Out(1),
                "error_code": Out(8),
                "error_info": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = self.fetch_data
        decode = place(m, Decode(self._slots), "decode", "decode")
        registers = place(m, RegisterFile(len(SLOT_BITS) + 1), "register_file", "registers")
        alu = place(m, Alu(), "alu", "alu")
        loops = place(m, Loops(len(self.fetch_address)), "loops", "loops")
        pc = self.fetch_address
        following, behind = self._plus(m, pc, 1, "following"), Signal.like(pc)
        booting = Signal()
        slots = [Signal(bits, name=f"slot{i}") for i, bits in enumerate(SLOT_BITS)]
        operand = Signal(VALUE_BITS)

        # DECODE: slots plus registers; the last read port is for the first operand of `set`, or for the host at rest.
        for i, bits in enumerate(SLOT_BITS):
            at = slot_at(i) + bits
            m.d.comb += registers.number[i].eq(word[at : at + REGISTER_BITS])
        m.d.comb += [
            registers.number[-1].eq(Mux(self.running, plain(word, "set", "a"), self.argument)),
            self.argument_value.eq(registers.value[-1]),
            registers.host_en.eq(self.argument_en & ~self.running),
            registers.host_high.eq(self.argument_high),
            registers.host_number.eq(self.argument),
            registers.host_value.eq(self.argument_data),
        ]
        sums = [word[slot_at(i) : slot_at(i) + bits] + registers.value[i] for i, bits in enumerate(SLOT_BITS)]

        # EXEC of `set`, and the cycle after, in which the register is written: before the next DECODE.
        write_number, write_en = Signal(REGISTER_BITS), Signal()
        m.d.comb += [
            alu.op.eq(plain(word, "set", "op")),
            alu.a.eq(operand),
            alu.b.eq(slots[0]),
            registers.write_en.eq(write_en),
            registers.write_number.eq(write_number),
            registers.write_value.eq(alu.result),
        ]
        m.d.sync += write_en.eq(alu.en)
        with m.If(alu.en):
            m.d.sync += write_number.eq(plain(word, "set", "to"))

        m.d.comb += [
            decode.word.eq(word),
            loops.clear.eq(self.start),
            loops.first.eq(following),
            loops.count.eq(slots[1]),
            behind.eq(self._plus(m, following, plain(word, "loop", "length"), "behind")),
            self.pc.eq(pc),
            self.wait_mask.eq(Mux(booting, 0, word[WAIT_AT:SIGNAL_AT])),
            self.signal_mask.eq(Mux(booting, 1 << _SEQUENCER, word[SIGNAL_AT : SIGNAL_AT + SEMAPHORE_BITS])),
            self.sync.eq(decode.is_.sync & ~booting),
            self.error_info.eq(word[:32]),
        ]
        for name in QUEUED:
            self._connect_payload(m, name, slots, booting)

        def onwards(to: Value) -> None:
            m.d.sync += pc.eq(to)
            m.next = "fetch"

        def error(code: int) -> None:
            m.d.comb += [self.error.eq(1), self.error_code.eq(code)]
            m.next = "rest"

        size = self._slots * INSTRUCTION_BYTES
        program = Mux(self.program_bytes > size, size, self.program_bytes)
        with m.FSM(name="state"):
            with m.State("rest"):
                m.d.sync += self.running.eq(0)
                with m.If(self.start & ~self.stop):
                    first = [self.program_address, 0, 1, 1, program, 0, 0, 0]  # dram, spad, n1, n2, run of the LOAD
                    m.d.sync += [slot.eq(value) for slot, value in zip(slots, first, strict=True)]
                    m.d.sync += [pc.eq(0), booting.eq(1), self.running.eq(1)]
                    m.next = "boot"
            with m.State("boot"):
                m.d.comb += self.push[_LOAD].eq(1)
                m.next = "boot wait"
            with m.State("boot wait"):
                with m.If(self.positive[_LOAD]):
                    m.d.comb += self.take[_LOAD].eq(1)
                    m.d.sync += booting.eq(0)
                    m.next = "fetch"
                with m.Elif(self.stop):
                    m.next = "rest"
            with m.State("fetch"):
                m.d.comb += self.fetch_en.eq(1)
                m.next = "decode"
            with m.State("decode"):
                m.d.sync += [slot.eq(total) for slot, total in zip(slots, sums, strict=True)]
                m.d.sync += operand.eq(registers.value[-1])
                m.next = "exec"
            with m.State("exec"):
                is_ = decode.is_
                with m.If(self.stop):
                    m.next = "rest"
                with m.Elif(decode.illegal_opcode):
                    error(ILLEGAL_OPCODE)
                with m.Elif(decode.illegal_field):
                    error(ILLEGAL_FIELD)
                for number, name in enumerate(QUEUED):
                    queued = is_[name] | (is_.sync & (plain(word, "sync", "engine") == number))
                    with m.Elif(queued):
                        m.d.comb += self.push[number].eq(self.room[number])
                        with m.If(self.room[number]):
                            onwards(following)
                with m.Elif(is_.sync):
                    satisfied = (self.wait_mask & ~self.positive) == 0
                    with m.If(satisfied):
                        m.d.comb += [self.take.eq(self.wait_mask), self.signals.eq(self.signal_mask)]
                        onwards(following)
                with m.Elif(is_.set):
                    m.d.comb += alu.en.eq(1)
                    onwards(following)
                with m.Elif(is_.loop):
                    with m.If(slots[1] == 0):
                        onwards(behind)
                    with m.Elif(loops.full):
                        error(LOOP_NESTING)
                    with m.Else():
                        m.d.comb += loops.enter.eq(1)
                        onwards(following)
                with m.Elif(is_.end):
                    with m.If(loops.empty):
                        error(LOOP_NESTING)
                    with m.Elif(loops.last):
                        m.d.comb += loops.leave.eq(1)
                        onwards(following)
                    with m.Else():
                        m.d.comb += loops.again.eq(1)
                        onwards(loops.body)
                with m.Elif(is_.barrier):
                    m.d.comb += self.barrier_arrive.eq(self.engines_idle)
                    with m.If(self.engines_idle & self.barrier_release):
                        onwards(following)
                with m.Elif(self.engines_idle):  # halt
                    m.d.comb += self.done.eq(1)
                    m.next = "rest"
        return m

    def _plus(self, m: Module, pc: Value, distance: Value | int, name: str) -> Signal:
        """The pc ``distance`` (below the memory's slots) behind ``pc``, modulo the slots."""
        total, wrapped = Signal(range(2 * self._slots), name=f"{name}_total"), Signal(range(self._slots), name=name)
        m.d.comb += [
            total.eq(pc + distance),
            wrapped.eq(Mux(total >= self._slots, total - self._slots, total)),
        ]
        return wrapped

    def _connect_payload(self, m: Module, name: str, slots: list[Signal], booting: Signal) -> None:
        """Slots come from their registers, plain fields from the memory's output; while booting they are ``_BOOT``."""
        at_slot = {slot_at(i): slot for i, slot in enumerate(slots)}
        for f in LAYOUT[name]:
            field = self.fetch_data[f.at : f.at + f.bits]
            if f.register_at >= 0:
                value: Value = at_slot[f.at]
            elif name == "load":
                value = Mux(booting, _BOOT.get(f.name, 0), field)
            else:
                value = field
            m.d.comb += Value.cast(getattr(self, name)[f.name]).eq(value)
