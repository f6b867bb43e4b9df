"""The KV cache of one replica in blocks: counted, shared by equal prefixes, and kept for later ones as long as there is room.

Blocks that nobody can share are only counted. A *unit* is a shared piece of a prompt: ``size`` blocks under one hash that
names the whole prefix up to it. A unit in use is never dropped; one that is not is kept until its room is needed, the least
recently used first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Layout:
    """The cache in blocks: ``total`` for all ranks, ``rank`` for one, of ``block_tokens`` tokens each.

    ``growing``: layers without a window take a block each ``block_tokens`` tokens. ``windows`` (tokens, blocks a token) are
    what layers with a window take of a request when it is admitted.
    """

    total: int
    rank: int
    block_tokens: int
    growing: bool
    windows: tuple[tuple[float, float], ...]

    def fixed(self, tokens: int) -> int:
        """Blocks that the windows of a request of so many tokens take."""
        return ceil(sum(min(tokens, window) * share for window, share in self.windows) - 1e-9) if self.windows else 0

    def needed(self, tokens: int) -> int:
        """Blocks that a request of so many tokens takes."""
        return (-(-tokens // self.block_tokens) if self.growing else 0) + self.fixed(tokens)


class BlockPool:
    """``total`` blocks: free, private (of one request), in units in use, or in units kept for reuse.

    ``used + kept + free == total`` always holds; ``available`` is what may be taken now.
    """

    __slots__ = ("_free", "_idle", "_kept", "_refs", "_sizes", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._kept = 0
        self._refs: dict[Hashable, int] = {}
        self._sizes: dict[Hashable, int] = {}
        self._idle: OrderedDict[Hashable, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that can be taken: free ones, and those of units that nobody uses."""
        return self._free + self._kept

    @property
    def used(self) -> int:
        """Blocks that requests hold."""
        return self.total - self._free - self._kept

    def matched(self, prefix: Sequence[Hashable]) -> int:
        """How many leading units of a prefix are here."""
        refs = self._refs
        for index, unit in enumerate(prefix):
            if unit not in refs:
                return index
        return len(prefix)

    def take(self, blocks: int) -> None:
        """Take private blocks, dropping unused units where needed; the caller has checked ``available``."""
        while self._free < blocks:
            unit, _ = self._idle.popitem(last=False)
            size = self._sizes.pop(unit)
            del self._refs[unit]
            self._kept -= size
            self._free += size
        self._free -= blocks

    def give(self, blocks: int) -> None:
        """Return private blocks."""
        self._free += blocks

    def lock(self, units: Sequence[Hashable]) -> None:
        """Use units that are here."""
        for unit in units:
            if self._refs[unit] == 0:
                del self._idle[unit]
                self._kept -= self._sizes[unit]
            self._refs[unit] += 1

    def idle_blocks(self, units: Sequence[Hashable]) -> int:
        """Blocks of those units that nobody uses: locking them makes so many unavailable."""
        return sum(self._sizes[unit] for unit in units if self._refs[unit] == 0)

    def share(self, units: Sequence[Hashable], size: int) -> list[Hashable]:
        """Turn ``size`` private blocks each into units in use; those that another request made meanwhile are left out."""
        made = [unit for unit in units if unit not in self._refs]
        for unit in made:
            self._refs[unit] = 1
            self._sizes[unit] = size
        return made

    def unlock(self, units: Sequence[Hashable]) -> None:
        """Stop using units; the last block of a prefix is dropped before the first."""
        for unit in reversed(units):
            self._refs[unit] -= 1
            if self._refs[unit] == 0:
                self._idle[unit] = None
                self._kept += self._sizes[unit]
