"""What proposes designs: a global method of a library, and neighbourhoods of the best. Generators: blocks out, scores in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._archive import Archive, front_figures
from ._evaluate import PLACE
from ._problem import Problem
from ._space import Indices, Space

Floats = NDArray[np.float64]
Proposals = Generator[Indices, Floats, None]
# Islands are choices of what has no order: node, formats, memory, parallelism. Shares of the budget: random designs of all
# islands, the objective on the best of them, on those next to the best, each other figure of the front; neighbourhoods of the
# best have what is left.
SAMPLED, OWN, NEXT, OTHER = 0.1, 0.25, 0.4, 0.05
# Islands on which a method begins; half of them go on after ROUND generations, half of these after twice as many. Designs of
# a generation of one island.
ISLANDS, ROUND, POPULATION = 32, 8, 64
# The same for islands next to the best: none of them stops before its last generation.
THOROUGH, DENSE = 50, 96
# Around how many islands' best designs every neighbour is looked at.
STARTS = 6
# A design that breaks a limit is worse than any that does not, by how far it breaks them.
_BROKEN = 1e30
_BLOCK = 16384
GENERATIONS = 200


@dataclass(frozen=True, slots=True)
class Phase:
    """A method at work on one figure until so many designs are evaluated in all."""

    name: str
    figure: str
    until: int
    proposals: Proposals


def scores(found: Archive, block: Indices, figure: str) -> Floats:
    """What a method is told of designs, small is good; infinite of those that the budget left out."""
    rows = found.rows_of(found.problem.space.numbers(block))
    figures = found.figures[rows]
    broken = figures[:, PLACE["violation"]]
    told = np.where(broken > 0.0, _BROKEN * (1.0 + broken), figures[:, PLACE[figure]])
    return np.where(rows < 0, np.inf, told)


def phases(problem: Problem, found: Archive, seed: int, budget: int) -> Iterator[Phase]:
    """The methods in turn; each begins when the one before has ended."""
    space = problem.space
    if space.size <= budget:
        yield Phase("exhaustive", problem.figure, budget, _everything(space))
        return
    rng = np.random.default_rng(seed)
    until = SAMPLED * budget
    yield Phase("random", problem.figure, int(until), _sampled(space, rng, int(until)))
    until += OWN * budget
    yield Phase("global", problem.figure, int(until), _evolution(found, problem.figure, rng))
    until += NEXT * budget
    yield Phase("alternatives", problem.figure, int(until), _alternatives(found, problem.figure, rng))
    for name in front_figures(problem):
        if name != problem.figure:
            until = max(until, found.evaluated) + OTHER * budget
            yield Phase("front", name, int(until), _evolution(found, name, rng))
    yield Phase("local", problem.figure, budget, _neighbourhoods(found))


def _everything(space: Space) -> Proposals:
    yield from space.blocks(_BLOCK)


def _sampled(space: Space, rng: np.random.Generator, number: int) -> Proposals:
    """Random designs, as many of every island as of any other."""
    names = [axis.name for axis in space.axes if axis.is_text]
    each = max(1, number // max(1, int(np.prod([len(space.axis(name).values) for name in names]))))
    for start in range(0, number, _BLOCK):
        own = np.arange(start, min(start + _BLOCK, number)) // each
        block = np.stack([rng.integers(0, values, len(own)) for values in space.shape], axis=1)
        for name in names:
            values = len(space.axis(name).values)
            block[:, space.place(name)] = own % values
            own = own // values
        yield block


def _islands(found: Archive, figure: str, most: int) -> list[Indices]:
    """The best design of each island that has one, the best island first."""
    space = found.problem.space
    places = [place for place, axis in enumerate(space.axes) if axis.is_text]
    order = np.argsort(scores(found, found.designs, figure), kind="stable")
    islands = np.ravel_multi_index(tuple(found.designs[order][:, places].T), [space.shape[place] for place in places])
    _, first = np.unique(islands, return_index=True)
    return [found.designs[order[at]] for at in np.sort(first)[:most]]


def _evolution(found: Archive, figure: str, rng: np.random.Generator) -> Proposals:
    """A method on each of the best islands, a generation of all at a time; again and again, with twice the population."""
    population = POPULATION
    while True:
        best = _islands(found, figure, ISLANDS)
        yield from _halving([_Island(found.problem.space, first, population, rng) for first in best])
        population *= 2


def _alternatives(found: Archive, figure: str, rng: np.random.Generator) -> Proposals:
    """The island of the best design and all that differ from it in one choice, each searched to its end; then those around
    the best that came of it, until it stays.
    """
    space = found.problem.space
    places = [place for place, axis in enumerate(space.axes) if axis.is_text]
    done: set[tuple[int, ...]] = set()
    while True:
        known = {tuple(best[places]): best for best in _islands(found, figure, space.size)}
        centre = next(iter(known.values()))
        todo = []
        for design in around(space, centre, most=1):
            island = tuple(int(at) for at in design[places])
            if island not in done:
                done.add(island)
                todo.append(known.get(island, design))
        if not todo:
            return
        yield from _thorough([_Island(space, first, DENSE, rng) for first in todo])


def _thorough(going: list[_Island]) -> Proposals:
    try:
        for _ in range(THOROUGH):
            if not (going := (yield from _generation(going))):
                return
    finally:
        for island in going:
            island.stop()


def _generation(going: list[_Island]) -> Generator[Indices, Floats, list[_Island]]:
    """One generation of each island in one block; returns those that have not ended."""
    asked = [(island, block) for island in going if (block := island.asks()) is not None]
    if asked:
        told = yield np.concatenate([block for _, block in asked])
        ends = np.cumsum([len(block) for _, block in asked])[:-1]
        for (island, _), part in zip(asked, np.split(told, ends), strict=True):
            island.tell(part)
    return [island for island, _ in asked]


def _halving(going: list[_Island]) -> Proposals:
    """The worse half of the islands stops after some generations, of the rest after twice as many, until one has ended."""
    generations = ROUND
    try:
        while going:
            for _ in range(generations):
                if not (going := (yield from _generation(going))):
                    return
            going.sort(key=lambda island: island.best)
            for island in going[(len(going) + 1) // 2 :]:
                island.stop()
            going = going[: (len(going) + 1) // 2]
            generations *= 2
    finally:
        for island in going:
            island.stop()


class _Island:
    """SciPy's differential evolution on the ordered axes of a space, the others held at those of ``first``.

    The method calls a function; here it is called by whoever asks for its next generation, so it waits in a thread.
    """

    def __init__(self, space: Space, first: Indices, population: int, rng: np.random.Generator) -> None:
        self.first, self.best = first, np.inf
        self._space, self._population, self._seed = space, population, int(rng.integers(2**32))
        self._asked: queue.Queue[Indices | BaseException | None] = queue.Queue()
        self._told: queue.Queue[Floats | None] = queue.Queue()
        self._thread = threading.Thread(target=self._evolve, daemon=True)
        self._thread.start()

    def asks(self) -> Indices | None:
        """The next generation; None when the method has ended."""
        told = self._asked.get()
        if isinstance(told, BaseException):
            raise told
        return told

    def tell(self, scores: Floats) -> None:
        """What the generation is worth."""
        self.best = min(self.best, float(np.min(scores)))
        self._told.put(scores)

    def stop(self) -> None:
        """End the method."""
        self._told.put(None)
        self._thread.join()

    def _figure(self, positions: Floats) -> Floats:
        block = np.repeat(self.first[None], positions.shape[1], axis=0)
        block[:, self._free] = np.rint(positions.T)
        self._asked.put(block)
        answer = self._told.get()
        if answer is None:
            raise _StoppedError
        return answer

    @property
    def _free(self) -> NDArray[np.intp]:
        ordered = [len(axis.values) > 1 and not axis.is_text for axis in self._space.axes]
        return np.flatnonzero(ordered)

    def _evolve(self) -> None:
        from scipy.optimize import differential_evolution

        free = self._free
        values = np.array(self._space.shape)[free]
        rng = np.random.default_rng(self._seed)
        # Every value of an axis as likely as any other: a value is where it is rounded to.
        start = np.clip(rng.random((max(self._population, 5), len(free))) * values - 0.5, 0, values - 1)
        start[0] = self.first[free]
        try:
            differential_evolution(
                self._figure, [(0, int(most) - 1) for most in values], integrality=[True] * len(free), vectorized=True,
                updating="deferred", init=start, strategy="best1bin", maxiter=GENERATIONS, tol=0.0, polish=False, rng=rng,
            )  # fmt: skip
            self._asked.put(None)
        except _StoppedError:
            pass
        except BaseException as error:
            self._asked.put(error)


class _StoppedError(Exception):
    """Nobody asks for designs any more."""


def _neighbourhoods(found: Archive) -> Proposals:
    """All designs within two values of the best until none is better; then the same around the best of other islands."""
    space, seen = found.problem.space, set()
    while True:
        starts = [int(space.numbers(best[None])[0]) for best in _islands(found, found.problem.figure, STARTS)]
        start = next((number for number in starts if number not in seen), None)
        if start is None:
            return
        seen.add(start)
        yield around(space, space.designs(np.array([start]))[0])


def around(space: Space, design: Indices, most: int = 2) -> Indices:
    """All designs that differ from one in one to ``most`` (1 or 2) axes, itself first."""
    found = [design[None]]
    singles = []
    for place, count in enumerate(space.shape):
        own = np.repeat(design[None], count, axis=0)
        own[:, place] = np.arange(count)
        singles.append(own[np.arange(count) != design[place]])
    found += singles
    if most > 1:
        for place, own in enumerate(singles):
            for other in range(place + 1, len(space.shape)):
                values = np.delete(np.arange(space.shape[other]), design[other])
                pairs = np.repeat(own, len(values), axis=0)
                pairs[:, other] = np.tile(values, len(own))
                found.append(pairs)
    return np.concatenate(found)
