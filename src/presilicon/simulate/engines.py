"""When each engine issues and finishes its instructions: the queues and semaphores of the hardware, as recurrences.

Every time is a cycle number. An engine takes instructions in order; ``issue`` follows from queue, readiness and semaphore
tokens, ``done`` from the instruction's own timing and, for load and store, from the DRAM model. Only bursts need an order
in time among engines, so they are handed out one by one (``next_arrival``, ``serve``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from presilicon.dram import AR, AW, B, Dram, R, W
from presilicon.isa import (
    GATHER_START,
    LOAD_DONE,
    MOVE_START,
    QUEUE_CYCLES,
    Entries,
    State,
    load_entries,
    matmul_time,
    store_bursts,
    table_beat_cycles,
    vector_slots,
    vector_time,
)
from presilicon.isa.moves import BURST_BYTES
from presilicon.template import Core

# From a store burst's address to its first beat: scratchpad read and the output register.
STORE_BEAT_CYCLES = 4


@dataclass(slots=True)
class Entry:
    """One instruction in an engine's queue: its program counter, resolved field values, waits and signals."""

    pc: int
    op: str
    values: Mapping[str, int]
    wait: tuple[int, ...]
    signal: tuple[int, ...]
    pushed: int


@dataclass(slots=True)
class Event:
    """What one instruction did in time: engine number, program counter, issue and done cycle."""

    engine: int
    pc: int
    op: str
    issue: int
    done: int


@dataclass(slots=True)
class Tokens:
    """Semaphore counters of one core: for each pair of engines the cycles from which a token can be taken, in order."""

    times: list[list[deque[int]]] = field(default_factory=lambda: [[deque() for _ in range(5)] for _ in range(5)])

    def ready(self, sources: tuple[int, ...], engine: int) -> int | None:
        """First cycle in which one token of each source is there; None where one is not known yet."""
        latest = 0
        for source in sources:
            queue = self.times[source][engine]
            if not queue:
                return None
            latest = max(latest, queue[0])
        return latest

    def take(self, sources: tuple[int, ...], engine: int) -> None:
        """Removes one token of each source."""
        for source in sources:
            self.times[source][engine].popleft()

    def give(self, engine: int, targets: tuple[int, ...], done: int) -> None:
        """A token for each target, which it can take from the cycle after ``done``."""
        for target in targets:
            self.times[engine][target].append(done + 1)


class Engine:
    """An engine's queue and order; the four kinds below add what an instruction takes."""

    __slots__ = ("busy_cycles", "core", "events", "finished", "number", "popped", "pushed", "queue", "ready", "tokens")

    def __init__(self, number: int, core: Core, tokens: Tokens, events: list[Event] | None) -> None:
        self.number = number
        self.core = core
        self.tokens = tokens
        self.events = events
        self.queue: deque[Entry] = deque()
        self.pushed = 0
        # Cycles in which instructions left the queue, the last few: what room the sequencer finds.
        self.popped: deque[int] = deque(maxlen=core.queue_slots)
        self.ready = 0
        # Cycle of the last signal.
        self.finished = 0
        self.busy_cycles = 0

    def room(self) -> int | None:
        """First cycle in which the next push finds room; None while that is not known."""
        waiting = len(self.queue)
        if waiting >= self.core.queue_slots:
            return None
        if self.pushed < self.core.queue_slots:
            return 0
        # The slot is the one of the instruction `queue_slots` before; it left the queue and the count shows it a cycle later.
        index = len(self.popped) - (self.core.queue_slots - waiting)
        return self.popped[index] + 1

    def push(self, entry: Entry) -> None:
        """The sequencer's push."""
        self.queue.append(entry)
        self.pushed += 1

    def drained(self) -> int | None:
        """First cycle in which the engine is idle and its queue empty; None while that is not known."""
        if self.queue:
            return None
        return self.finished + 1 if self.pushed else 0

    def issue(self) -> Entry | None:
        """Issues the head if all it waits for is known; returns it, with its issue cycle in ``popped``."""
        if not self.queue:
            return None
        head = self.queue[0]
        wait = self.tokens.ready(head.wait, self.number)
        if wait is None:
            return None
        cycle = max(head.pushed + QUEUE_CYCLES, self.ready, wait)
        self.tokens.take(head.wait, self.number)
        self.queue.popleft()
        self.popped.append(cycle)
        if head.op == "sync":
            self.ready = cycle + 1
            self.done(head, cycle, cycle)
        else:
            self.start(head, cycle)
        return head

    def start(self, entry: Entry, cycle: int) -> None:
        """Takes up an instruction in ``cycle``."""
        raise NotImplementedError

    def done(self, entry: Entry, issue: int, cycle: int) -> None:
        """Signals: in order, and one instruction a cycle."""
        self.finished = max(cycle, self.finished + 1)
        self.tokens.give(self.number, entry.signal, self.finished)
        if entry.op != "sync":
            self.busy_cycles += cycle - issue + 1
        if self.events is not None:
            self.events.append(Event(self.number, entry.pc, entry.op, issue, self.finished))


