"""One core: sequencer, queues, issue units, engines, memories, and the wires between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Value
from amaranth.lib.wiring import Component, In, Out

from presilicon.isa.layout import INSTRUCTION_BITS, REGISTER_BITS
from presilicon.rtl import axi
from presilicon.rtl.accumulator import Accumulators
from presilicon.rtl.engine import PC_BITS
from presilicon.rtl.faults import Faults
from presilicon.rtl.hierarchy import place
from presilicon.rtl.issue import Issue
from presilicon.rtl.load import Load
from presilicon.rtl.matmul import Matmul
from presilicon.rtl.queue import Queue, entry
from presilicon.rtl.register_file import VALUE_BITS
from presilicon.rtl.scratchpad import WRITES, Scratchpad
from presilicon.rtl.semaphores import Semaphores
from presilicon.rtl.sequencer import INSTRUCTION_BYTES, QUEUED, Sequencer
from presilicon.rtl.sram import Sram
from presilicon.rtl.store import Store
from presilicon.rtl.vector import Vector
from presilicon.template import ENGINES
from presilicon.template import Core as Sizes

TABLES, KERNELS, INSTRUCTIONS = 1, 2, 4
"""Targets of LOAD that lie outside of it."""
SEMAPHORE_OVERFLOW, WATCHDOG = 7, 11
_YOUNGEST = (2, 12, 13, 14)  # errors found in the fields of an instruction, when it is issued
_FLIGHT = {"load": 16, "store": 16, "matmul": 16, "vector": 2}  # a vector instruction ends before the next one begins


@dataclass(frozen=True, slots=True)
class _Parts:
    """The blocks of a core; queues, issue units and engines by the engine's name."""

    sequencer: Sequencer
    semaphores: Semaphores
    queues: dict[str, Queue]
    issues: dict[str, Issue]
    engines: dict[str, Any]
    scratchpad: Scratchpad
    accumulators: Accumulators
    instructions: Sram


