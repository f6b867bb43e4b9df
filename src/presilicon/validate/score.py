"""How far predictions are from measurements: errors, ranks, and which rows were kept out of every fit."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError
from presilicon.validate.facts import Table

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def held_back(keys: Iterable[str]) -> Mask:
    """Which rows no fit may see: about half of all keys, by a hash that every machine computes alike. Shape (rows,)."""
    known: dict[str, bool] = {}
    return np.array([known.setdefault(key, zlib.crc32(key.encode()) % 2 == 1) for key in keys], dtype=bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Predicted beside measured, one entry per row of a table; arrays of shape (rows,).

    A row with a ``reason`` was skipped, its ``predicted`` counts for nothing. ``label`` is the number format, phase or
    collective that rows are grouped by, beside the chip. ``held`` rows were in no fit. ``roofline`` is the plain one.
    """

    table: Table
    chip: NDArray[Any]
    label: NDArray[Any]
    measured: Floats
    predicted: Floats
    reason: NDArray[Any]
    held: Mask
    roofline: Floats | None = None

    def __post_init__(self) -> None:
        rows = len(self.table)
        for name in ("chip", "label", "measured", "predicted", "reason", "held"):
            if getattr(self, name).shape != (rows,):
                raise InputError(f"{name} has shape {getattr(self, name).shape}, the table {rows} rows", where=self.table.path)
        used = self.predicted[self.used]
        if not (np.all(np.isfinite(used)) and np.all(used > 0)):
            raise InputError("a prediction is not a finite number above zero", where=self.table.path)

    @property
    def used(self) -> Mask:
        """Rows that were predicted."""
        return np.asarray(self.reason == "", dtype=bool)

    @property
    def scored(self) -> Mask:
        """Rows that figures are taken over: those held back; all that were predicted, where none was held back."""
        held = self.used & self.held
        return held if held.any() else self.used

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """Reasons of rows without a prediction, most frequent first."""
        reasons, rows = np.unique(self.reason[~self.used], return_counts=True)
        order = np.argsort(-rows, kind="stable")
        return [{"reason": str(reasons[i]), "rows": int(rows[i])} for i in order]

    @property
    def ape(self) -> Floats:
        """Absolute error over the measured value, as a fraction, of every row."""
        return np.abs(self.predicted - self.measured) / self.measured

    def groups(self, mask: Mask) -> list[tuple[str, str, Mask]]:
        """Chip, label and rows of every group among the rows of a mask, sorted."""
        names = sorted(set(zip(self.chip[mask].tolist(), self.label[mask].tolist(), strict=True)))
        return [(chip, label, mask & (self.chip == chip) & (self.label == label)) for chip, label in names]

    def groups_and_chips(self, mask: Mask) -> list[tuple[str, str, Mask]]:
        """The groups, and before those of a chip with several all of them together, labelled "all"."""
        result: list[tuple[str, str, Mask]] = []
        parts = self.groups(mask)
        for chip in sorted({part[0] for part in parts}):
            own = [part for part in parts if part[0] == chip]
            if len(own) > 1:
                result.append((chip, "all", mask & (self.chip == chip)))
            result += own
        return result


@dataclass(frozen=True, slots=True)
class Score:
    """Errors over some rows, as fractions: absolute (median, 90th percentile) and signed (median)."""

    rows: int
    median_ape: float | None = None
    p90_ape: float | None = None
    bias: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {"rows": self.rows, "median_ape": self.median_ape, "p90_ape": self.p90_ape, "bias": self.bias}


def score(measured: Floats, predicted: Floats) -> Score:
    """The errors of predictions, both of shape (rows,); blank where there are no rows."""
    if not len(measured):
        return Score(0)
    error = predicted / measured - 1.0
    size = np.abs(error)
    return Score(len(measured), float(np.median(size)), float(np.quantile(size, 0.9)), float(np.median(error)))


def spearman(measured: Floats, predicted: Floats) -> float | None:
    """Spearman's rank correlation; None for fewer than three rows or where all are equal."""
    if len(measured) < 3 or np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return None
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(measured), rankdata(predicted))[0, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReport:
    """What one table says about the estimate; its fields are the keys of ``validate --json``.

    ``median_ape`` and ``p90_ape`` are over the rows that no fit saw. ``extra`` holds what only this table has.
    """

    table: str
    path: str
    rows: int
    skipped: list[dict[str, Any]]
    scored: int
    scored_on: str
    median_ape: float | None
    p90_ape: float | None
    bias: float | None
    spearman: Any
    by_chip: list[dict[str, Any]]
    roofline: dict[str, Any] | None = None
    leave_one_out: list[dict[str, Any]] = field(default_factory=list)
    constants: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that ``validate --json`` prints for this table."""
        names = [name for name in self.__dataclass_fields__ if name != "extra"]
        return {name: getattr(self, name) for name in names} | dict(self.extra)


def table_report(
    found: Predictions,
    *,
    leave_one_out: list[dict[str, Any]] | None = None,
    constants: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> TableReport:
    """The report of one table from its predictions."""
    mask = found.scored
    whole = score(found.measured[mask], found.predicted[mask])
    return TableReport(
        table=found.table.kind,
        path=found.table.path,
        rows=len(found.table),
        skipped=found.skipped,
        scored=int(mask.sum()),
        scored_on="held-back rows" if (found.used & found.held).any() else "all rows",
        median_ape=whole.median_ape,
        p90_ape=whole.p90_ape,
        bias=whole.bias,
        spearman=spearman(found.measured[mask], found.predicted[mask]),
        by_chip=[_entry(found, *part) for part in found.groups_and_chips(found.used)],
        roofline=_roofline(found, mask),
        leave_one_out=leave_one_out or [],
        constants=constants or {},
        extra=extra or {},
    )


def _entry(found: Predictions, chip: str, label: str, rows: Mask) -> dict[str, Any]:
    """Errors of one chip and label ("all": every label together)."""
    held, fitted = rows & found.held, rows & ~found.held
    shown = held if held.any() else rows
    figures = score(found.measured[shown], found.predicted[shown])
    return {
        "chip": chip,
        "format": label,
        "rows": int(rows.sum()),
        "held_back_rows": int(held.sum()),
        "median_ape": figures.median_ape,
        "p90_ape": figures.p90_ape,
        "bias": figures.bias,
        "held_back_median_ape": score(found.measured[held], found.predicted[held]).median_ape,
        "fitted_median_ape": score(found.measured[fitted], found.predicted[fitted]).median_ape,
        "spearman": spearman(found.measured[shown], found.predicted[shown]),
    }


def _roofline(found: Predictions, mask: Mask) -> dict[str, Any] | None:
    plain = found.roofline
    if plain is None:
        return None
    whole = score(found.measured[mask], plain[mask])
    parts = [
        {"chip": chip, "format": label, **score(found.measured[rows], plain[rows]).to_json()}
        for chip, label, rows in found.groups_and_chips(mask)
    ]
    return {"median_ape": whole.median_ape, "p90_ape": whole.p90_ape, "by_chip": parts}
