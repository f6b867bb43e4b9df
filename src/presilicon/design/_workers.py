"""Who evaluates: this process, processes of this machine, or a Ray cluster. All give the same bits in the same order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import CheckError

from ._evaluate import FIGURES, evaluate, pieces
from ._problem import Problem
from ._space import Indices

Floats = NDArray[np.float64]
# Times that a pool is made anew where its processes die (memory, a signal) before the search gives up.
PATIENCE = 3
# Fewer designs are evaluated where they are asked for: handing them over would cost more.
FEW = 512


class Workers(Protocol):
    """Evaluates blocks of designs; closed when the search ends."""

    def evaluate(self, block: Indices) -> Floats:
        """All figures of designs, in the order of the block."""

    def close(self) -> None:
        """Let go of processes and connections."""


class Here:
    """Evaluates in this process."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def evaluate(self, block: Indices) -> Floats:
        return evaluate(self._problem, block)

    def close(self) -> None:
        pass


_OWN: list[Problem] = []


def _start(problem: Problem) -> None:
    _OWN[:] = [problem]


def _work(block: Indices) -> Floats:
    return evaluate(_OWN[0], block)


class Processes:
    """``number`` processes; those that die are replaced and their blocks done again."""

    def __init__(self, problem: Problem, number: int) -> None:
        self._problem, self._number = problem, number
        self._pool: ProcessPoolExecutor | None = None

    def _opened(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Started afresh and not forked: a process with threads (a web server) forks into dead locks.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._number, context, initializer=_start, initargs=(self._problem,))
        return self._pool

    def evaluate(self, block: Indices) -> Floats:
        if len(block) < FEW:
            return evaluate(self._problem, block)
        return gathered(self._problem, block, self._all)

    def _all(self, parts: Sequence[Indices]) -> list[Floats]:
        for _ in range(PATIENCE):
            try:
                return list(self._opened().map(_work, parts))
            except BrokenProcessPool:
                self.close()
        raise CheckError(f"the processes that evaluate designs died {PATIENCE} times", hint="fewer --workers, or more memory")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def gathered(problem: Problem, block: Indices, work: Callable[[Sequence[Indices]], Sequence[Floats]]) -> Floats:
    """A block cut into pieces, worked on, and put together again in its order."""
    rows = list(pieces(problem, block))
    found = np.empty((len(block), len(FIGURES)))
    for part, values in zip(rows, work([block[part] for part in rows]), strict=True):
        found[part] = values
    return found


def workers_of(problem: Problem, number: int | None = None, ray: str | None = None) -> Workers:
    """Workers for a search: ``ray`` is an address or "local", ``number`` the processes here (all processors unless given)."""
    if ray is not None:
        from ._ray import RayWorkers

        return RayWorkers(problem, ray, number)
    count = number or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    return Processes(problem, count) if count > 1 else Here(problem)
