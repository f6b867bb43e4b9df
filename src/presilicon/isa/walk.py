"""A program expanded, without time: its scalar instructions executed, its engines' instructions ordered by what must be so.

Each instruction gets two vector clocks, of its issue and of its end: how many instructions of each engine have surely been
issued, and have surely ended, by then. Engines take instructions in order, a queue has few slots, and the n-th wait for a
semaphore gets the n-th signal: all of that holds at any speed of memory, so what the clocks do not order may happen either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from presilicon.errors import IsaError
from presilicon.isa.constructors import load
from presilicon.isa.definition import alu
from presilicon.isa.instruction import INSTRUCTION_BYTES, REGISTERS, Instruction, check_fields
from presilicon.isa.program import Program
from presilicon.template import ENGINES, Core

LOOP_DEPTH = 4
SEMAPHORE_MAX = 63
LOAD, STORE, MATMUL, VECTOR, SEQUENCER = range(len(ENGINES))
_NUMBER = {name: i for i, name in enumerate(ENGINES)}
_MASK = (1 << 40) - 1
# A clock: for each engine how many of its instructions have been issued, then for each how many have ended.
Clock = tuple[int, ...]
_ZERO: Clock = (0,) * (2 * len(ENGINES))
_ENDED = len(ENGINES)


def _join(a: Clock, b: Clock) -> Clock:
    return tuple(map(max, a, b))


def _tick(clock: Clock, at: int, count: int) -> Clock:
    return (*clock[:at], count, *clock[at + 1 :])


@dataclass(slots=True, eq=False)
class Step:
    """One instruction in an engine: its number in the program (-1: the start's load), its place in its engine, its clocks."""

    pc: int
    instruction: Instruction
    engine: int
    fields: dict[str, int]
    pushed: Clock
    number: int = -1
    issued: Clock = _ZERO
    ended: Clock = _ZERO

    def after(self, engine: int, number: int) -> bool:
        """Whether instruction ``number`` of ``engine`` has surely ended when this one is issued."""
        return self.issued[_ENDED + engine] > number

    def __str__(self) -> str:
        return f"instruction {self.pc} `{self.instruction}`" if self.pc >= 0 else "the load of the program at the start"


class _Semaphore:
    """Signals of one engine to another that are not taken yet, and when the earlier ones were taken."""

    __slots__ = ("given", "open", "taken")

    def __init__(self) -> None:
        self.open: deque[Clock] = deque()
        self.given = 0
        self.taken: list[int] = []


class Walk:
    """One core on its way through its program, up to the next barrier or the end.

    ``visit`` is called for every engine instruction when its clocks are known, in an order that they allow, and ``fetched`` for
    every instruction the sequencer fetches, with its step and slot. IsaError where the program cannot go on.
    """

    def __init__(
        self,
        program: Program,
        core: Core,
        arguments: Mapping[int, int],
        visit: Callable[[Step], None],
        fetched: Callable[[Step, int], None],
        most: int,
    ) -> None:
        self.program = program
        self.core = core
        self.visit = visit
        self.fetched = fetched
        self.left = most
        self.most = most
        self.scalars = [arguments.get(i, 0) & _MASK for i in range(REGISTERS)]
        self.scalars[0] = 0
        self.pc = 0
        self.loops: list[list[int]] = []
        self.halted = False
        self.at_barrier = False
        self.queues: list[deque[Step]] = [deque() for _ in range(SEQUENCER)]
        self.steps: list[list[Step]] = [[] for _ in ENGINES]
        self.semaphores = {(a, b): _Semaphore() for a in range(len(ENGINES)) for b in range(len(ENGINES))}
        self.clock: Clock = _ZERO
        self._masks = {id(i): _engines(i) for i in program.instructions}
        size = min(len(program.instructions), core.instruction_slots) * INSTRUCTION_BYTES
        boot = load(dram=program.address, spad=0, run=size, target="instructions", signal=("sequencer",))
        self._masks[id(boot)] = _engines(boot)
        self._boot: Step | None = Step(-1, boot, LOAD, boot.resolve(), _ZERO)
        self.queues[LOAD].append(self._boot)

    def run(self) -> None:
        """Goes on to the next barrier or to the end of the program."""
        self.at_barrier = False
        while not (self.halted or self.at_barrier):
            moved = self._sequence()
            for engine in range(SEQUENCER):
                while self.queues[engine] and self._issue(self.queues[engine][0]):
                    moved = True
            if not moved:
                raise IsaError(f"the program deadlocks: {self._blocked()}")

    # Engines -------------------------------------------------------------------------------------------------------------

    def _issue(self, step: Step) -> bool:
        waits, signals = self._masks[id(step.instruction)]
        engine, done = step.engine, self.steps[step.engine]
        for source in waits:
            if not self.semaphores[source, engine].open:
                return False
        clock = step.pushed
        if done:
            last = done[-1]
            clock = _join(clock, last.ended if engine == VECTOR and last.instruction.op == "vector" else last.issued)
        clock = self._take(clock, waits, engine, len(done))
        step.number = len(done)
        step.issued = _tick(clock, engine, step.number + 1)
        ended = _join(step.issued, done[-1].ended) if done else step.issued
        step.ended = _tick(ended, _ENDED + engine, step.number + 1)
        done.append(step)
        self.queues[engine].popleft()
        self._give(step.ended, signals, engine, step)
        if step.instruction.op != "sync":
            self.visit(step)
        return True

    def _take(self, clock: Clock, waits: Sequence[int], engine: int, number: int) -> Clock:
        for source in waits:
            semaphore = self.semaphores[source, engine]
            clock = _join(clock, semaphore.open.popleft())
            semaphore.taken.append(number)
        return clock

    def _give(self, clock: Clock, signals: Sequence[int], engine: int, step: Step) -> None:
        for target in signals:
            semaphore = self.semaphores[engine, target]
            semaphore.open.append(clock)
            semaphore.given += 1
            # The signal 63 before this one must surely have been taken when this one is given.
            old = semaphore.given - 1 - SEMAPHORE_MAX
            if old >= 0 and not (old < len(semaphore.taken) and clock[target] > semaphore.taken[old]):
                raise IsaError(
                    f"{step}: the semaphore from {ENGINES[engine]} to {ENGINES[target]} may overflow",
                    hint=f"at most {SEMAPHORE_MAX} signals that are not yet waited for",
                    code=7,
                )

    # The sequencer -------------------------------------------------------------------------------------------------------

    def _sequence(self) -> bool:
        moved = False
        if self._boot is not None:
            if self._boot.number < 0:
                return False
            self.clock = self._take(self.clock, (LOAD,), SEQUENCER, 0)
            self._boot = None
        while not (self.halted or self.at_barrier) and self._next():
            moved = True
        return moved

    def _next(self) -> bool:
        instructions, pc = self.program.instructions, self.pc
        if pc >= len(instructions):
            raise IsaError(f"the program runs on behind its last instruction, {len(instructions) - 1}", hint="halt ends it")
        one = instructions[pc]
        op, number = one.op, len(self.steps[SEQUENCER])
        waits, signals = self._masks[id(one)]
        engine = _NUMBER[one.engine]
        if engine != SEQUENCER and len(self.queues[engine]) >= self.core.queue_slots:
            return False
        if engine == SEQUENCER and any(not self.semaphores[source, SEQUENCER].open for source in waits):
            return False
        if op in ("halt", "barrier") and any(self.queues):
            return False
        if self.left == 0:
            raise IsaError(f"the program has not ended after {self.most} instructions", hint="smaller counts to check it with")
        self.left -= 1
        fields = one.resolve(self.scalars)
        try:
            check_fields(self.core, op, fields)
        except IsaError as error:
            raise error.at(f"instruction {pc} `{one}`") from None
        clock = self.clock
        if engine == SEQUENCER:
            clock = self._take(clock, waits, SEQUENCER, number)
        else:
            done = self.steps[engine]
            before = len(done) + len(self.queues[engine]) - self.core.queue_slots
            if before >= 0:
                clock = _join(clock, done[before].issued)
        if op in ("halt", "barrier"):
            for steps in self.steps[:SEQUENCER]:
                if steps:
                    clock = _join(clock, steps[-1].ended)
        clock = _tick(_tick(clock, SEQUENCER, number + 1), _ENDED + SEQUENCER, number + 1)
        step = Step(pc, one, engine, fields, clock, issued=self.clock, ended=clock)
        fetch = Step(pc, one, SEQUENCER, fields, self.clock, number, self.clock, clock)
        self.fetched(fetch, pc % self.core.instruction_slots)
        self.steps[SEQUENCER].append(fetch)
        self.clock = clock
        self.pc += 1
        if engine != SEQUENCER:
            self.queues[engine].append(step)
        elif op == "sync":
            self._give(clock, signals, SEQUENCER, fetch)
        else:
            self._scalar(op, fields, fetch)
        return True

    def _scalar(self, op: str, fields: dict[str, int], step: Step) -> None:
        if op == "set":
            self.scalars[fields["to"]] = alu(fields["op"], self.scalars[fields["a"]], fields["value"])
        elif op == "loop":
            if not fields["count"]:
                self.pc += fields["length"]
            elif len(self.loops) == LOOP_DEPTH:
                raise IsaError(f"{step}: loops nest deeper than {LOOP_DEPTH}", code=8)
            else:
                self.loops.append([self.pc, fields["count"] - 1])
        elif op == "end":
            if not self.loops:
                raise IsaError(f"{step}: no loop ends here", code=8)
            if self.loops[-1][1]:
                self.loops[-1][1] -= 1
                self.pc = self.loops[-1][0]
            else:
                self.loops.pop()
        elif op == "halt":
            self.halted = True
        else:
            self.at_barrier = True

    def _blocked(self) -> str:
        parts = []
        for engine, queue in enumerate(self.queues):
            if queue:
                waits, _ = self._masks[id(queue[0].instruction)]
                missing = [ENGINES[s] for s in waits if not self.semaphores[s, engine].open]
                parts.append(f"{queue[0]} waits for {', '.join(missing)}")
        if self.pc < len(self.program.instructions):
            parts.append(f"the sequencer stands at instruction {self.pc} `{self.program.instructions[self.pc]}`")
        return "; ".join(parts)


def _engines(one: Instruction) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(sorted(_NUMBER[e] for e in one.wait)), tuple(sorted(_NUMBER[e] for e in one.signal))
