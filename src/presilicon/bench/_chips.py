"""Chips that serve batches, told of queries as they come: the law of ``scenario.served``, one step at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any


@dataclass(slots=True)
class Chips:
    """Chips that each take all that waits for them, up to ``largest`` samples; ``table[b]`` is the time (s) of b samples.

    Times are the chips' own: what is told late is served as if told in time, as long as no later batch has begun.
    """

    table: list[float]
    largest: int
    chips: int
    waiting: list[deque[tuple[float, Any]]] = field(init=False)
    free_s: list[float] = field(init=False)
    running: list[tuple[float, int, list[Any]]] = field(default_factory=list)
    begun: int = 0

    def __post_init__(self) -> None:
        self.waiting = [deque() for _ in range(self.chips)]
        self.free_s = [0.0] * self.chips

    def arrive(self, chip: int, samples: list[Any], now_s: float) -> None:
        """Samples come to one chip."""
        self.waiting[chip].extend((now_s, sample) for sample in samples)

    def begin(self, now_s: float) -> None:
        """Begin every batch whose time has come by ``now_s``."""
        for chip, queue in enumerate(self.waiting):
            while queue and (start := max(self.free_s[chip], queue[0][0])) <= now_s:
                batch = [queue.popleft()[1]]
                while queue and queue[0][0] <= start and len(batch) < self.largest:
                    batch.append(queue.popleft()[1])
                self.free_s[chip] = start + self.table[len(batch)]
                self.begun += 1
                heappush(self.running, (self.free_s[chip], self.begun, batch))

    @property
    def next_s(self) -> float:
        """When the next batch ends; infinite where none runs."""
        return self.running[0][0] if self.running else float("inf")

    def end(self) -> tuple[float, list[Any], list[Any]]:
        """The next batch to end: when, samples that have a first token (none here), and its samples."""
        ended, _, batch = heappop(self.running)
        return ended, [], batch
