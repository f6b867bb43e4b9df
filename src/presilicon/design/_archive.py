"""Designs that were evaluated: the best, the Pareto front, the nearest miss; and one of them as a value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import Chip
from presilicon.frontend.language import LanguageModel

from ._chip import USE_AXES, chip_of
from ._evaluate import FIGURES, PLACE
from ._problem import Problem
from ._space import Indices, Value

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
# Designs whose figures differ by less are one point of the front: a reader cannot tell them apart, nor can the estimate.
RESOLUTION = 0.02
LARGEST_FRONT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One design: a value of each axis, and its figures (``presilicon.design.FIGURES``)."""

    fields: Mapping[str, Value]
    figures: Mapping[str, float]
    volume: int

    @property
    def name(self) -> str:
        """A name that tells designs of different chips apart."""
        told = repr(sorted((name, value) for name, value in self.fields.items() if name not in USE_AXES))
        return f"design-{self.fields['node']}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    @property
    def chips(self) -> int:
        """Chips that work together."""
        return max(1, round(self.figures["system_tdp_w"] / self.figures["tdp_w"]))

    def chip(self) -> Chip:
        """The chip, priced with its share of the engineering."""
        return chip_of(self.fields, name=self.name, volume=self.volume)

    def to_json(self) -> dict[str, Any]:
        """Name, fields and figures."""
        return {"name": self.name, "fields": dict(self.fields), "figures": dict(self.figures)}


def front_figures(problem: Problem) -> tuple[str, ...]:
    """The figures that the Pareto front trades off, all to be small."""
    speed = "time_per_output_token_s" if isinstance(problem.model, LanguageModel) else "latency_s"
    return "usd_per_million_tokens", "energy_j_per_token", speed


class Archive:
    """Every design of a search by its number, with what is asked of all of them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.feasible = 0
        self._rows: dict[int, int] = {}
        self._designs = np.empty((0, len(problem.space.axes)), dtype=np.int64)
        self._figures = np.empty((0, len(FIGURES)))
        self._front: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._best = self._nearest = -1

    @property
    def evaluated(self) -> int:
        """Number of designs."""
        return len(self._rows)

    @property
    def designs(self) -> Indices:
        """All designs in the order they came, shape (n, axes)."""
        return self._designs[: self.evaluated]

    @property
    def figures(self) -> Floats:
        """Their figures, shape (n, figures)."""
        return self._figures[: self.evaluated]

    def unseen(self, numbers: Numbers) -> Numbers:
        """Those of ``numbers`` that were not evaluated, each once, in their order."""
        return np.array([n for n in dict.fromkeys(numbers.tolist()) if n not in self._rows], dtype=np.int64)

    def rows_of(self, numbers: Numbers) -> NDArray[np.intp]:
        """Rows of designs by their numbers, -1 where one was not evaluated."""
        return np.array([self._rows.get(n, -1) for n in numbers.tolist()], dtype=np.intp)

    def add(self, numbers: Numbers, designs: Indices, figures: Floats) -> None:
        """Designs that were not seen before."""
        start, end = self.evaluated, self.evaluated + len(numbers)
        if end > len(self._designs):
            room = max(2 * end, 4096)
            self._designs, self._figures = _grown(self._designs, room), _grown(self._figures, room)
        self._designs[start:end], self._figures[start:end] = designs, figures
        self._rows.update(zip(numbers.tolist(), range(start, end), strict=True))
        broken = figures[:, PLACE["violation"]]
        good = start + np.flatnonzero(broken == 0.0)
        self.feasible += len(good)
        if len(good):
            least = int(good[np.argmin(self._figures[good, PLACE[self.problem.figure]])])
            if self._best < 0 or self._value(least) < self._value(self._best):
                self._best = least
            self._front = self._thinned(np.concatenate([self._front, good]))
        at = start + int(np.argmin(broken))
        if self._nearest < 0 or self._figures[at, PLACE["violation"]] < self._figures[self._nearest, PLACE["violation"]]:
            self._nearest = at

    def _value(self, row: int) -> float:
        return float(self._figures[row, PLACE[self.problem.figure]])

    def _thinned(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Rows that no other row beats in every figure of the front, one of those that are nearly equal."""
        columns = [PLACE[name] for name in front_figures(self.problem)]
        steps = np.floor(np.log(self._figures[rows][:, columns]) / np.log1p(RESOLUTION))
        order = np.lexsort((rows, self._figures[rows, PLACE[self.problem.figure]], *steps.T[::-1]))
        rows, steps = rows[order], steps[order]
        kept: list[int] = []
        beside = np.empty((0, steps.shape[1]))
        for at, step in enumerate(steps):
            # Sorted by the first figure: only earlier ones can be as good or better in all.
            if not len(beside) or not np.any(np.all(beside <= step, axis=1)):
                kept.append(at)
                beside = np.vstack([beside, step])
        return rows[kept]

    def candidate(self, row: int) -> Candidate:
        """A design by its row."""
        figures = dict(zip(FIGURES, self._figures[row].tolist(), strict=True))
        return Candidate(fields=self.problem.space.values(self._designs[row]), figures=figures, volume=self.problem.volume)

    def best_row(self) -> int:
        """Row of the best design that holds all limits, -1 where none does."""
        return self._best

    def nearest_row(self) -> int:
        """Row of the design that breaks its limits least, -1 before the first."""
        return self._nearest

    def best(self) -> Candidate | None:
        """The best design that holds all limits."""
        return None if self._best < 0 else self.candidate(self._best)

    def nearest(self) -> Candidate | None:
        """The design that breaks its limits least; None before the first."""
        return None if self._nearest < 0 else self.candidate(self._nearest)

    def front(self) -> tuple[Candidate, ...]:
        """The Pareto front by the first of its figures, evenly thinned where it is long."""
        rows = self._front
        if len(rows) > LARGEST_FRONT:
            rows = rows[np.linspace(0, len(rows) - 1, LARGEST_FRONT).round().astype(np.intp)]
        return tuple(self.candidate(int(row)) for row in rows)


def _grown(array: NDArray[Any], room: int) -> NDArray[Any]:
    larger = np.empty((room, array.shape[1]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
