"""Intervals of estimates from the residuals of validation.

``python -m presilicon.validate intervals`` writes them into ``data/validation/intervals.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from presilicon.chip import load
from presilicon.errors import ChipError
from presilicon.estimate.constants import family
from presilicon.estimate.intervals import OTHER, UNKNOWN
from presilicon.files import write_whole
from presilicon.validate.bench import Library
from presilicon.validate.facts import Table
from presilicon.validate.refit import BENCHES, families_of
from presilicon.validate.report import predict
from presilicon.validate.score import Floats, Mask, Predictions
from presilicon.validate.spread import left_out

# Percentiles of measured over estimated; and the fewest rows they are taken of.
LOW, HIGH = 0.1, 0.9
LEAST_ROWS = 20


def names(found: Predictions) -> list[str]:
    """What each row is evidence for: gemm by format, attention by phase, MLPerf by scenario, the rest by table."""
    kind = found.table.kind
    if kind == "gemm":
        return [f"gemm {label}" for label in found.label]
    if kind == "attention":
        return [f"attention {label.split()[0]}" for label in found.label]
    if kind == "mlperf":
        return [f"mlperf {scenario}" for scenario in found.table["scenario"]]
    return ["energy" if kind == "power" else "serving tpot" if kind == "serving" else kind] * len(found.table)


def _family(chip: str) -> str:
    try:
        return load(chip).family
    except ChipError:
        return OTHER


def interval_of(ratios: Floats) -> dict[str, Any]:
    """The interval of measured over estimated, of shape (rows,): it always holds 1."""
    low, high = np.quantile(ratios, [LOW, HIGH])
    return {"low": round(min(1.0, float(low)), 3), "high": round(max(1.0, float(high)), 3), "rows": len(ratios)}


class _Ratios:
    """Ratios of measured over estimated, gathered by family and by what they are evidence for."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, str], list[Floats]] = {}

    def add(self, found: Predictions, mask: Mask, as_family: str = "", prefix: str = "") -> None:
        whats = np.array([prefix or name for name in names(found)], dtype=object)
        families = np.array([as_family or _family(str(chip)) for chip in found.chip], dtype=object)
        for key in sorted(set(zip(families[mask].tolist(), whats[mask].tolist(), strict=True))):
            rows = mask & (families == key[0]) & (whats == key[1])
            self.parts.setdefault(key, []).append(found.measured[rows] / found.predicted[rows])

    def table(self) -> dict[str, dict[str, Any]]:
        result: dict[str, dict[str, Any]] = {}
        for (name, what), parts in sorted(self.parts.items()):
            ratios = np.concatenate(parts)
            if len(ratios) >= LEAST_ROWS:
                result.setdefault(name, {})[what] = interval_of(ratios)
        return result


def _across(gathered: _Ratios, kernels: Mapping[str, Table]) -> None:
    """What was never validated: chips of one family with another's constants, and chips left out of their family's fit."""
    members = families_of(kernels)
    for name, chips in members.items():
        for strange in members:
            if strange == name:
                continue
            for kind, bench in BENCHES.items():
                if kind not in kernels:
                    continue
                own = kernels[kind].take(np.isin(kernels[kind]["chip"], chips))
                if len(own):
                    constants = {key: float(getattr(family(strange), key)) for key in bench.names}
                    found = bench.predict(own, Library(constants=constants))
                    gathered.add(found, found.scored, OTHER)
    for entries in left_out(kernels).values():
        for entry in entries:
            if entry.same_family:
                gathered.add(entry.found, entry.found.scored, OTHER)


def intervals(read: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """Intervals by family and by what was estimated, from all tables.

    Those of ``other`` are never narrower than any family's own; where one family alone was measured, nothing is known of
    others, and they are not narrower than ``UNKNOWN`` either.
    """
    gathered = _Ratios()
    kernels = {table.kind: table for table in read if table.kind in BENCHES}
    for table in read:
        found = predict(table)
        gathered.add(found, found.scored)
        if table.kind not in BENCHES:
            gathered.add(found, found.scored, OTHER)
        if table.kind == "serving":
            from presilicon.validate import serving

            ttft = serving.predict_ttft(table)
            gathered.add(ttft, ttft.scored, prefix="serving ttft")
            gathered.add(ttft, ttft.scored, OTHER, prefix="serving ttft")
    _across(gathered, kernels)
    result = gathered.table()
    other = result.setdefault(OTHER, {})
    for name, entries in result.items():
        for what, entry in entries.items():
            if name != OTHER and what in other:
                other[what]["low"] = min(other[what]["low"], entry["low"])
                other[what]["high"] = max(other[what]["high"], entry["high"])
    for what, entry in other.items():
        if sum(what in entries for name, entries in result.items() if name != OTHER) < 2:
            entry["low"], entry["high"] = min(entry["low"], UNKNOWN.low), max(entry["high"], UNKNOWN.high)
    return result


def write(read: Sequence[Table]) -> None:
    """Write the intervals that tables give into the package's data."""
    head = (
        "# Measured over estimated: 10th and 90th percentile of rows that no fit saw. Written by `python -m presilicon.validate"
    )
    head += " intervals`.\n"
    path = resources.files("presilicon") / "data" / "validation" / "intervals.toml"
    write_whole(Path(str(path)), head + tomli_w.dumps(intervals(read)))
