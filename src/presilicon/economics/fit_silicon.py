"""Fit the constants of the die area model: ``python -m presilicon.economics.fit_silicon`` writes data/technology/silicon.toml.

Least squares of the logarithm of the area over the dies of dies.csv with use "fit". Each constant is also pulled towards its
first guess, the sourced figure of blocks.csv, so that sixteen dies can bear twelve constants: shares and the graphics units,
of which nothing is published, almost freely. A100's and MI210's dies count four times: their blocks were measured on die
photographs, and the bars on them are the narrowest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from presilicon.economics.dies import Die, dies
from presilicon.economics.quantity import quantity
from presilicon.economics.silicon import die_area

# First guess, and how hard it pulls (1: a factor of e off costs as much as a die off by that).
_GUESSES: dict[str, tuple[float | tuple[str, str], float]] = {
    "int8_mac_um2": (("int8_mac", "area"), 1.0),
    "wide_mac_ratio": (("wide_mac", "area_ratio"), 1.0),
    "sram_mm2_per_mbit": (("sram", "area_per_mbit"), 1.0),
    "simt_lane_um2": (("simt_lane", "area"), 0.5),
    "cdna_lane_um2": (("cdna_lane", "area"), 0.5),
    "fp64_lane_um2": (("fp64_lane", "area"), 0.5),
    "graphics_um2": (5000.0, 0.1),
    "uncore_gpu": (0.5, 0.1),
    "uncore_static": (0.3, 0.1),
    "uncore_accelerator": (1.5, 0.1),
}
_WEIGHTS = {"GA100": 4.0, "MI200": 4.0}


def _first() -> dict[str, float]:
    return {
        name: guess if isinstance(guess, float) else quantity("blocks", *guess).value for name, (guess, _) in _GUESSES.items()
    }


def _residuals(logs: NDArray[np.float64], start: NDArray[np.float64], on: Sequence[Die]) -> NDArray[np.float64]:
    constants = dict(zip(_GUESSES, np.exp(logs), strict=True))
    off = [_WEIGHTS.get(die.name, 1.0) * np.log(float(die_area(die.spec, constants).total_mm2) / die.area_mm2) for die in on]
    pull = np.array([strength for _, strength in _GUESSES.values()]) * (logs - start)
    return np.concatenate([off, pull])


def fit(on: Sequence[Die]) -> dict[str, float]:
    """The constants of least squares on some dies (damped Gauss-Newton on their logarithms)."""
    start = np.log(list(_first().values()))
    logs, damping = start.copy(), 1e-3
    best = _residuals(logs, start, on)
    for _ in range(200):
        steps = 1e-6 * np.eye(len(logs))
        jacobian = np.stack([(_residuals(logs + step, start, on) - best) / 1e-6 for step in steps], axis=1)
        normal = jacobian.T @ jacobian
        change = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -jacobian.T @ best)
        tried = _residuals(logs + change, start, on)
        if tried @ tried < best @ best:
            logs, best, damping = logs + change, tried, damping / 3.0
            if np.max(np.abs(change)) < 1e-9:
                break
        else:
            damping *= 5.0
    return {name: float(f"{value:.5g}") for name, value in zip(_GUESSES, np.exp(logs), strict=True)}


def left_out(on: Sequence[Die]) -> dict[str, float]:
    """Error of each die by constants fitted on the others."""
    found = {}
    for die in on:
        constants = fit([other for other in on if other is not die])
        found[die.name] = float(die_area(die.spec, constants).total_mm2) / die.area_mm2 - 1.0
    return found


def written(constants: Mapping[str, float], on: Sequence[Die], without: Mapping[str, float]) -> str:
    """silicon.toml."""
    head = [
        "# Constants of presilicon.economics.silicon, written by `python -m presilicon.economics.fit_silicon`.",
        "# Fitted on the dies of dies.csv: " + ", ".join(die.name for die in on) + ".",
        "# um2 and mm2 are at 7 nm; an uncore share is control, on-chip network and white space over matrix, vector and SRAM.",
        "[constants]",
    ]
    body = [f"{name} = {value:g}" for name, value in constants.items()]
    tail = ["", "# Modelled over published area, less one, by constants fitted on the other dies.", "[left_out]"]
    return "\n".join([*head, *body, *tail, *(f"{name} = {error:.4f}" for name, error in without.items())]) + "\n"


def main() -> int:
    """Write silicon.toml and print each die's error."""
    on = [die for die in dies() if die.fitted]
    constants = fit(on)
    path = Path(__file__).resolve().parent.parent / "data" / "technology" / "silicon.toml"
    without, judged = left_out(on), []
    path.write_text(written(constants, on, without), encoding="utf-8")
    for die in dies():
        off = float(die_area(die.spec, constants).total_mm2) / die.area_mm2 - 1.0
        other = f"{100 * without[die.name]:+7.1f} % left out" if die.fitted else "judged"
        judged += [] if die.fitted else [abs(off)]
        print(f"{die.name:14s} {die.area_mm2:7.1f} mm2 {100 * off:+7.1f} % {other}")
    print(f"median of the judged {100 * float(np.median(judged)):.1f} %")
    print(f"median of those left out {100 * float(np.median(np.abs(list(without.values())))):.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
