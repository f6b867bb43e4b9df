"""The simulator: a program on a core of the template, event driven over instructions and bursts.

Engines and sequencer advance by recurrences (``engines``, ``sequencer``). Only the DRAM is shared, so only bursts are put
in order of time: when nothing else can be said, the earliest burst is served, which lets others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.dram import Dram, DramOptions
from presilicon.errors import IsaError
from presilicon.isa import Program, State, execute, link
from presilicon.simulate.engines import Engine, Event, Load, Matmul, Store, Tokens, Vector
from presilicon.simulate.sequencer import Sequencer
from presilicon.template import ENGINES, Core

# What a program may not exceed unless told: a run away from its watchdog.
MAX_CYCLES = 1 << 40


@dataclass(frozen=True, slots=True)
class Run:
    """What a simulated run did: its cycles, each core's events in order of completion, busy cycles, and the memory after it."""

    cycles: int
    core_cycles: tuple[int, ...]
    events: tuple[tuple[Event, ...], ...]
    busy_cycles: Mapping[str, int]
    instructions: int
    dram_read_bytes: int
    dram_written_bytes: int
    dram: NDArray[np.uint8]
    states: tuple[State, ...]


class _CoreRun:
    """One core during a run."""

    def __init__(self, core: Core, program: Program, state: State, dram: Dram, *, events: bool, values: bool) -> None:
        self.core = core
        self.state = state
        self.values = values
        self.tokens = Tokens()
        self.events: list[Event] | None = [] if events else None
        self.load = Load(0, core, self.tokens, self.events, dram, state)
        self.store = Store(1, core, self.tokens, self.events, dram)
        self.matmul = Matmul(2, core, self.tokens, self.events)
        self.vector = Vector(3, core, self.tokens, self.events, state)
        self.engines: list[Engine] = [self.load, self.store, self.matmul, self.vector]
        instructions = link(program.instructions, core, program.address)
        self.sequencer = Sequencer(core, instructions, self.engines, self.tokens, state.scalars)
        boot = self.sequencer.boot(64 * len(instructions))
        boot.values = {**boot.values, "dram": program.address}
        self.load.push(boot)

    def advance(self) -> None:
        """Everything that can be said without serving another burst."""
        engines, state, values = self.engines, self.state, self.values
        moved = True
        while moved:
            moved = self.sequencer.run()
            for engine in engines:
                while (entry := engine.issue()) is not None:
                    moved = True
                    if entry.op != "sync" and (values or entry.op == "load"):
                        execute(state, entry.op, entry.values)


def run(
    program: Program | Sequence[Program],
    core: Core,
    *,
    arguments: Mapping[int, int] | Sequence[Mapping[int, int]] | None = None,
    dram: NDArray[np.uint8] | None = None,
    options: DramOptions | None = None,
    values: bool = True,
    events: bool = True,
    max_cycles: int = MAX_CYCLES,
    progress: Callable[[int], None] | None = None,
) -> Run:
    """A program (one for each core, where there are several) from start to halt.

    ``arguments`` are the runtime registers (number to value), for all cores or for each. ``dram`` is changed in place and
    is made from the program's image where it is None. Without ``values`` only the time is computed.
    IsaError where the program breaks a law of the machine or can never end.
    """
    programs = [program] * core.cores if isinstance(program, Program) else list(program)
    if len(programs) != core.cores:
        raise IsaError(f"{len(programs)} programs for {core.cores} cores", code=2)
    each = [arguments or {}] * core.cores if arguments is None or isinstance(arguments, Mapping) else list(arguments)
    memory = programs[0].memory() if dram is None else dram
    shared = Dram(options or DramOptions())
    cores = []
    for one, given in zip(programs, each, strict=True):
        if one.core_digest != core.digest():
            raise IsaError(f"the program is for the core {one.core_digest}, this is {core.digest()}", code=2)
        state = State(core, memory, values=values)
        for register, value in given.items():
            state.scalars[register] = value & ((1 << 40) - 1)
        cores.append(_CoreRun(core, one, state, shared, events=events, values=values))
    _loop(cores, max_cycles, progress)
    halted = tuple(c.sequencer.halted or 0 for c in cores)
    busy = {name: sum(c.engines[i].busy_cycles for c in cores) for i, name in enumerate(ENGINES[:4])}
    return Run(
        cycles=max(halted),
        core_cycles=halted,
        events=tuple(tuple(c.events or ()) for c in cores),
        busy_cycles=busy,
        instructions=sum(c.sequencer.executed for c in cores),
        dram_read_bytes=sum(c.load.beats for c in cores) * core.bus_bytes,
        dram_written_bytes=sum(c.store.beats for c in cores) * core.bus_bytes,
        dram=memory,
        states=tuple(c.state for c in cores),
    )


def _loop(cores: list[_CoreRun], max_cycles: int, progress: Callable[[int], None] | None) -> None:
    """Serves bursts in order of time until every core has halted."""
    stale = list(cores)
    served = 0
    # Whose burst was served last, of loads and of stores: of two that come in one cycle the other's is next.
    last = [len(cores) - 1, len(cores) - 1]
    while True:
        for one in stale:
            one.advance()
        stale = []
        if _released(cores):
            stale = cores
            continue
        best: tuple[int, int, int] | None = None
        for number, one in enumerate(cores):
            for kind, engine in enumerate((one.load, one.store)):
                if engine.next_arrival is not None:
                    turn = (number - last[kind] - 1) % len(cores)
                    if best is None or (engine.next_arrival, kind, turn) < best:
                        best = (engine.next_arrival, kind, turn)
        if best is None:
            break
        if best[0] > max_cycles:
            raise IsaError(f"not finished after {max_cycles} cycles", code=11)
        number = (best[2] + last[best[1]] + 1) % len(cores)
        one = cores[number]
        engine = one.store if best[1] else one.load
        if not engine.serve():
            continue
        last[best[1]] = number
        # Bursts of one instruction follow one another while nobody else comes before them.
        while engine.next_arrival is not None and len(cores) == 1:
            other = one.load.next_arrival if best[1] else one.store.next_arrival
            if other is not None and (other, 1 - best[1]) < (engine.next_arrival, best[1]):
                break
            engine.serve()
        stale = [one]
        served += 1
        if progress is not None and served % 256 == 0:
            progress(best[0])
    if any(one.sequencer.halted is None for one in cores):
        raise IsaError(_blocked(cores), code=11)


def _released(cores: list[_CoreRun]) -> bool:
    """Lets all cores pass a barrier at which every one of them stands; True where it did."""
    arrived = [one.sequencer.arrived for one in cores]
    if any(cycle is None for cycle in arrived):
        return False
    cycle = max(cycle for cycle in arrived if cycle is not None)
    for one in cores:
        one.sequencer.release(cycle if len(cores) == 1 else cycle + 1)
    return True


def _blocked(cores: list[_CoreRun]) -> str:
    """Who waits for what in a deadlock."""
    parts = []
    for number, one in enumerate(cores):
        if one.sequencer.halted is not None:
            continue
        for engine in one.engines:
            if engine.queue:
                head = engine.queue[0]
                missing = [ENGINES[s] for s in head.wait if not one.tokens.times[s][engine.number]]
                parts.append(f"core {number}: {ENGINES[engine.number]} at instruction {head.pc} waits for {', '.join(missing)}")
        parts.append(f"core {number}: the sequencer stands at instruction {one.sequencer.pc}")
    return "deadlock: " + "; ".join(parts)
