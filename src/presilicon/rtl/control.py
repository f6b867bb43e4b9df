"""The control registers of one core: start, reset, status, interrupt, watchdog, arguments, counters."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import REGISTER_BITS
from presilicon.rtl.engine import PC_BITS
from presilicon.rtl.register_file import VALUE_BITS
from presilicon.rtl.register_map import (
    ARGUMENTS,
    COUNTER_BITS,
    COUNTERS,
    IDENTITY,
    REGISTERS,
    VERSION,
    Register,
    offset,
    register,
)
from presilicon.template import Core

OFFSET_BITS = 12


class Control(Component):
    """The registers of ``register_map`` for the core of this ``number``. It stands outside of what RESET resets.

    Registers: in a cycle of ``write`` or ``read`` the word at ``offset`` is written with ``data``, or its value is ``answer``;
    ``refused`` where that is not allowed. ``start_all`` is a pulse for ``start_request`` of every core.

    A run: ``start`` is a pulse in its cycle 0, ``done`` from the core ends it, ``error`` (held until reset) too. ``reset``
    resets the core after ``stop`` has made it ``quiet``. ``watchdog`` is high once the run lasts too long. ``events`` are what
    counters after CYCLES add in a cycle.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        super().__init__(
            {
                "number": In(16),
                # register bus
                "write": In(1),
                "read": In(1),
                "offset": In(OFFSET_BITS),
                "data": In(32),
                "answer": Out(32),
                "refused": Out(1),
                "irq": Out(1),
                "start_all": Out(1),
                "start_request": In(1),
                # the core
                "start": Out(1),
                "reset": Out(1),
                "stop": Out(1),
                "watchdog": Out(1),
                "program_address": Out(VALUE_BITS),
                "program_bytes": Out(32),
                "argument": Out(REGISTER_BITS),
                "argument_high": Out(1),
                "argument_en": Out(1),
                "argument_data": Out(32),
                "argument_value": In(VALUE_BITS),
                "done": In(1),
                "quiet": In(1),
                "error": In(1),
                "error_code": In(8),
                "error_engine": In(3),
                "error_pc": In(PC_BITS),
                "error_info": In(32),
                # counters
                "busy": In(4),
                "moving_row": In(1),
                "waits": In(3),
                "read_beat": In(1),
                "write_beat": In(1),
                "stalls": In(2),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word = Signal(OFFSET_BITS - 2)
        m.d.comb += word.eq(self.offset[2:])
        busy, ended, resetting = Signal(), Signal(), Signal()
        enable, events = Signal(2), Signal(2)
        limit = Signal(VALUE_BITS)

        def written(name: str, half: int = 0) -> Value:
            return self.write & (word == offset(name) // 4 + half)

        # Runs
        control = register("CONTROL")
        bit = {f.name: self.data[f.at] & written("CONTROL") for f in control.fields}
        able = ~busy & ~self.error & ~resetting
        m.d.comb += self.start_all.eq(bit["START_ALL"])
        m.d.sync += self.start.eq(0)
        with m.If((bit["START"] | self.start_request) & able):
            m.d.sync += [self.start.eq(1), busy.eq(1), ended.eq(0)]
        ending, failing = busy & self.done & ~self.start, busy & self.error
        with m.If(written("IRQ_STATUS")):
            m.d.sync += events.eq(events & ~self.data[: len(events)])
        with m.If(failing):
            m.d.sync += [busy.eq(0), events[1].eq(1)]
        with m.Elif(ending):
            m.d.sync += [busy.eq(0), ended.eq(1), events[0].eq(1)]
        m.d.sync += self.irq.eq((events & enable).any())

        # Reset: stop, wait until the bursts have ended, one cycle of reset
        m.d.comb += self.stop.eq(resetting)
        m.d.sync += self.reset.eq(resetting & self.quiet & ~self.reset)
        with m.If(self.reset):
            m.d.sync += [resetting.eq(0), busy.eq(0), ended.eq(0)]
        with m.Elif(bit["RESET"]):
            m.d.sync += resetting.eq(1)

        # What is kept for the core
        stored = {
            "IRQ_ENABLE": enable,
            "PROGRAM_BYTES": self.program_bytes,
            "PROGRAM": self.program_address,
            "WATCHDOG": limit,
        }
        for name, value in stored.items():
            for half in range(register(name).words):
                part = value[32 * half : 32 * half + 32]
                with m.If(written(name, half)):
                    m.d.sync += part.eq(self.data)
        first = offset("ARG1") // 4 - 2
        is_argument = Signal()
        m.d.comb += [
            is_argument.eq((word >= first + 2) & (word < first + 2 * (ARGUMENTS + 1))),
            self.argument.eq(word[1 : 1 + REGISTER_BITS]),
            self.argument_high.eq(word[0]),
            self.argument_en.eq(self.write & is_argument & ~busy),
            self.argument_data.eq(self.data),
        ]

        counters = self._counters(m, busy & ~self.done & ~self.error)
        # In the cycle of `start` the counter still shows the run before.
        m.d.sync += self.watchdog.eq(busy & ~self.start & (limit != 0) & (counters["CYCLES"] >= limit))

        # Answers
        status = Cat(busy, ended, self.error, resetting, Const(0, 4), self.error_code, self.error_engine)
        values: dict[str, Value] = {
            "ID": Const(IDENTITY, 32),
            "VERSION": Const(VERSION, 32),
            "DIGEST": Const(int(self._core.digest(), 16), 64),
            "CORES": Cat(Const(self._core.cores, 16), self.number),
            "CONTROL": Const(0, 3),
            "STATUS": status,
            "ERROR_PC": self.error_pc,
            "ERROR_INFO": self.error_info,
            "IRQ_STATUS": events,
            **stored,
            **counters,
        }
        kept = Signal(COUNTER_BITS - 32)  # the high word that belongs to the low word read last
        known, writable = Signal(), Signal()
        with m.Switch(word):
            for r in REGISTERS:
                if r.name.startswith("ARG"):
                    continue
                self._answer(m, r, values[r.name], kept, known, writable)
        with m.If(is_argument):
            m.d.comb += [
                known.eq(1),
                writable.eq(~busy),
                self.answer.eq(Mux(word[0], self.argument_value[32:], self.argument_value[:32])),
            ]
        m.d.comb += self.refused.eq(~known | (self.write & ~writable) | (bit["START"] & ~able))
        return m

    def _answer(self, m: Module, r: Register, value: Value, kept: Signal, known: Signal, writable: Signal) -> None:
        """The cases of a register's words."""
        counter = r.name in dict(COUNTERS)
        for half in range(r.words):
            with m.Case(r.offset // 4 + half):
                m.d.comb += [known.eq(1), writable.eq(r.access != "r")]
                m.d.comb += self.answer.eq(kept if counter and half else value[32 * half : 32 * half + 32])
                if counter and not half:
                    with m.If(self.read):
                        m.d.sync += kept.eq(value[32:])

    def _counters(self, m: Module, running: Value) -> dict[str, Signal]:
        """The counters by name; all begin at 0 in the cycle of ``start`` and count while ``running``."""
        shift = self._core.bus_bytes.bit_length() - 1
        beats = {"READ_BYTES", "WRITE_BYTES"}
        steps: list[Value] = [Const(1), *self.busy, self.moving_row, self.waits, self.read_beat, self.write_beat, self.stalls]
        found = {}
        for (name, _), step in zip(COUNTERS, steps, strict=True):
            counter = Signal(COUNTER_BITS, name=name.lower())
            counted = counter[shift:] if name in beats else counter
            with m.If(self.start):
                m.d.sync += [counter.eq(0), counted.eq(step)]
            with m.Elif(running):
                m.d.sync += counted.eq(counted + step)
            found[name] = counter
        return found