class Matmul(Engine):
    """The array: the fetch of the next stationary tile overlaps the multiplication of the present one."""

    __slots__ = ("multiplied",)

    def __init__(self, number: int, core: Core, tokens: Tokens, events: list[Event] | None) -> None:
        super().__init__(number, core, tokens, events)
        self.multiplied = 0

    def start(self, entry: Entry, cycle: int) -> None:
        time = matmul_time(self.core, entry.values, cycle, self.multiplied)
        self.multiplied = time.free
        self.ready = time.ready
        self.done(entry, cycle, time.done)


class Vector(Engine):
    """The vector unit: one kernel at a time."""

    __slots__ = ("state",)

    def __init__(self, number: int, core: Core, tokens: Tokens, events: list[Event] | None, state: State) -> None:
        super().__init__(number, core, tokens, events)
        self.state = state

    def start(self, entry: Entry, cycle: int) -> None:
        slots = vector_slots(self.state.kernel(entry.values["kernel"]), entry.values)
        time = vector_time(self.core, slots, cycle)
        self.ready = time.ready
        self.done(entry, cycle, time.done)


# Address of a transfer, its beats (cycles of a fill), whether it is a fill.
_Transfer = tuple[int, int, bool]


def _listed(entries: Entries) -> list[_Transfer]:
    """Entries as a list: one at a time is quicker so."""
    return list(zip(entries.address.tolist(), entries.beats.tolist(), entries.fill.tolist(), strict=True))


