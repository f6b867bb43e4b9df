"""The requests that one replica decodes: all of them advance by one token a step, or by a mean gain with speculation.

What they hold follows from the number of steps: a request that joined after step j with a prompt of p tokens in the cache has p
and s - j tokens there after step s. So ends, contexts and the need of blocks are sums over requests of p - j, and counts of it
modulo the block; nothing is touched a request and step. With a gain above one, blocks and contexts are counted one by one.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, floor

from presilicon.replay.blocks import Layout
from presilicon.replay.requests import Request

Id = int | str


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in a scheduler. ``prompt`` tokens are to be in the cache before its next token; ``done`` of them are."""

    request: Request
    order: int
    prompt: int
    done: int = 0
    produced: int = 0  # tokens given when decoding began, or so far where it has not
    joined: int = -1  # number of steps when decoding began; -1 before
    private: int = 0  # blocks of its own when decoding began
    units: list[Hashable] = field(default_factory=list)
    known: bool = False  # its prefix has been looked up before


class Decoding:
    """Requests being decoded, and the ``steps`` that were made."""

    __slots__ = ("_base", "_block", "_ends", "_gain", "_growing", "_phase", "held", "steps")

    def __init__(self, layout: Layout, gain: float) -> None:
        self.held: dict[Id, Sequence] = {}
        self.steps = 0
        self._gain, self._block, self._growing = gain, layout.block_tokens, layout.growing
        self._ends: list[tuple[int, int, int, Sequence]] = []  # step, order, step it joined, who
        self._base = 0  # sum of prompt - joined
        self._phase = [0] * layout.block_tokens  # requests by (prompt - joined) modulo the block

    def join(self, sequence: Sequence) -> None:
        """Decode a request from the next step on."""
        sequence.joined = self.steps
        self.held[sequence.request.id] = sequence
        offset = sequence.prompt - self.steps
        self._base += offset
        self._phase[offset % self._block] += 1
        left = sequence.request.output_tokens - sequence.produced
        steps = left if self._gain == 1.0 else ceil(left / self._gain - 1e-9)
        heappush(self._ends, (self.steps + steps, sequence.order, self.steps, sequence))

    def leave(self, sequence: Sequence) -> int:
        """Stop decoding a request; the blocks it has taken since it joined. Its tokens are counted in."""
        offset = sequence.prompt - sequence.joined
        self._base -= offset
        self._phase[offset % self._block] -= 1
        grown = self.grown(sequence, self.steps)
        del self.held[sequence.request.id]
        sequence.produced += self.progress(sequence, self.steps)
        sequence.joined = -1
        return grown

    def ended(self) -> list[Sequence]:
        """The requests that have all their tokens; they are to ``leave``."""
        found: dict[Sequence, None] = {}
        ends = self._ends
        while ends and ends[0][0] <= self.steps:
            _, _, joined, sequence = heappop(ends)
            if sequence.joined == joined:
                found[sequence] = None
        return list(found)

    def next_end(self) -> int:
        """The step after which the next request has all its tokens; one at least is held."""
        while True:
            step, _, joined, sequence = self._ends[0]
            if sequence.joined == joined:
                return step
            heappop(self._ends)

    def progress(self, sequence: Sequence, steps: int) -> int:
        """Tokens a request is given from when it joined to after ``steps`` steps in all."""
        done = steps - sequence.joined
        if self._gain == 1.0:
            return done
        return min(floor(done * self._gain + 1e-9), sequence.request.output_tokens - sequence.produced)

    def produced(self, sequence: Sequence) -> int:
        """Tokens a request has been given so far, whether it is decoded or not."""
        return sequence.produced + (self.progress(sequence, self.steps) if sequence.joined >= 0 else 0)

    def contexts(self) -> float:
        """Tokens of all requests' caches in the next step, the (first) new one of each included."""
        if self._gain == 1.0:
            return self._base + len(self.held) * (self.steps + 1)
        return float(sum(s.prompt + 1 + self.progress(s, self.steps) for s in self.held.values()))

    def growth(self, steps: int) -> int:
        """Blocks that the requests take in the next steps."""
        if not self._growing:
            return 0
        if self._gain != 1.0:
            return sum(self.grown(s, self.steps + steps) - self.grown(s, self.steps) for s in self.held.values())
        phase, block, now = self._phase, self._block, self.steps
        if steps == 1:
            return phase[-now % block]
        cycles, rest = divmod(steps, block)
        return cycles * len(self.held) + sum([phase[-(now + i) % block] for i in range(rest)])

    def grown(self, sequence: Sequence, steps: int) -> int:
        """Blocks a request takes from when it joined to after ``steps`` steps in all."""
        if not self._growing:
            return 0
        block = self._block
        return -(-(sequence.prompt + self.progress(sequence, steps)) // block) + -sequence.prompt // block

    def steps_in(self, blocks: int, most: int) -> int:
        """Steps, at most ``most``, whose growth so many blocks hold."""
        if self.growth(most) <= blocks:
            return most
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.growth(middle) <= blocks else (low, middle)
        return low
