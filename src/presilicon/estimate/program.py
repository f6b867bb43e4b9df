"""Cycles of programs of the template in closed form: each instruction's own time, in the order that queues and semaphores give.

Unlike the simulator it knows no bursts: a load or store moves its beats through a pipe that all engines and cores share, and
waits for the memory where its rows are short. No constant is fitted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from presilicon.errors import IsaError
from presilicon.isa import (
    GATHER_START,
    INSTRUCTION_BYTES,
    INSTRUCTION_CYCLES,
    LOAD_DONE,
    MOVE_START,
    QUEUE_CYCLES,
    UOP_BYTES,
    Instruction,
    Program,
    Uop,
    alu,
    matmul_time,
    vector_slots,
    vector_time,
)
from presilicon.isa.moves import BURST_BYTES, table_beat_cycles, valid_rows
from presilicon.template import ENGINES, Core

LOAD, STORE, MATMUL, VECTOR, SEQUENCER = range(len(ENGINES))
_NUMBER = {name: i for i, name in enumerate(ENGINES)}
# From the address of a store's burst to its first beat, and from the last one to the next address.
_STORE_BEAT_CYCLES, _STORE_GAP_CYCLES = 4, 1
# Ranges of time in the past that the memory forgets at once.
_REMEMBERED = 256
# Cycles of a burst in flight beside its data and the memory's latency.
_READ_FLIGHT, _WRITE_FLIGHT = 3.0, 6.0


@dataclass(frozen=True, slots=True)
class EstimatedEvent:
    """What one instruction does in time: its core, engine, number in the core's program, issue and done."""

    core: int
    engine: str
    pc: int
    issue: int
    done: int


@dataclass(frozen=True, slots=True)
class ProgramEstimate:
    """Cycles from start to the last halt, and each instruction's in the order of the programs."""

    cycles: float
    events: tuple[EstimatedEvent, ...]


class _Memory:
    """The pipe to DRAM: its latency, the cycles of a beat, and the ranges of time in which it is taken.

    Instructions come in the order of the program, not of time: each takes what earlier ones have left free.
    """

    def __init__(self, latency: float, beat_cycles: float) -> None:
        self.latency, self.beat_cycles = latency, beat_cycles
        self.starts: list[float] = []
        self.ends: list[float] = []

    def pass_through(self, arrival: float, beats: float) -> tuple[float, float]:
        """When beats that arrive at some time begin to pass, and when all have passed."""
        left, at = beats * self.beat_cycles, arrival + 1.0
        number = bisect_right(self.ends, at)
        if number > _REMEMBERED:
            del self.starts[:_REMEMBERED], self.ends[:_REMEMBERED]
            number -= _REMEMBERED
        first, begin = number, -1.0
        low, high = at, at
        while True:
            if number < len(self.starts) and self.starts[number] <= at:
                at = self.ends[number]
                number += 1
                continue
            begin = at if begin < 0.0 else begin
            room = self.starts[number] - at if number < len(self.starts) else left
            if room >= left:
                at += left
                break
            left -= room
            at = self.starts[number]
        # All from the first gap on is one taken range now.
        low = min(begin, self.starts[first]) if first < number else begin
        high = max(at, self.ends[number - 1]) if first < number else at
        self.starts[first:number], self.ends[first:number] = [low], [high]
        return begin, at


