"""Room on the chip and in DRAM: arenas of the scratchpad, the stream of stationary operands, constants placed in DRAM."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from presilicon.errors import CapacityError
from presilicon.isa import Segment
from presilicon.template import Core

# Tensors and constants begin on pages of DRAM, so that bursts are whole.
PAGE_BYTES = 4096
# Buffers in the scratchpad begin at multiples of this.
ALIGN_BYTES = 16
# Loads of stationary operands that are put ahead of one that is needed: the sequencer passes few waiting ones.
AHEAD = 2
# Chunks that are ahead of the array at least where rows are few.
LEAST = 6


def rounded(count: int, unit: int) -> int:
    """The next multiple of ``unit``."""
    return -(-count // unit) * unit


class Arena:
    """A range of one memory from which buffers are taken, next fit: what was freed last is used again last."""

    def __init__(self, name: str, start: int, size: int, align: int = ALIGN_BYTES) -> None:
        self.name, self.start, self.size, self.align = name, start, size, align
        self._at = start
        self._taken: dict[int, int] = {}

    @property
    def taken(self) -> int:
        """Bytes in use."""
        return sum(self._taken.values())

    def rewind(self) -> None:
        """Begins at the start again where no buffer is in use."""
        if not self._taken:
            self._at = self.start

    def find(self, size: int) -> int | None:
        """Takes a buffer where there is room for it; None where there is none."""
        size = rounded(size, self.align)
        # An empty arena is begun anew where a second such buffer would not fit behind the first.
        again = not self._taken and self._at + 2 * size > self.start + self.size
        starts = [self.start] if again else [self._at, self.start]
        for start in starts:
            at = start
            for other, length in sorted(self._taken.items()):
                if at + size <= other:
                    break
                if other + length > at:
                    at = other + length
            if at + size <= self.start + self.size:
                self._taken[at] = size
                self._at = at + size
                return at
        return None

    def take(self, size: int, what: str = "a buffer") -> int:
        """Address of a buffer; CapacityError, with both numbers, where there is no room for it."""
        at = self.find(size)
        if at is None:
            raise CapacityError(
                f"{what} of {size} bytes does not fit into the {self.size} bytes of the scratchpad for {self.name},"
                f" {self.taken} of them in use",
                hint="a core with a larger scratchpad",
            )
        return at

    def free(self, *addresses: int) -> None:
        """Gives buffers back; instructions that still read them are those emitted so far."""
        for address in addresses:
            del self._taken[address]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Stationary operands that lie ready in DRAM: one run of bytes."""

    dram: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Room among the stationary operands that the step itself fills."""

    bytes: int


class Stationary:
    """The stationary operands of all steps of a strand, in the order in which they are taken, loaded ahead as room allows.

    ``load`` emits the load of a chunk to an address. With ``few_rows`` products wait for their weights: only `LEAST` chunks
    are ahead of the array by the order of the instructions, all others come when the port would be idle (`Site.add`).
    """

    def __init__(self, arena: Arena, load: Callable[[Chunk, int], None], few_rows: bool = False) -> None:
        self.arena, self.load, self.few_rows = arena, load, few_rows
        self._planned: deque[Chunk | Hold] = deque()
        self._placed: deque[int] = deque()

    def plan(self, items: Iterable[Chunk | Hold]) -> None:
        """What will be taken after all that is planned so far."""
        self._planned.extend(items)

    def _place(self, item: Chunk | Hold, needed: bool) -> bool:
        at = self.arena.take(item.bytes, "a stationary operand") if needed else self.arena.find(item.bytes)
        if at is None:
            return False
        self._planned.popleft()
        self._placed.append(at)
        if isinstance(item, Chunk):
            self.load(item, at)
        return True

    def ahead(self, most: int = AHEAD) -> int:
        """Loads up to ``most`` further chunks where there is room, up to the next `Hold` unless rows are few; how many."""
        for count in range(most):
            held = not self._planned or (isinstance(self._planned[0], Hold) and not self.few_rows)
            if held or not self._place(self._planned[0], False):
                return count
        return max(0, most)

    def take(self) -> int:
        """Address of the next item of the plan; free it when all that reads it is emitted."""
        if not self._placed:
            self._place(self._planned[0], True)
        at = self._placed.popleft()
        self.ahead(LEAST - len(self._placed) if self.few_rows else AHEAD)
        return at

    def free(self, *addresses: int) -> None:
        """Gives items back."""
        self.arena.free(*addresses)


class Dram:
    """Addresses in DRAM, given out one behind the other; bytes that are to lie there before the start."""

    def __init__(self) -> None:
        self.end = 0
        self.segments: list[Segment] = []
        self._known: dict[bytes, int] = {}

    def take(self, size: int) -> int:
        """Address of so many bytes, on a page."""
        at = self.end
        self.end = rounded(at + size, PAGE_BYTES)
        return at

    def put(self, data: bytes, *, shared: bool = False) -> int:
        """Address of constant bytes; ``shared``: the same bytes lie there once."""
        if shared and data in self._known:
            return self._known[data]
        at = self.take(len(data))
        self.segments.append(Segment(at, data))
        if shared:
            self._known[data] = at
        return at


@dataclass(frozen=True, slots=True)
class Banks:
    """Start and size of a strand's arenas: read by the array (moving, stationary), by the vector unit, by it and the store."""

    moving: tuple[int, int]
    stationary: tuple[int, int]
    operands: tuple[int, int]
    results: tuple[int, int]


def banks(core: Core, strands: int, few_rows: bool) -> tuple[Banks, ...]:
    """Whole banks for each strand: start and size of each of its arenas.

    No two engines read, and no two write, one arena of a strand, but for what the vector unit leaves among the moving operands.
    ``few_rows``: products are bound by their weights, which get the most room. CapacityError below four banks a strand.
    """
    each = core.scratchpad_banks // strands
    if each < 4:
        raise CapacityError(
            f"the core has {core.scratchpad_banks} scratchpad banks for {strands} strands", hint="scratchpad_banks of 4 or more"
        )
    spare = each - 4
    extra = (0, spare, 0, 0) if few_rows else (spare // 4, spare - 2 * (spare // 4), 0, spare // 4)
    found, at = [], 0
    for _ in range(strands):
        parts = []
        for more in extra:
            parts.append((at * core.bank_bytes, (1 + more) * core.bank_bytes))
            at += 1 + more
        found.append(Banks(*parts))
    return tuple(found)