def _run(address: int, size: int, bus: int) -> list[_Transfer]:
    """The bursts of one run of bytes, equal to ``load_entries`` and a good deal quicker."""
    made, end = [], address + size
    while address < end:
        last = min(end, (address // BURST_BYTES + 1) * BURST_BYTES)
        start = address - address % bus
        made.append((start, -((start - last) // bus), False))
        address = last
    return made


class _Mover(Engine):
    """What load and store share: transfers of the present instruction, eight outstanding, done in order."""

    __slots__ = ("beats", "current", "dram", "issued", "next_arrival", "open", "position", "slots", "transfers")

    def __init__(self, number: int, core: Core, tokens: Tokens, events: list[Event] | None, dram: Dram) -> None:
        super().__init__(number, core, tokens, events)
        self.dram = dram
        self.current: Entry | None = None
        self.transfers: list[_Transfer] = []
        self.position = 0
        self.issued = 0
        # First cycle in which the walker can hand out the next transfer.
        self.open = 0
        # Completion cycles of the last transfers, as many as may be outstanding.
        self.slots: deque[int] = deque(maxlen=core.outstanding)
        # Cycle in which the next burst reaches the memory; None where there is none.
        self.next_arrival: int | None = None
        # Beats moved over the bus so far.
        self.beats = 0

    def issue(self) -> Entry | None:
        # The walker takes the next instruction only when it has handed out the bursts of the one before.
        return super().issue() if self.current is None else None

    def drained(self) -> int | None:
        return super().drained() if self.current is None else None

    def begin(self, entry: Entry, cycle: int, first: int, transfers: list[_Transfer]) -> None:
        """Starts handing out an instruction's transfers, the first in ``first`` at the earliest."""
        self.current = entry
        self.issued = cycle
        self.transfers = transfers
        self.position = 0
        self.open = first
        self.advance()

    def slot(self) -> int:
        """First cycle in which one of the outstanding transfers has made room."""
        return self.slots[0] + 1 if len(self.slots) == self.slots.maxlen else 0

    def advance(self) -> None:
        """Goes on to the next burst."""
        raise NotImplementedError

    def serve(self) -> bool:
        """The burst that reaches the memory in ``next_arrival`` is served; False where another core's makes it later."""
        raise NotImplementedError

    def close(self, done: int) -> None:
        """All transfers are handed out: ready for the next instruction."""
        entry = self.current
        assert entry is not None
        self.next_arrival = None
        self.current = None
        self.ready = self.open
        self.done(entry, self.issued, done)


class Load(_Mover):
    """Reads bursts into a memory of the core; fill is written between them in order."""

    __slots__ = ("beat_cycles", "state", "sunk")

    def __init__(self, number: int, core: Core, tokens: Tokens, events: list[Event] | None, dram: Dram, state: State) -> None:
        super().__init__(number, core, tokens, events, dram)
        self.state = state
        # Last cycle in which the sink was busy.
        self.sunk = 0
        self.beat_cycles = 1

    def start(self, entry: Entry, cycle: int) -> None:
        values = entry.values
        self.beat_cycles = table_beat_cycles(self.core) if values["target"] == 1 else 1
        first = cycle + (GATHER_START if values["gather"] else MOVE_START)
        plain = not (values["gather"] or values["limit"] or values["left"] or values["right"])
        if plain and values["n1"] == values["n2"] == values["n3"] == 1:
            transfers = _run(values["dram"], values["run"], self.core.bus_bytes)
        else:
            transfers = _listed(load_entries(self.core, values, self.state.indices if values["gather"] else None))
        self.begin(entry, cycle, first, transfers)

    def advance(self) -> None:
        transfers = self.transfers
        while self.position < len(transfers):
            _, cycles, fill = transfers[self.position]
            cycle = max(self.open, self.slot())
            if not fill:
                self.next_arrival = self.dram.passes(AR, cycle)
                return
            self.sunk = max(self.sunk + 1, cycle + 1) + cycles - 1
            self._hand_out(cycle)
        self.close(self.sunk + LOAD_DONE)

    def _hand_out(self, cycle: int) -> None:
        self.slots.append(self.sunk)
        self.open = cycle + 1
        self.position += 1

    def serve(self) -> bool:
        address, beats, _ = self.transfers[self.position]
        cycle, dram = self.next_arrival, self.dram
        assert cycle is not None
        if cycle <= dram.addressed:
            # Another core's address went in this cycle.
            self.next_arrival = dram.passes(AR, dram.addressed + 1)
            return False
        dram.addressed = cycle
        start, _ = dram.serve(cycle, beats, address, False)
        self.beats += beats
        if dram.options.back_pressure:
            last = self._held(start, beats)
        else:
            first = max(dram.beat(start, 0), self.sunk + 1, cycle + 1, dram.read_until + 1)
            # Beats come evenly and are taken every `beat_cycles`: the last is late by the one or by the other.
            last = max(dram.beat(start, beats - 1), first + (beats - 1) * self.beat_cycles)
        dram.read_until = last
        self.sunk = last + self.beat_cycles - 1
        self._hand_out(cycle)
        self.advance()
        return True

    def _held(self, start: int, beats: int) -> int:
        """Cycle in which the last beat is taken, where each may be held back."""
        taken, free = self.dram.read_until, self.sunk + 1
        for beat in range(beats):
            shown = self.dram.passes(R, max(self.dram.beat(start, beat), taken + 1))
            taken = max(shown, free)
            free = taken + self.beat_cycles
        return taken


class Store(_Mover):
    """Writes bursts; done when the last response is there."""

    __slots__ = ("addressed", "answered", "before", "flying", "read", "taken")

    def __init__(self, number: int, core: Core, tokens: Tokens, events: list[Event] | None, dram: Dram) -> None:
        super().__init__(number, core, tokens, events, dram)
        # Cycle of the present burst's address, and of the last response.
        self.addressed = 0
        self.answered = 0
        # Cycle of the present burst's last read, and when the last beats were taken: so many may be on their way.
        self.read = 0
        self.flying = core.scratchpad_read_cycles + 1
        self.taken: deque[int] = deque([-1], maxlen=self.flying)
        self.before = tuple(self.taken)

    def start(self, entry: Entry, cycle: int) -> None:
        self.begin(entry, cycle, cycle + MOVE_START, _listed(store_bursts(self.core, entry.values)))

    def advance(self) -> None:
        if self.position < len(self.transfers):
            self.addressed = self.dram.passes(AW, max(self.open, self.slot()))
            self.before = tuple(self.taken)
            self.next_arrival = self._written(self.transfers[self.position][1])
        else:
            self.close(self.answered + 1)

    def _written(self, beats: int, until: int = -1) -> int:
        """Cycle in which the last beat is taken, the first after ``until``; reads wait while all their room is taken."""
        taken = self.taken
        taken[-1] = max(taken[-1], until)
        first = self.addressed + STORE_BEAT_CYCLES
        if not self.dram.options.back_pressure and taken[-1] < first:
            self.read = self.addressed + beats
            last = first + beats - 1
            taken.extend(range(max(first, last - self.flying + 1), last + 1))
            return last
        self.read = self.addressed
        for _ in range(beats):
            self.read = max(self.read, taken[0] if len(taken) == self.flying else 0) + 1
            taken.append(self.dram.passes(W, max(self.read + STORE_BEAT_CYCLES - 1, taken[-1] + 1)))
        return taken[-1]

    def serve(self) -> bool:
        address, beats, _ = self.transfers[self.position]
        dram = self.dram
        assert self.next_arrival is not None
        if dram.written_until > self.taken[-1] - beats and dram.written_until > max(self.before):
            # Beats follow those of another core's burst that came before.
            self.taken = deque(self.before, self.flying)
            self.before = (*self.before[:-1], dram.written_until)
            self.next_arrival = self._written(beats, dram.written_until)
            return False
        dram.written_until = self.next_arrival
        _, free = dram.serve(dram.written_until, beats, address, True)
        self.beats += beats
        self.answered = dram.passes(B, max(dram.response(free), self.answered + 1))
        self.slots.append(self.answered)
        self.open = self.read + 1
        self.position += 1
        self.advance()
        return True
