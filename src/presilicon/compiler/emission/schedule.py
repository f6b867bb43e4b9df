"""In what order a core emits the steps of its strands, and where strands and cores must wait for one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from presilicon.compiler.emission.emit_fused import handed_over
from presilicon.compiler.emission.epilogue import Epilogue
from presilicon.compiler.emission.memory import Dram
from presilicon.compiler.emission.protocol import Emission
from presilicon.compiler.emission.site import Site, Strand
from presilicon.compiler.steps import Attention, Convolution, Lowered, Product, Step, reads, writes
from presilicon.isa import barrier
from presilicon.template import GROUP

# The vector unit's share of a product's time above which it is no company for an attention.
HEAVY = 0.5


@dataclass(frozen=True, slots=True)
class Order:
    """For each step: up to which step all strands must be emitted before one begins it (-1: none), and whether it is split.

    ``settled[i]``: up to which step all strands are emitted when any begins step i.
    """

    after: tuple[int, ...]
    split: tuple[bool, ...]
    settled: tuple[int, ...]


def rows_of(lowered: Lowered, name: str) -> int:
    """Rows of a tensor; 0 for a constant."""
    return lowered.tensors[name].rows if name in lowered.tensors else 0


def order(lowered: Lowered, emission_of: Sequence[Emission], parts: int, cores: int) -> Order:
    """Where the strands of a model must meet, with so many parts of the rows on so many cores."""
    # By tensor: the steps that have written it, each with its rows where strands share them (0: one strand does all).
    written: dict[str, list[tuple[int, int]]] = {}
    after: list[int] = []
    settled: list[int] = []
    met = -1
    for number, step in enumerate(lowered.steps):
        emission = emission_of[number]
        own = _shared_rows(lowered, step) if emission.split else 0
        whole = set(emission.whole(step))
        latest = -1
        for name in (*reads(step), *writes(step)):
            for writer, shared in written.get(name, []):
                aligned = own and shared == own and name not in whole
                if not aligned and writer > latest:
                    latest = writer
        if parts == 1 or latest <= met:
            latest = -1
        elif cores > 1:
            # A barrier lets nobody pass before all have done everything.
            latest = number - 1
        after.append(latest)
        met = max(met, latest)
        settled.append(number - 1 if parts == 1 else met)
        for name in writes(step):
            written.setdefault(name, []).append((number, own))
    return Order(tuple(after), tuple(emission.split for emission in emission_of), tuple(settled))


def _shared_rows(lowered: Lowered, step: Step) -> int:
    """The rows that the strands share in a step: those of what it writes."""
    return max(rows_of(lowered, name) for name in writes(step))


def allocate(lowered: Lowered, where: Order, dram: Dram) -> dict[str, int]:
    """DRAM addresses of all tensors; what nobody will read or write again makes room for others.

    Inputs, outputs and states keep their places: the host reads and writes them between runs.
    """
    addresses = {name: dram.take(lowered.tensors[name].bytes) for name in (*lowered.inputs, *lowered.outputs, *lowered.states)}
    last = dict(lowered.last_use())
    free: list[tuple[int, int]] = []
    live: list[tuple[int, int, int]] = []
    for number, step in enumerate(lowered.steps):
        # A step that is done with the one before it writes while that still reads.
        settled = where.settled[number - 1 if number and handed_over(lowered, number - 1) else number]
        gone = [one for one in live if one[0] <= settled]
        live = [one for one in live if one[0] > settled]
        free = _merged(free + [(at, size) for _, at, size in gone])
        for name in writes(step):
            if name in addresses:
                continue
            size = -(-lowered.tensors[name].bytes // 4096) * 4096
            fits = [one for one in free if one[1] >= size]
            if fits:
                at, room = min(fits, key=lambda one: one[1])
                free.remove((at, room))
                if room > size:
                    free.append((at + size, room - size))
            else:
                at = dram.take(size)
            addresses[name] = at
            live.append((last[name], at, size))
    for name in lowered.tensors:
        if name not in addresses:
            addresses[name] = dram.take(lowered.tensors[name].bytes)
    return addresses


def _merged(free: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Free ranges, neighbours put together."""
    found: list[tuple[int, int]] = []
    for at, size in sorted(free):
        if found and found[-1][0] + found[-1][1] == at:
            found[-1] = (found[-1][0], found[-1][1] + size)
        else:
            found.append((at, size))
    return found


