"""Replicas that serve a language model, told of requests as they come: the scheduler of ``replay``, one step at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from presilicon.replay import Deployment, Request, Scheduler

Sample = tuple[int, int]


@dataclass(slots=True)
class Replicas:
    """Replicas of a deployment, each with a scheduler; sample n has ``lengths[n]`` tokens: prompt and answer.

    ``ahead``: nothing comes while a request is worked on, so steps that are alike are taken at once.
    """

    deployment: Deployment
    replicas: int
    lengths: Sequence[tuple[int, int]]
    ahead: bool
    schedulers: list[Scheduler] = field(init=False)
    waiting: list[deque[tuple[float, Sample]]] = field(init=False)
    free_s: list[float] = field(init=False)
    busy: list[bool] = field(init=False)
    running: list[tuple[float, int, list[Sample], list[Sample]]] = field(default_factory=list)
    where: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedulers = [self.deployment.scheduler() for _ in range(self.replicas)]
        self.waiting = [deque() for _ in range(self.replicas)]
        self.free_s = [0.0] * self.replicas
        self.busy = [False] * self.replicas

    def arrive(self, replica: int, samples: list[Sample], now_s: float) -> None:
        """Samples (their number, LoadGen's id) come to one replica."""
        self.waiting[replica].extend((now_s, sample) for sample in samples)

    def begin(self, now_s: float) -> None:
        """Begin every step whose time has come by ``now_s``."""
        for index, scheduler in enumerate(self.schedulers):
            queue = self.waiting[index]
            if self.busy[index] or (scheduler.idle and not queue):
                continue
            start = max(self.free_s[index], queue[0][0]) if scheduler.idle else self.free_s[index]
            if start > now_s:
                continue
            while queue and queue[0][0] <= start:
                came, (number, sample) = queue.popleft()
                self.where[sample] = number
                scheduler.add(Request(sample, came, *self.lengths[number]), start)
            self._step(index, scheduler, start)

    def _step(self, index: int, scheduler: Scheduler, start: float) -> None:
        if self.ahead:
            took = scheduler.advance(start, float("inf"))
            assert took is not None  # it is not idle
            seconds, first, finished = took.duration_s, list(took.first), list(took.finished)
        else:
            step = scheduler.step(start)
            assert step is not None  # it is not idle
            seconds, first, finished = step.duration_s, list(step.first), list(step.finished)
        self.free_s[index], self.busy[index] = start + seconds, True
        begun, ended = ([(self.where[int(id)], int(id)) for id in ids] for ids in (first, finished))
        heappush(self.running, (start + seconds, index, begun, ended))

    @property
    def next_s(self) -> float:
        """When the next step ends; infinite where none runs."""
        return self.running[0][0] if self.running else float("inf")

    def end(self) -> tuple[float, list[Sample], list[Sample]]:
        """The next step to end: when, the samples that have their first token, and those that have their last."""
        ended, index, first, finished = heappop(self.running)
        self.busy[index] = False
        for _, sample in finished:
            del self.where[sample]
        return ended, first, finished
