"""Dies on a wafer and the share of them that works; arrays broadcast, areas in mm2, defect densities a square centimetre."""

from __future__ import annotations

import math

import numpy as np

from presilicon.economics.quantity import Real, quantity
from presilicon.errors import InputError

_MM2_PER_CM2 = 100.0
MODELS = ("poisson", "murphy", "negative-binomial")


def dies_per_wafer(area_mm2: Real) -> Real:
    """Whole dies on a wafer, square ones with their scribe lines; below 1 where none fits.

    Ferris-Prabhu, "An algebraic expression to count the number of chips on a wafer", IEEE Circuits and Devices 5(1), 1989: the
    usable disc over the die, times exp(-2 side / diameter) for what its edge cuts. Within 4 % of what a grid of squares holds.
    """
    diameter = quantity("prices", "wafer", "diameter").value - 2.0 * quantity("prices", "wafer", "edge_exclusion").value
    side = np.sqrt(area_mm2) + quantity("prices", "wafer", "scribe").value
    return math.pi * np.square(diameter / side) / 4.0 * np.exp(-2.0 * side / diameter)


def die_yield(area_mm2: Real, defects_per_cm2: Real, model: str = "negative-binomial", clustering: Real = 3.0) -> Real:
    """Share of dies without a defect: 1 at no area, falling with area and defect density.

    Poisson exp(-x), Murphy ((1 - exp(-x)) / x)^2, negative binomial (1 + x / clustering)^-clustering, with x the expected
    defects of a die. Murphy and the negative binomial are never below Poisson; the more defects cluster (the smaller
    ``clustering``), the higher. InputError for another model.
    """
    expected = np.asarray(area_mm2, dtype=np.float64) * defects_per_cm2 / _MM2_PER_CM2
    if model == "poisson":
        return np.exp(-expected)
    if model == "murphy":
        safe = np.maximum(expected, 1e-12)
        return np.square(-np.expm1(-safe) / safe)
    if model == "negative-binomial":
        return np.exp(-clustering * np.log1p(expected / clustering))
    raise InputError(f"no yield model is called {model!r}", hint=", ".join(MODELS))


def harvested_yield(
    area_mm2: Real, defects_per_cm2: Real, core_share: Real, cores: int, spares: int, clustering: Real = 3.0
) -> Real:
    """Share of dies with at most ``spares`` of their ``cores`` defective and nothing else, defects clustered as above.

    ``core_share`` is the part of the die that cores cover, alike and independent at a given defect density. That density is
    gamma distributed with the shape ``clustering``, so that with no cores it is the negative binomial; the integral over it
    is a sum. Without a spare it is ``die_yield``.
    """
    if not 0 <= spares < max(cores, 1):
        raise InputError(f"{spares} spare cores of {cores}", hint="fewer spares than cores, none or more")
    if spares == 0:
        return die_yield(area_mm2, defects_per_cm2, clustering=clustering)
    expected = np.asarray(area_mm2, dtype=np.float64) * defects_per_cm2 / _MM2_PER_CM2
    density, weight = _gamma_points(np.asarray(clustering, dtype=np.float64))
    here = expected[..., None] * density
    share = np.asarray(core_share, dtype=np.float64)[..., None]
    good_core = np.exp(-here * share / cores)
    tolerated = sum(math.comb(cores, bad) * (1.0 - good_core) ** bad * good_core ** (cores - bad) for bad in range(spares + 1))
    result: Real = np.sum(np.exp(-here * (1.0 - share)) * tolerated * weight, axis=-1)
    return result


def _gamma_points(shape: Real) -> tuple[Real, Real]:
    """Densities and weights that integrate over a gamma distribution of mean 1, at 64 points of the cube root."""
    edges = np.linspace(0.0, 2.2, 129)[1::2]
    points = edges**3
    alpha = np.asarray(shape)[..., None]
    logs = alpha * np.log(alpha * points) - alpha * points + np.log(3.0 / edges)
    weight = np.exp(logs - np.max(logs, axis=-1, keepdims=True))
    weight = weight / np.sum(weight, axis=-1, keepdims=True)
    return points, weight
