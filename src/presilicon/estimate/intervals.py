"""How far measurements lie from estimates: the factors of an interval, from the residuals of validation."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

OTHER = "other"


@dataclass(frozen=True, slots=True)
class Interval:
    """Measured over estimated: 10th and 90th percentile of rows that no fit saw, widened to hold 1; on how many rows."""

    low: float
    high: float
    rows: int

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= 1.0 <= self.high < float("inf"):
            raise ValueError(f"an interval from {self.low:g} to {self.high:g} does not hold the estimate")


# Where nothing was validated at all, not even on another family.
UNKNOWN = Interval(0.4, 2.5, 0)


@cache
def intervals() -> Mapping[str, Mapping[str, Interval]]:
    """Intervals by family and by what was estimated; ``other`` is for families without validation."""
    text = (resources.files("presilicon") / "data" / "validation" / "intervals.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return {name: {what: Interval(**entry) for what, entry in entries.items()} for name, entries in table.items()}


def evidence(family: str, what: str) -> Interval:
    """The interval of a family's estimates of ``what`` ("gemm bf16", "attention decode", "serving tpot", "mlperf Offline").

    A family never validated on it gets what was seen where constants of one family were used for another; a format never
    measured gets the widest of its kind.
    """
    known = intervals()
    for name in (family, OTHER):
        entries = known.get(name, {})
        if what in entries:
            return entries[what]
        near = [entry for key, entry in entries.items() if key.split()[0] == what.split()[0]]
        if near and name == OTHER:
            return Interval(min(e.low for e in near), max(e.high for e in near), min(e.rows for e in near))
    return UNKNOWN


def interval(family: str, what: str) -> tuple[float, float]:
    """Factors (low, high) of an estimate: low <= 1 <= high."""
    found = evidence(family, what)
    return found.low, found.high
