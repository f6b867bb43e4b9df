"""Why the chosen design: its decisions in order, what one more unit of each resource or limit would buy, what nearly won."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.estimate import Load, pass_cost, steady_cost
from presilicon.estimate.cost import BOUNDS
from presilicon.estimate.passes import PassCost
from presilicon.frontend.language import LanguageModel

from ._archive import Archive, Candidate
from ._chip import first, one
from ._evaluate import FIGURES, PLACE, evaluate, violation
from ._methods import around
from ._problem import Problem, parallelism
from ._space import Indices, Space, Value

Floats = NDArray[np.float64]
# A limit is relaxed by this share to see what it costs.
RELAXED = 0.1
# A limit binds where the design is this near to it.
BINDS = 0.1
RESOURCES = {"compute": "matrix units", "memory": "memory bandwidth", "power": "the power limit", "link": "links",
             "overhead": "launches and waiting"}  # fmt: skip
LIMITS = {
    "memory_bytes": ("memory", "B"), "edge_mm": ("die edge", "mm"), "time_to_first_token_s": ("time to first token", "s"),
    "time_per_output_token_s": ("time per output token", "s"), "system_tdp_w": ("power of all chips", "W"),
    "area_mm2": ("die area", "mm2"), "unit_usd": ("cost of one chip", "USD"),
}  # fmt: skip
"""Figures that limits bound, as a person calls them, and their units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One step from a middling design to the chosen one: what it met, what was changed, and what that gained.

    ``gain``: by how many times the objective's figure fell; None while limits are broken, ``broken`` then says by how much.
    """

    step: int
    axis: str
    before: Value
    after: Value
    bottleneck: str
    gain: float | None
    broken: float
    figure: float

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What more of one thing buys: ``gain`` is by what share the objective's figure falls (negative: rises)."""

    of: str
    kind: str
    now: float
    then: float
    unit: str
    gain: float
    breaks: str

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class NearWinner:
    """The best design with another choice of something without an order, and how much worse it is."""

    axis: str
    value: Value
    ratio: float
    candidate: Candidate

    def to_json(self) -> dict[str, Any]:
        """Name, fields and figures of the design, what is different, and by how much it is worse."""
        return self.candidate.to_json() | {"axis": self.axis, "value": self.value, "ratio": self.ratio}


def bottleneck(problem: Problem, values: Mapping[str, Value]) -> dict[str, float]:
    """Shares of the time of an output token (a network: of a batch) by what it waits for, the largest first."""
    machine = one(values).machine
    formats = problem.formats(str(values["formats"]))
    assert formats is not None
    seconds = dict.fromkeys(BOUNDS, 0.0)
    if isinstance(problem.model, LanguageModel):
        load = Load(np.array([values["batch"]], dtype=np.float64), problem.limits.input_tokens, problem.limits.output_tokens)
        p = parallelism(str(values["parallelism"]))
        cost = steady_cost(machine, problem.model, load, formats=formats, parallelism=p)
        step = _seconds(cost.decode)
        prompt = _seconds(cost.prefill)
        waiting, whole = first(cost.waiting_s), max(sum(prompt.values()), 1e-30)
        for name in BOUNDS:
            seconds[name] = step[name] + waiting * prompt[name] / whole
        seconds["overhead"] += max(first(cost.step_s) - sum(step.values()), 0.0)
    else:
        batch = np.array([values["batch"]], dtype=np.float64)
        seconds = _seconds(pass_cost(machine, problem.model.inference(batch=batch, formats=formats, tokens=problem.tokens)))
        seconds["overhead"] += first(machine.constants.query_s)
    total = sum(seconds.values())
    return {RESOURCES[name]: share / total for name, share in sorted(seconds.items(), key=lambda item: -item[1])}


def _seconds(cost: PassCost) -> dict[str, float]:
    """Time of a pass by what bounds each operator; launches apart."""
    found = dict.fromkeys(BOUNDS, 0.0)
    for op, part in zip(cost.graph.operators, cost.costs, strict=True):
        over = op.count * first(part.overhead_s)
        found["overhead"] += over
        bound = BOUNDS[int(np.argmax([first(getattr(part, f"{name}_s")) for name in BOUNDS[:-1]]))]
        found[bound] += max(op.count * first(part.latency_s) - over, 0.0)
    return found