class Core(Component):
    """A core of the template, but for its control registers.

    ``start`` runs the program at ``program_address``; ``done`` is a pulse in the last cycle of the run. ``stop`` and the first
    error (``error`` with what ``error_*`` say, until reset) stop all engines; ``quiet``: no burst is outstanding.
    ``argument_*``: see ``Sequencer``. ``read`` and ``write`` are the AXI channels. ``barrier_*``: to and from the other cores.
    The rest is for counters and traces: a bit an engine.
    """

    def __init__(self, core: Sizes) -> None:
        self.core = core
        engines = len(QUEUED)
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "watchdog": In(1),
                "program_address": In(VALUE_BITS),
                "program_bytes": In(32),
                "argument": In(REGISTER_BITS),
                "argument_high": In(1),
                "argument_en": In(1),
                "argument_data": In(32),
                "argument_value": Out(VALUE_BITS),
                "done": Out(1),
                "quiet": Out(1),
                "error": Out(1),
                "error_code": Out(8),
                "error_engine": Out(3),
                "error_pc": Out(PC_BITS),
                "error_info": Out(32),
                "barrier_arrive": Out(1),
                "barrier_release": In(1),
                "read": Out(axi.read_port(core.bus_bytes)),
                "write": Out(axi.write_port(core.bus_bytes)),
                "busy": Out(engines),
                "moving_row": Out(1),
                "waiting": Out(engines),
                "issued": Out(engines),
                "issued_pc": Out(engines * PC_BITS),
                "retired": Out(engines),
                "failed": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        core = self.core
        engines = {"load": Load, "store": Store, "matmul": Matmul, "vector": Vector}
        memory = Sram(INSTRUCTION_BITS, core.instruction_slots, 8 * core.bus_bytes)
        parts = _Parts(
            sequencer=place(m, Sequencer(core), "sequencer", "sequencer"),
            semaphores=place(m, Semaphores(), "semaphores", "semaphores"),
            queues={n: place(m, Queue(entry(n), core.queue_slots), f"queue_{n}", f"queue_{n}") for n in QUEUED},
            issues={n: place(m, Issue(_FLIGHT[n]), f"issue_{_FLIGHT[n]}", f"issue_{n}") for n in QUEUED},
            engines={n: place(m, engines[n](core), n, n) for n in QUEUED},
            scratchpad=place(m, Scratchpad(core), "scratchpad", "scratchpad"),
            accumulators=place(m, Accumulators(core), "accumulators", "accumulators"),
            instructions=place(m, memory, "instruction_memory", "instructions"),
        )
        self._sequence(m, parts)
        for number, name in enumerate(QUEUED):
            self._engine(m, parts, number, name)
        self._scratch(m, parts)
        self._accumulate(m, parts)
        self._side(m, parts)
        self._bus(m, parts)
        self._faults(m, parts)
        return m

    def _sequence(self, m: Module, parts: _Parts) -> None:
        """The sequencer to the outside, to its semaphores, and what counters and traces see."""
        sequencer, semaphores, queues, issues = parts.sequencer, parts.semaphores, parts.queues, parts.issues
        for name in (
            "start", "program_address", "program_bytes", "argument", "argument_high", "argument_en", "argument_data",
            "barrier_release",
        ):  # fmt: skip
            m.d.comb += getattr(sequencer, name).eq(getattr(self, name))
        own = ENGINES.index("sequencer")
        m.d.comb += [
            self.argument_value.eq(sequencer.argument_value),
            self.barrier_arrive.eq(sequencer.barrier_arrive),
            self.done.eq(sequencer.done),
            sequencer.room.eq(Cat(queues[n].room for n in QUEUED)),
            sequencer.engines_idle.eq(Cat(queues[n].empty & ~issues[n].busy for n in QUEUED).all()),
            sequencer.positive.eq(semaphores.positive[own]),
            semaphores.take[own].eq(sequencer.take),
            semaphores.signals[own].eq(sequencer.signals),
            semaphores.clear.eq(self.start),
            self.busy.eq(Cat(issues[n].busy for n in QUEUED)),
            self.waiting.eq(Cat(issues[n].waiting for n in QUEUED)),
            self.issued.eq(Cat(issues[n].pop for n in QUEUED)),
            self.issued_pc.eq(Cat(issues[n].pc for n in QUEUED)),
            self.retired.eq(Cat(issues[n].retired for n in QUEUED)),
        ]

    def _engine(self, m: Module, parts: _Parts, number: int, name: str) -> None:
        """Sequencer to queue to issue unit to engine."""
        sequencer, semaphores = parts.sequencer, parts.semaphores
        queue, issue, engine = parts.queues[name], parts.issues[name], parts.engines[name]
        m.d.comb += [
            queue.push.eq(sequencer.push[number]),
            Value.cast(queue.entry.payload).eq(Value.cast(getattr(sequencer, name))),
            queue.entry.wait_mask.eq(sequencer.wait_mask),
            queue.entry.signal_mask.eq(sequencer.signal_mask),
            queue.entry.sync.eq(sequencer.sync),
            queue.entry.pc.eq(sequencer.pc),
            queue.pop.eq(issue.pop),
            issue.visible.eq(queue.visible),
            issue.wait_mask.eq(queue.head.wait_mask),
            issue.signal_mask.eq(queue.head.signal_mask),
            issue.sync.eq(queue.head.sync),
            issue.pc.eq(queue.head.pc),
            issue.ready.eq(engine.ready),
            issue.done.eq(engine.done),
            issue.positive.eq(semaphores.positive[number]),
            semaphores.take[number].eq(issue.take),
            semaphores.signals[number].eq(issue.signals),
            engine.start.eq(issue.start),
            Value.cast(engine.payload).eq(Value.cast(queue.head.payload)),
        ]

    def _scratch(self, m: Module, parts: _Parts) -> None:
        """Engines to the ports of the scratchpad."""
        engines, scratchpad = parts.engines, parts.scratchpad
        for port, engine, own in (
            ("x", "matmul", "x"), ("w", "matmul", "w"), ("v", "vector", "read"), ("s", "store", "spad"),
            ("l", "load", "spad"), ("vw", "vector", "write"),
        ):  # fmt: skip
            for name in ("en", "address", "count"):
                m.d.comb += getattr(scratchpad, f"{port}_{name}").eq(getattr(engines[engine], f"{own}_{name}"))
            inside, outside = getattr(scratchpad, f"{port}_data"), getattr(engines[engine], f"{own}_data")
            m.d.comb += inside.eq(outside) if port in WRITES else outside.eq(inside)
        m.d.comb += self.moving_row.eq(engines["matmul"].x_en)

    def _accumulate(self, m: Module, parts: _Parts) -> None:
        """The array adds, the vector unit reads."""
        accumulators, matmul, vector = parts.accumulators, parts.engines["matmul"], parts.engines["vector"]
        for name in ("add_en", "add_bank", "add_row", "add_keep", "sums"):
            m.d.comb += getattr(accumulators, name).eq(getattr(matmul, name))
        for name in ("en", "bank", "row", "chunk"):
            m.d.comb += getattr(accumulators, f"read_{name}").eq(getattr(vector, f"acc_{name}"))
        m.d.comb += vector.acc_data.eq(accumulators.read_data)

    def _side(self, m: Module, parts: _Parts) -> None:
        """LOAD to the tables, the kernel memory and, a beat of a row at a time, the instruction memory."""
        load, vector, instructions = parts.engines["load"], parts.engines["vector"], parts.instructions
        sequencer, bus_bytes = parts.sequencer, self.core.bus_bytes
        beats = INSTRUCTION_BYTES // bus_bytes
        beat_at, row_at = bus_bytes.bit_length() - 1, INSTRUCTION_BYTES.bit_length() - 1
        targets = {n: load.side_en & (load.side_target == n) for n in (TABLES, KERNELS, INSTRUCTIONS)}
        m.d.comb += [
            vector.table_en.eq(targets[TABLES]),
            vector.table_address.eq(load.side_address[2:]),
            vector.table_data.eq(load.side_data),
            vector.kernel_en.eq(targets[KERNELS]),
            vector.kernel_address.eq(load.side_address),
            vector.kernel_data.eq(load.side_data),
            instructions.write_en.eq(targets[INSTRUCTIONS] << load.side_address[beat_at:row_at]),
            instructions.write_address.eq(load.side_address[row_at:]),
            instructions.write_data.eq(load.side_data.replicate(beats)),
            instructions.read_en.eq(sequencer.fetch_en),
            instructions.read_address.eq(sequencer.fetch_address),
            sequencer.fetch_data.eq(instructions.read_data),
        ]

    def _bus(self, m: Module, parts: _Parts) -> None:
        """LOAD reads and STORE writes."""
        for mine, engine, signature in (
            (self.read, "load", axi.read_port(self.core.bus_bytes)),
            (self.write, "store", axi.write_port(self.core.bus_bytes)),
        ):
            theirs = parts.engines[engine].axi
            for name, member in signature.members.items():
                source, sink = (theirs, mine) if member.flow == Out else (mine, theirs)
                m.d.comb += getattr(sink, name).eq(getattr(source, name))
        m.d.comb += self.quiet.eq(parts.engines["load"].idle & parts.engines["store"].idle)

    def _faults(self, m: Module, parts: _Parts) -> None:
        """The first error stops everything; of several in one cycle the one that stands first here."""
        sequencer, issues, engines = parts.sequencer, parts.issues, parts.engines
        own = ENGINES.index("sequencer")
        pcs: list[Value] = [issues[n].oldest_pc for n in QUEUED] + [sequencer.pc]
        sources: list[tuple[Value, ...]] = [(sequencer.error, sequencer.error_code, own, sequencer.pc, sequencer.error_info)]
        for number, name in enumerate(QUEUED):
            engine, issue = engines[name], issues[name]
            young = Cat(engine.error_code == code for code in _YOUNGEST).any()
            pc = Mux(young, issue.youngest_pc, issue.oldest_pc)
            sources.append((engine.error, engine.error_code, number, pc, engine.error_info))
        for memory in (parts.scratchpad, parts.accumulators):
            pc = pcs[own]
            for number in range(len(QUEUED)):
                pc = Mux(memory.error_engine == number, pcs[number], pc)
            sources.append((memory.error, memory.error_code, memory.error_engine, pc, memory.error_info))
        pair = Cat(parts.semaphores.overflow_destination, parts.semaphores.overflow_source)
        sources.append((parts.semaphores.overflow, SEMAPHORE_OVERFLOW, parts.semaphores.overflow_source, sequencer.pc, pair))
        sources.append((self.watchdog, WATCHDOG, own, sequencer.pc, 0))

        faults = place(m, Faults(len(sources)), "faults", "faults")
        for fault, source in zip(faults.sources, sources, strict=True):
            for name, value in zip(("error", "code", "engine", "pc", "info"), source, strict=True):
                m.d.comb += Value.cast(fault[name]).eq(value)
        stop = self.stop | faults.kept.error
        m.d.comb += [
            sequencer.stop.eq(stop),
            *(part.stop.eq(stop) for n in QUEUED for part in (issues[n], engines[n])),
            self.error.eq(faults.kept.error),
            self.error_code.eq(faults.kept.code),
            self.error_engine.eq(faults.kept.engine),
            self.error_pc.eq(faults.kept.pc),
            self.error_info.eq(faults.kept.info),
            self.failed.eq(faults.now),
        ]
