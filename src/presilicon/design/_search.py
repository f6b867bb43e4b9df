"""The search: a global method over the whole space, then every design that differs from the best in one or two values.

SciPy's differential evolution proposes a generation, all of which is evaluated at once; designs that were seen are not
evaluated again. Half of the budget goes to the objective, a part to each other figure of the Pareto front, the rest to the
neighbourhoods. What is proposed depends on the seed and on figures alone: never on workers, time or where a run was resumed.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError, WorkloadError

from ._archive import Archive, Candidate
from ._methods import phases, scores
from ._problem import Problem
from ._space import Indices
from ._store import Store
from ._workers import Workers, workers_of

Floats = NDArray[np.float64]
DEFAULT_BUDGET = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How far a search is: designs evaluated, of how many at most, seconds, and the best and the Pareto front so far."""

    phase: str
    evaluated: int
    feasible: int
    budget: int
    seconds: float
    best: Candidate | None
    front: tuple[Candidate, ...]
    nearest: Candidate | None

    @property
    def designs_per_s(self) -> float:
        """Designs evaluated a second."""
        return self.evaluated / max(self.seconds, 1e-9)


def search(
    problem: Problem,
    *,
    folder: str | Path | None = None,
    seed: int = 0,
    budget: int = DEFAULT_BUDGET,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    archive: Archive | None = None,
) -> Iterator[Snapshot]:
    """Search a problem, telling how far it is after each generation; the last snapshot's phase is "done".

    ``folder`` keeps every block of designs, so that a search that was killed is resumed and ends as it would have. Closing the
    iterator stops it. ``archive`` is filled with what was found. InputError where the folder holds something else.
    """
    if budget < 1:
        raise WorkloadError(f"budget is {budget}", hint="designs to evaluate, from 1")
    found = Archive(problem) if archive is None else archive
    hands = workers_of(problem, workers, ray)
    store: Store | None = None
    try:
        store = None if folder is None else Store(folder, problem, seed, budget, resume=resume)
        run = _Run(problem, found, hands, store, budget)
        for phase in phases(problem, found, seed, budget):
            with closing(phase.proposals):
                block = next(phase.proposals, None)
                while block is not None and found.evaluated < min(phase.until, budget):
                    run.see(block)
                    yield run.snapshot(phase.name)
                    block = _send(phase.proposals, scores(found, block, phase.figure))
        yield run.snapshot("done")
    finally:
        hands.close()
        if store is not None:
            store.close()


class _Run:
    """What was evaluated, and where blocks come from: the store as far as it goes, then the workers."""

    def __init__(self, problem: Problem, found: Archive, hands: Workers, store: Store | None, budget: int) -> None:
        self._problem, self._found, self._hands, self._store, self._budget = problem, found, hands, store, budget
        self._block, self._start = 0, time.perf_counter()

    def see(self, block: Indices) -> None:
        """Evaluate those designs of a block that are new, as far as the budget goes."""
        numbers = self._found.unseen(self._problem.space.numbers(block))[: self._budget - self._found.evaluated]
        if not len(numbers):
            return
        designs = self._problem.space.designs(numbers)
        if self._store is not None and self._block < self._store.blocks:
            stored, figures = self._store.read(self._block)
            if not np.array_equal(stored, numbers):
                raise InputError(f"block {self._block} of the store is of another search", where=str(self._store.folder))
        else:
            figures = self._hands.evaluate(designs)
            if self._store is not None:
                self._store.write(self._block, numbers, figures)
        self._block += 1
        self._found.add(numbers, designs, figures)

    def snapshot(self, phase: str) -> Snapshot:
        found = self._found
        return Snapshot(
            phase=phase, evaluated=found.evaluated, feasible=found.feasible, budget=self._budget,
            seconds=time.perf_counter() - self._start, best=found.best(), front=found.front(), nearest=found.nearest(),
        )  # fmt: skip


def _send(proposals: Generator[Indices, Floats, None], scores: Floats) -> Indices | None:
    try:
        return proposals.send(scores)
    except StopIteration:
        return None