class _Core:
    """One core on its way through its program."""

    def __init__(self, number: int, core: Core, program: Program, arguments: Mapping[int, int], memory: _Memory) -> None:
        self.number, self.core, self.program, self.memory = number, core, program, memory
        self.registers = [arguments.get(i, 0) for i in range(16)]
        self.pc = 0
        self.loops: list[tuple[int, int, int]] = []
        self.sequenced = 0.0
        self.free = [0.0] * 4
        self.done = [0.0] * 4
        self.left: list[deque[float]] = [deque([0.0] * core.queue_slots, core.queue_slots) for _ in range(4)]
        self.tokens: dict[tuple[int, int], deque[float]] = {}
        self.multiplied = 0
        self.sunk = 0.0
        self.kernels: dict[int, tuple[Uop, ...]] = {}
        self.events: list[EstimatedEvent] = []
        self.halted = self.waiting = False
        # Kernels by their address in DRAM: a load of the kernel memory says which stand there.
        self.images: dict[int, tuple[Uop, ...]] = {}
        at = program.kernel_address
        for kernel in program.kernels:
            self.images[at] = kernel.uops
            at += kernel.slots * UOP_BYTES
        self.boot()

    def boot(self) -> None:
        """The load of the first instructions."""
        beats = ceil(min(len(self.program.instructions), self.core.instruction_slots) * INSTRUCTION_BYTES / self.core.bus_bytes)
        begin, _ = self.memory.pass_through(1.0 + QUEUE_CYCLES + MOVE_START, beats)
        self.sunk = begin + self.memory.latency + beats * self.memory.beat_cycles - 1.0
        self.sequenced = self.sunk + LOAD_DONE + 1.0

    def step(self) -> None:
        """The next instruction; ``waiting`` at a barrier, ``halted`` at the end."""
        one = self.program.instructions[self.pc]
        engine = _NUMBER[one.engine]
        if one.op in ("halt", "barrier"):
            self.sequenced = max(self.sequenced + INSTRUCTION_CYCLES, *self.done)
            self.halted, self.waiting = one.op == "halt", one.op == "barrier"
            return
        self.sequenced += INSTRUCTION_CYCLES
        self.pc += 1
        if engine == SEQUENCER:
            self.sequence(one)
            return
        self.sequenced = max(self.sequenced, self.left[engine][0] + 1.0)
        issue = max(self.sequenced + QUEUE_CYCLES, self.free[engine], self.taken(one, engine))
        self.left[engine].append(issue)
        if one.op == "sync":
            self.free[engine], done = issue + 1.0, issue
        else:
            done = self.timed(one, engine, issue)
        # Signals go out in order, one a cycle.
        done = max(done, self.done[engine] + 1.0)
        self.done[engine] = done
        for target in one.signal:
            self.tokens.setdefault((engine, _NUMBER[target]), deque()).append(done + 1.0)
        if one.op != "sync":
            self.events.append(EstimatedEvent(self.number, ENGINES[engine], self.pc - 1, int(issue), int(done)))

    def taken(self, one: Instruction, engine: int) -> float:
        """When the tokens that an instruction waits for are there."""
        latest = 0.0
        for source in one.wait:
            tokens = self.tokens.get((_NUMBER[source], engine))
            if not tokens:
                raise IsaError(
                    f"instruction {self.pc - 1} `{one}` waits for a signal of {source} that comes behind it",
                    hint="an estimate follows programs whose signals come before their waits",
                )
            latest = max(latest, tokens.popleft())
        return latest

    def sequence(self, one: Instruction) -> None:
        """What the sequencer does itself."""
        if one.op == "sync":
            self.sequenced = max(self.sequenced, self.taken(one, SEQUENCER))
            for target in one.signal:
                self.tokens.setdefault((SEQUENCER, _NUMBER[target]), deque()).append(self.sequenced + 1.0)
            return
        fields = one.resolve(self.registers)
        if one.op == "set":
            self.registers[fields["to"]] = alu(fields["op"], self.registers[fields["a"]], fields["value"])
        elif one.op == "loop":
            if fields["count"]:
                self.loops.append((self.pc, self.pc + fields["length"] - 1, fields["count"] - 1))
            else:
                self.pc += fields["length"]
        else:
            first, last, count = self.loops.pop()
            if count:
                self.loops.append((first, last, count - 1))
                self.pc = first

    def timed(self, one: Instruction, engine: int, issue: float) -> float:
        """When an instruction that is issued in ``issue`` is done; its engine's next one is put off."""
        fields = one.resolve(self.registers)
        if engine == MATMUL:
            product = matmul_time(self.core, fields, ceil(issue), self.multiplied)
            self.multiplied, self.free[MATMUL] = product.free, product.ready
            return product.done
        if engine == VECTOR:
            kernel = vector_time(self.core, vector_slots(self.kernels[fields["kernel"]], fields), ceil(issue))
            self.free[VECTOR] = kernel.ready
            return kernel.done
        return (self.load if engine == LOAD else self.store)(fields, issue)

    def load(self, fields: Mapping[str, int], issue: float) -> float:
        """Rows of data through the pipe, fill beside it; the sink takes them in order."""
        core, memory = self.core, self.memory
        if fields["target"] == 2:
            self.load_kernels(fields)
        first, last = valid_rows(fields)
        n = fields["n1"] * fields["n2"] * fields["n3"]
        rows = (last - first) * fields["n2"] * fields["n3"]
        begin = issue + (GATHER_START if fields["gather"] else MOVE_START)
        slow = table_beat_cycles(core) if fields["target"] == 1 else 1
        fills = (bool(fields["left"]) + bool(fields["right"])) * rows + (n - rows)
        filled = ceil(fields["left"] / core.bus_bytes) * rows + ceil(fields["right"] / core.bus_bytes) * rows
        filled += (n - rows) * ceil((fields["left"] + fields["run"] + fields["right"]) / core.bus_bytes)
        bursts, beats = _bursts(core, fields, rows)
        each = beats / bursts if bursts else 0.0
        flight = memory.latency + each * memory.beat_cycles + _READ_FLIGHT
        entries = bursts + fills
        pace = max(each * max(memory.beat_cycles, slow) + filled / max(bursts, 1), flight / core.outstanding)
        took = bursts * pace if bursts > core.outstanding else beats * max(memory.beat_cycles, slow) + filled
        passed, through = memory.pass_through(begin, beats) if bursts else (begin, begin)
        start = max(passed + memory.latency * (bursts > 0), self.sunk + 1.0)
        self.sunk = max(start + max(took, 1.0) - 1.0, through + memory.latency * (bursts > 0) - 1.0)
        # The walker hands out the last transfers when those eight before them are in.
        self.free[LOAD] = max(begin + entries, self.sunk - core.outstanding * max(pace, 1.0))
        return self.sunk + LOAD_DONE

    def store(self, fields: Mapping[str, int], issue: float) -> float:
        """Bursts one behind the other; the memory takes each when its last beat is there."""
        core, memory = self.core, self.memory
        bursts, beats = _bursts(core, fields, fields["n1"] * fields["n2"] * fields["n3"])
        each = beats / bursts
        flight = memory.latency + each * (1.0 + memory.beat_cycles) + _WRITE_FLIGHT
        pace = max(each * memory.beat_cycles, each + _STORE_GAP_CYCLES)
        if bursts > core.outstanding:
            pace = max(pace, flight / core.outstanding)
        begin = issue + MOVE_START
        _, through = memory.pass_through(begin + _STORE_BEAT_CYCLES + each - 1.0, beats)
        end = max(through, begin + bursts * pace + _STORE_BEAT_CYCLES)
        self.free[STORE] = max(begin + bursts * pace, end - core.outstanding * pace)
        return end + memory.latency + 1.0

    def load_kernels(self, fields: Mapping[str, int]) -> None:
        """What stands in the kernel memory after a load."""
        at, end, slot = fields["dram"], fields["dram"] + fields["run"], fields["spad"] // UOP_BYTES
        while at < end and at in self.images:
            uops = self.images[at]
            self.kernels[slot] = uops
            size = -(-len(uops) // 4) * 4
            at, slot = at + size * UOP_BYTES, slot + size


def _bursts(core: Core, fields: Mapping[str, int], rows: int) -> tuple[int, int]:
    """Bursts and beats of rows that begin anywhere in a page."""
    run = fields["run"]
    if rows == 1:
        first = fields["dram"] % BURST_BYTES
        beats = ceil((first % core.bus_bytes + run) / core.bus_bytes)
        return ceil((first + run) / BURST_BYTES), beats
    aligned = not (fields["dram"] % core.bus_bytes or fields["stride1"] % core.bus_bytes)
    beats = ceil(run / core.bus_bytes) + (0 if aligned else 1 - (run % core.bus_bytes == 1))
    # A row crosses a page as often as its length over the page's.
    return rows + rows * (run - 1) // BURST_BYTES, rows * beats


def program_estimate(
    programs: Sequence[Program],
    core: Core,
    arguments: Mapping[int, int] | None = None,
    *,
    latency: float = 40.0,
    beat_cycles: float = 1.0,
) -> ProgramEstimate:
    """Cycles of programs, one a core, with these runtime registers; ``beat_cycles`` of the memory for one beat of the bus.

    IsaError where a program waits for a signal that comes later in it.
    """
    memory = _Memory(latency, beat_cycles)
    cores = [_Core(i, core, program, arguments or {}, memory) for i, program in enumerate(programs)]
    while any(not one.halted for one in cores):
        ready = [one for one in cores if not (one.halted or one.waiting)]
        if ready:
            min(ready, key=lambda one: one.sequenced).step()
            continue
        latest = max(one.sequenced for one in cores)
        for one in cores:
            one.sequenced, one.waiting, one.pc = latest + (len(cores) > 1), False, one.pc + 1
    return ProgramEstimate(max(one.sequenced for one in cores), tuple(event for one in cores for event in one.events))
