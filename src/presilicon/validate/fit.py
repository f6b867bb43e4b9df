"""The one fitting loop: constants that bring predictions closest to measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from presilicon.validate.score import Floats

# An error beyond this factor (as a logarithm) counts no more than this: a few odd kernels do not pull the constants.
CLIP = 0.5
# Steps (of the logarithm of a constant): of the two simplices, and of moving one constant at a time.
STEPS = (0.3, 0.12)
TURNS = (0.3, 0.1, 0.03)
MOST_MOVES = 12
# Pull towards the start, times the square of each logarithm: a factor of 2 costs as much as 0.02 % of error.
PULL = 4e-4
# Shares of a peak cannot be above it.
SHARES = (
    "matmul_share",
    "memory_share",
    "link_share",
    "attention_share",
    "in_switch_share",
    "voltage_slope",
    "network_share",
    "sample_share",
)


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted constants, and the mean clipped error (a logarithm) they reach on the rows they were fitted on."""

    constants: Mapping[str, float]
    loss: float
    evaluations: int


def error(predicted: Floats, measured: Floats) -> float:
    """What a fit makes least: the mean size of the logarithm of predicted over measured, clipped."""
    return float(np.mean(np.minimum(np.abs(np.log(predicted / measured)), CLIP)))


def fit_constants(loss: Callable[[Mapping[str, float]], float], start: Mapping[str, float], *, evaluations: int = 400) -> Fit:
    """Constants near ``start`` that make ``loss`` least; all stay above zero, shares at most 1.

    A simplex (Nelder and Mead 1965) over the constants' logarithms, then a smaller one, from two beginnings: ``start``, and
    the point that moving one constant after the other leads to; the better end counts. A constant of which the rows tell
    nothing stays near its start. Nothing is random: the same input gives the same constants. ``evaluations`` bounds each
    simplex and each round of turns.
    """
    from scipy.optimize import minimize

    names = list(start)
    base = np.array([start[name] for name in names], dtype=np.float64)
    limit = np.array([1.0 if name in SHARES else np.inf for name in names])
    count = 0

    def values(x: Floats) -> dict[str, float]:
        return dict(zip(names, np.minimum(base * np.exp(np.clip(x, -9.0, 9.0)), limit).tolist(), strict=True))

    def at(x: Floats) -> float:
        nonlocal count
        count += 1
        return loss(values(x)) + PULL * float(np.sum(x * x))

    def simplex(x: Floats, step: float) -> Floats:
        points = np.vstack([x, x + step * np.eye(len(names))])
        options = {"maxfev": evaluations, "initial_simplex": points, "xatol": 1e-3, "fatol": 1e-5}
        return np.asarray(minimize(at, x, method="Nelder-Mead", options=options).x, dtype=np.float64)

    zero = np.zeros(len(names))
    if not names:
        return Fit({}, loss({}), 1)
    ends = []
    for first in (zero, _by_turns(at, zero, evaluations)):
        x = first
        for step in STEPS:
            x = simplex(x, step)
        ends.append(_by_turns(at, x, evaluations))
    best = min(ends, key=at)
    return Fit(values(best), loss(values(best)), count)


def _by_turns(loss: Callable[[Floats], float], x: Floats, evaluations: int) -> Floats:
    """``x`` moved along one axis after the other as long as that helps, by ever smaller steps."""
    least, left = loss(x), evaluations
    for step in TURNS:
        for axis in range(len(x)):
            for sign in (step, -step):
                for _ in range(min(MOST_MOVES, left)):
                    left -= 1
                    moved = x.copy()
                    moved[axis] += sign
                    value = loss(moved)
                    if value >= least - 1e-6:
                        break
                    x, least = moved, value
    return x