def broken_limits(problem: Problem, figures: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Limits that a design breaks: the figure, its value and its bound, the worst first."""
    bounds = dict(problem.bounds) | {"memory_bytes": figures["memory_limit_bytes"], "edge_mm": figures["edge_limit_mm"]}
    found = [(name, figures[name], bound) for name, bound in bounds.items() if figures[name] > bound]
    return sorted(found, key=lambda limit: -limit[1] / limit[2])


def decisions(problem: Problem, chosen: Candidate) -> tuple[Decision, ...]:
    """From the middle of every axis, the change that helps most, one after the other, until the chosen design is reached."""
    space = problem.space
    end = _indices(space, chosen.fields)
    now = np.array([len(axis.values) // 2 for axis in space.axes], dtype=np.int64)
    figures = evaluate(problem, now[None])[0]
    steps: list[Decision] = []
    while np.any(now != end):
        places = np.flatnonzero(now != end)
        tried = np.repeat(now[None], len(places), axis=0)
        tried[np.arange(len(places)), places] = end[places]
        found = evaluate(problem, tried)
        # Limits first, as the search does; then the objective.
        best = int(np.lexsort((found[:, PLACE[problem.figure]], found[:, PLACE["violation"]]))[0])
        place = int(places[best])
        broken = broken_limits(problem, dict(zip(FIGURES, figures.tolist(), strict=True)))
        held = figures[PLACE["violation"]] == 0.0
        steps.append(
            Decision(
                step=len(steps) + 1,
                axis=space.axes[place].name,
                before=space.axes[place].values[now[place]],
                after=space.axes[place].values[end[place]],
                bottleneck=_limit(broken[0]) if broken else _told(bottleneck(problem, space.values(now))),
                gain=float(figures[PLACE[problem.figure]] / found[best, PLACE[problem.figure]]) if held else None,
                broken=float(found[best, PLACE["violation"]]),
                figure=float(found[best, PLACE[problem.figure]]),
            )
        )
        now, figures = tried[best], found[best]
    return tuple(steps)


def _indices(space: Space, values: Mapping[str, Value]) -> Indices:
    return np.array([axis.values.index(values[axis.name]) for axis in space.axes], dtype=np.int64)


def _told(shares: Mapping[str, float]) -> str:
    name, share = next(iter(shares.items()))
    return f"{name} ({100 * share:.0f} % of the time)"


def _limit(broken: tuple[str, float, float]) -> str:
    name, unit = LIMITS[broken[0]]
    return f"limit: {name} {broken[1]:.3g} of {broken[2]:.3g} {unit}"


def shadow_prices(problem: Problem, found: Archive, chosen: Candidate) -> tuple[ShadowPrice, ...]:
    """What the next value of each ordered axis buys, and what each limit that binds costs; the most valuable first."""
    space = problem.space
    own = _indices(space, chosen.fields)
    now = chosen.figures[problem.figure]
    told: list[ShadowPrice] = []
    neighbours = around(space, own, most=1)
    figures = evaluate(problem, neighbours)
    for design, row in zip(neighbours[1:], figures[1:], strict=True):
        place = int(np.flatnonzero(design != own)[0])
        axis = space.axes[place]
        if axis.is_text or design[place] != own[place] + 1:
            continue
        broken = broken_limits(problem, dict(zip(FIGURES, row.tolist(), strict=True)))
        told.append(
            ShadowPrice(
                of=axis.name, kind="resource", now=float(axis.values[own[place]]), then=float(axis.values[design[place]]),
                unit="", gain=1.0 - float(row[PLACE[problem.figure]]) / now, breaks=_limit(broken[0]) if broken else "",
            )
        )  # fmt: skip
    return tuple(sorted([*told, *_of_limits(problem, found, chosen)], key=lambda price: (bool(price.breaks), -price.gain)))


def _of_limits(problem: Problem, found: Archive, chosen: Candidate) -> list[ShadowPrice]:
    """What the best known design would be with each binding limit a tenth looser: at least so much is lost to the limit."""
    told = []
    for name, bound in problem.bounds.items():
        if chosen.figures[name] < bound * (1.0 - BINDS):
            continue
        looser = _looser(problem, name, bound * (1.0 + RELAXED))
        figures = found.figures
        holds = violation(looser, figures) == 0.0
        best = float(np.min(figures[holds, PLACE[problem.figure]]))
        label, unit = LIMITS[name]
        told.append(
            ShadowPrice(
                of=label, kind="limit", now=bound, then=bound * (1.0 + RELAXED), unit=unit,
                gain=1.0 - best / chosen.figures[problem.figure], breaks="",
            )
        )  # fmt: skip
    return told


def _looser(problem: Problem, name: str, bound: float) -> Problem:
    limit = {"time_to_first_token_s": "ttft_s", "time_per_output_token_s": "tpot_s", "system_tdp_w": "max_power_w"}.get(name)
    if limit is not None:
        changed: dict[str, Any] = {limit: bound}
        return replace(problem, limits=replace(problem.limits, **changed))
    changed = {{"area_mm2": "max_area_mm2", "unit_usd": "max_unit_usd"}[name]: bound}
    return replace(problem, **changed)


def near_winners(problem: Problem, found: Archive, chosen: Candidate) -> tuple[NearWinner, ...]:
    """The best design with each other node, memory, set of formats and way of sharing the model; the nearest first."""
    space = problem.space
    good = np.flatnonzero(found.figures[:, PLACE["violation"]] == 0.0)
    order = good[np.argsort(found.figures[good, PLACE[problem.figure]], kind="stable")]
    told = []
    for place, axis in enumerate(space.axes):
        if not axis.is_text:
            continue
        values, first = np.unique(found.designs[order, place], return_index=True)
        for value, at in zip(values, first, strict=True):
            if axis.values[int(value)] != chosen.fields[axis.name]:
                candidate = found.candidate(int(order[at]))
                ratio = candidate.figures[problem.figure] / chosen.figures[problem.figure]
                told.append(NearWinner(axis=axis.name, value=axis.values[int(value)], ratio=ratio, candidate=candidate))
    return tuple(sorted(told, key=lambda near: (near.ratio, near.axis)))
