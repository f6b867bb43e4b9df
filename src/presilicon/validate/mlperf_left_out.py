"""Chips left out of their family's MLPerf fit: constants that never saw a chip, and how well they predict it.

The fits take minutes a chip, so ``python -m presilicon.validate.fit_mlperf --leave-one-out`` writes what they give into
``data/validation/mlperf_left_out.toml``, and ``validate`` predicts with that.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from presilicon.estimate.constants import family
from presilicon.files import write_whole
from presilicon.validate import fit_mlperf, mlperf
from presilicon.validate.facts import Table
from presilicon.validate.score import Floats, Predictions, score

_HEAD = """# Constants of each chip's family as fitted on the family's other chips: written by
# `python -m presilicon.validate.fit_mlperf --leave-one-out [FAMILY ...]`. A constant that only the chip left out could tell has
# the value where its fit begins.
"""


def _path() -> Any:
    return resources.files("presilicon") / "data" / "validation" / "mlperf_left_out.toml"


def left_out() -> dict[str, dict[str, Any]]:
    """By family and chip: the chips it was fitted on (``fitted_on``) and the ``constants``; empty where none was written."""
    path = _path()
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def members(table: Table) -> dict[str, tuple[str, ...]]:
    """Families with several chips that have rows to fit, and those chips."""
    first = mlperf.rows_reason(table)
    found = {}
    for name in sorted({fit_mlperf.family_of(str(chip)) for chip in set(first.chip[first.reason == ""].tolist())}):
        chips = set(mlperf.rows_reason(fit_mlperf.rows_of(table, name, held=True)).chip.tolist()) if name else ()
        if len(chips) > 1:
            found[name] = tuple(sorted(chips))
    return found


def write(table: Table, only: Iterable[str] = ()) -> None:
    """Fit every family (or those named) without each of its chips in turn, and write the constants beside the others."""
    wanted, result = set(only), left_out()
    for name, chips in members(table).items():
        if wanted and name not in wanted:
            continue
        fits: dict[str, Any] = {}
        for chip in chips:
            fit = fit_mlperf.fit_family(table, name, without=chip)
            if fit is None:
                continue
            constants = {key: float(f"{value:.4g}") for key, value in fit.constants.items()}
            fits[chip] = {"fitted_on": [c for c in chips if c != chip], "constants": constants}
            print(f"{name} without {chip}: loss {fit.loss:.3f}", file=sys.stderr, flush=True)
        result[name] = _filled(name, fits)
        write_whole(Path(str(_path())), _HEAD + tomli_w.dumps(dict(sorted(result.items()))))


def _filled(name: str, fits: Mapping[str, Any]) -> dict[str, Any]:
    """Every fit with all constants that any of them has: nothing that the chip itself taught is left to it."""
    nvidia, ahead = name.startswith("nvidia"), name in fit_mlperf.SPREADING
    begin = fit_mlperf.BEGINNINGS | (fit_mlperf.NVIDIA if nvidia else fit_mlperf.AHEAD if ahead else {})
    every = dict.fromkeys(key for fit in fits.values() for key in fit["constants"])
    start = {key: begin.get(key) or float(getattr(family("generic"), key)) for key in every}
    return {chip: {**fit, "constants": start | fit["constants"]} for chip, fit in fits.items()}


def entries(found: Predictions) -> list[dict[str, Any]]:
    """Each chip of the table predicted by constants that never saw it: errors, and over those of the usual constants.

    Both are over the rows that are held back from the usual fit too; the last entry is of all chips together.
    """
    result: list[dict[str, Any]] = []
    together: tuple[list[Floats], ...] = ([], [], [])
    for name, chips in left_out().items():
        for chip, entry in chips.items():
            own = found.scored & (found.chip == chip)
            if not own.any():
                continue
            again = mlperf.predict(found.table.take(own), {name: entry["constants"]})
            both = again.used
            sides = found.measured[own][both], found.predicted[own][both], again.predicted[both]
            result.append(_entry(chip, name, entry["fitted_on"], *sides))
            for side, values in zip(together, sides, strict=True):
                side.append(values)
    if result:
        result.append(_entry("all", "", (), *(np.concatenate(side) for side in together)))
    return result


def _entry(chip: str, name: str, fitted_on: Sequence[str], measured: Floats, usual: Floats, strange: Floats) -> dict[str, Any]:
    figures, normal = score(measured, strange), score(measured, usual).median_ape
    ratio = figures.median_ape / normal if normal and figures.median_ape is not None else None
    return {
        "chip": chip,
        "format": "all",
        "fitted_on": list(fitted_on),
        "family": name,
        **figures.to_json(),
        "usual_median_ape": normal,
        "over_usual": ratio,
    }