class _Strand:
    """A strand on its way through the steps."""

    def __init__(self, strand: Strand, steps: Sequence[Step], emission_of: Sequence[Emission], where: Order) -> None:
        self.strand, self.steps, self.emission_of, self.where = strand, steps, emission_of, where
        # Steps that are wholly emitted, and the one under way. Of the rough clock: when all that is emitted is done.
        self.finished = 0
        self.running: Iterator[object] | None = None
        self.done = 0.0
        self.begin()

    def begin(self) -> None:
        """Stands before its next step of which it has a share."""
        while self.finished < len(self.steps) and self.where.after[self.finished] < 0 and not self.own(self.finished):
            self.finished += 1
        following = self.steps[self.finished] if self.finished < len(self.steps) else None
        # Products and attentions begin with loads, and say what they need then.
        loads = isinstance(following, Product | Attention)
        self.engine = "load" if loads else "matmul" if isinstance(following, Convolution) else "vector"
        self.ready = self.done
        self.at_attention = isinstance(following, Attention)
        self.heavy = isinstance(following, Product) and _is_heavy(self.strand, following)
        self.strand.bank = -1

    def own(self, number: int) -> bool:
        """Whether it has a share of a step."""
        return not self.emission_of[number].idle and (self.where.split[number] or self.strand.number == 0)

    def plan(self) -> None:
        """Tells the stream of stationary operands all that will be taken."""
        for number, step in enumerate(self.steps):
            if self.own(number):
                self.strand.stationary.plan(self.emission_of[number].plan(self.strand, step))

    @property
    def start(self) -> float:
        """When its next piece could begin by the rough clock."""
        return max(self.ready, self.strand.site.free[self.engine])

    def resume(self) -> None:
        """Goes on to the next yield, or over the end of the step."""
        site, number = self.strand.site, self.finished
        site.step, site.latest = number, 0.0
        if self.running is None:
            self.running = self.emission_of[number].emit(self.strand, self.steps[number]) if self.own(number) else iter(())
        told = next(self.running, self)
        self.done = max(self.done, site.latest)
        if told is self:
            assert self.strand.idle(), f"step {self.steps[number].name} has kept a buffer"
            self.running = None
            self.finished += 1
            self.begin()
        elif isinstance(told, str):
            self.engine = told


def _is_heavy(strand: Strand, step: Product) -> bool:
    """Whether a product's vector program takes more than `HEAVY` of the array's time."""
    core = strand.core
    k, n = strand.lowered.constants[step.weights].shape
    slots = Epilogue(strand, step, int(n)).kernel.slots(GROUP, core.chunks)
    return slots > HEAVY * ceil(int(k) / core.rows)


def emit_core(site: Site, strands: Sequence[Strand], emission_of: Sequence[Emission], where: Order) -> None:
    """Emits all steps of a core: first what can begin first, of equals the strand that is behind.

    So strands part: one does its products while the vector unit works for the other. One strand's attention takes turns with
    another's products, piece by piece. What a strand reads of others is emitted before it goes on.
    """
    steps = site.lowered.steps
    running = [_Strand(one, steps, emission_of, where) for one in strands]
    for one in running:
        one.plan()
    passed = -1
    last: _Strand | None = None
    while any(one.finished < len(steps) for one in running):
        least = min(one.finished for one in running)
        able = [
            one
            for one in running
            if one.finished < len(steps) and (one.running is not None or where.after[one.finished] < least)
        ]
        heads = [one for one in able if one.at_attention]
        if heads:
            # Two that both need the vector unit most of the time do not help one another.
            able = [one for one in able if not one.heavy]
        # Before an attention comes what is short and lets another strand's products begin, which then hide it.
        chosen = min(able, key=lambda one: (one.start, one.at_attention, one.finished))
        products = [one for one in able if one.engine == "matmul" and one.ready <= site.free["vector"]]
        site.taking_turns = bool(heads and products)
        if site.taking_turns and (last in heads or last in products):
            chosen = products[0] if last in heads else heads[0]
        number = chosen.finished
        if site.core.cores > 1 and chosen.running is None and where.after[number] >= 0 and number > passed:
            site.step = number
            site.add(barrier())
            passed = number
        chosen.resume()
        last = chosen
