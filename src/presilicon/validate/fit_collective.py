"""Fits the constants of collectives to measured ones, and says how far held-back rows and chips are met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import load
from presilicon.estimate.collective import collective_cost
from presilicon.estimate.machine import Machine, machine
from presilicon.graph import Collective, CollectiveKind
from presilicon.validate.facts import Table

NAMES = ("collective_start_s", "collective_hop_s", "collective_line_s", "collective_copy_s", "link_share")
SWITCHED = (*NAMES, "in_switch_share")
# Where the search begins: any start near finds the same end.
START = (4.6e-6, 7.9e-7, 8.0e-7, 1.5e-5, 0.79, 0.58)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One chip, one collective among ``chips``: rising message sizes and what each took."""

    chip: str
    collective: CollectiveKind
    chips: int
    message_bytes: NDArray[np.float64]
    latency_s: NDArray[np.float64]

    def every_other(self, first: int) -> Sweep:
        """The sweep with every other message size, from the first or the second on."""
        return replace(self, message_bytes=self.message_bytes[first::2], latency_s=self.latency_s[first::2])


@dataclass(frozen=True, slots=True)
class Fit:
    """Fitted constants, and median absolute relative error by (chip, part); parts are "fitted", "held back" and "roofline"."""

    constants: dict[str, float]
    errors: dict[tuple[str, str], float]


def sweeps_of(table: Table) -> tuple[Sweep, ...]:
    """The sweeps of a table of collectives, sizes rising."""
    groups = sorted(
        {(str(a), str(b), int(n)) for a, b, n in zip(table["chip"], table["collective"], table["chips"], strict=True)}
    )
    sweeps = []
    for chip, kind, chips in groups:
        own = table.take((table["chip"] == chip) & (table["collective"] == kind) & (table["chips"] == chips))
        own = own.take(np.argsort(own["message_bytes"], kind="stable"))
        sweeps.append(Sweep(chip, cast(CollectiveKind, kind), chips, own["message_bytes"], own["latency_s"]))
    return tuple(sweeps)


def _operator(sweep: Sweep) -> Collective:
    return Collective(name="measured", collective=sweep.collective, message_bytes=sweep.message_bytes, chips=sweep.chips)


def _ratios(sweeps: Sequence[Sweep], machines: dict[str, Machine]) -> NDArray[np.float64]:
    return np.concatenate([collective_cost(machines[s.chip], _operator(s)).latency_s / s.latency_s for s in sweeps])


def _roofline(sweeps: Sequence[Sweep], machines: dict[str, Machine]) -> NDArray[np.float64]:
    """Bytes sent over the links' bandwidth, plus 3 us."""
    parts = []
    for s in sweeps:
        twice = 2.0 if s.collective == "all_reduce" else 1.0
        sent = twice * (s.chips - 1) / s.chips * s.message_bytes
        parts.append((3e-6 + sent / machines[s.chip].link_bytes_per_s) / s.latency_s)
    return np.concatenate(parts)


def _median_ape(ratios: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(ratios - 1.0)))


def search(loss: Callable[[NDArray[np.float64]], float], start: Sequence[float]) -> NDArray[np.float64]:
    """Positive constants that make ``loss`` least, by the simplex method in their logarithms, restarted once."""
    from scipy.optimize import minimize

    x = np.log(np.asarray(start, dtype=np.float64))
    for _ in range(2):
        simplex = np.vstack([x, x + 0.2 * np.eye(len(x))])
        options = {"maxfev": 900, "xatol": 1e-4, "fatol": 1e-7, "initial_simplex": simplex}
        x = minimize(lambda y: loss(np.exp(y)), x, method="Nelder-Mead", options=options).x
    return cast("NDArray[np.float64]", np.exp(x))


def fit(train: Sequence[Sweep], test: Sequence[Sweep]) -> Fit:
    """The constants that meet ``train`` best (mean absolute logarithm, rows past 40 % off count alike), checked on ``test``."""
    plain = {s.chip: machine(load(s.chip)) for s in (*train, *test)}
    names = SWITCHED if any("a100" not in s.chip for s in train) else NAMES

    def machines(values: NDArray[np.float64]) -> dict[str, Machine]:
        new = dict.fromkeys(SWITCHED, 0.0) | dict(zip(names, map(float, values), strict=True))
        return {chip: replace(m, constants=replace(m.constants, **new)) for chip, m in plain.items()}

    def loss(values: NDArray[np.float64]) -> float:
        return float(np.mean(np.minimum(np.abs(np.log(_ratios(train, machines(values)))), 0.4)))

    values = search(loss, START[: len(names)])
    fitted = machines(values)
    errors = {}
    for chip in sorted(plain):
        for part, sweeps in (("fitted", train), ("held back", test)):
            own = [s for s in sweeps if s.chip == chip]
            if own:
                errors[chip, part] = _median_ape(_ratios(own, fitted))
                errors[chip, "roofline"] = _median_ape(_roofline(own, plain))
    return Fit(dict(zip(names, map(float, values), strict=True)), errors)


def fit_collectives(table: Table) -> dict[str, Fit]:
    """Fits by what was held back: every other size, half of the (collective, chips) pairs, or a whole chip of Hopper."""
    sweeps = sweeps_of(table)
    fits = {}
    for family, members in (("nvidia-hopper", ("h100", "h200")), ("nvidia-ampere", ("a100",))):
        own = [s for s in sweeps if any(name in s.chip for name in members)]
        fits[f"{family}: all"] = fit(own, own)
        fits[f"{family}: every other size"] = fit([s.every_other(0) for s in own], [s.every_other(1) for s in own])
        pairs = sorted({(s.collective, s.chips) for s in own})[::2]
        kept = [s for s in own if (s.collective, s.chips) in pairs]
        fits[f"{family}: half of the pairs"] = fit(kept, [s for s in own if (s.collective, s.chips) not in pairs])
    h100 = [s for s in sweeps if "h100" in s.chip]
    h200 = [s for s in sweeps if "h200" in s.chip]
    fits["nvidia-h100 to nvidia-h200"] = fit(h100, h200)
    fits["nvidia-h200 to nvidia-h100"] = fit(h200, h100)
    return fits
