"""The whole validation: every table predicted and scored, as JSON, as rows, and as the page ``docs/validation.md``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from presilicon.chip import load
from presilicon.errors import ChipError
from presilicon.estimate.constants import family
from presilicon.validate import power
from presilicon.validate.bench import LIBRARY
from presilicon.validate.facts import COLUMNS, Table, folder, tables
from presilicon.validate.refit import BENCHES, fitted
from presilicon.validate.score import Predictions, TableReport, score, table_report
from presilicon.validate.spread import LeftOut, left_out


@dataclass(frozen=True, slots=True, eq=False)
class ValidationReport:
    """All tables' reports, and the predictions they rest on, in the order of the tables."""

    tables: tuple[TableReport, ...]
    found: tuple[Predictions, ...]

    def to_json(self) -> dict[str, Any]:
        """The object of ``validate --json`` (without its schema)."""
        return {"tables": [table.to_json() for table in self.tables]}

    def rows_csv(self) -> str:
        """Every row with its measured and predicted value, as CSV: what tells rows apart, then the figures."""
        figures = ("chip", "latency_s", "value", "ttft_s", "tpot_s")
        columns = list(dict.fromkeys(name for kind in COLUMNS for name in COLUMNS[kind] if name not in figures))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        head = ["table", "line", "chip", "format", *columns, "measured", "predicted", "ape", "held_back", "skipped"]
        writer.writerow(head)
        for found in self.found:
            own = [found.table.columns.get(name) for name in columns]
            for i in range(len(found.table)):
                cells = ["" if values is None else _cell(values[i]) for values in own]
                used = bool(found.used[i])
                shown = [f"{found.predicted[i]:.6g}", f"{found.ape[i]:.4f}"] if used else ["", ""]
                start = [found.table.kind, int(found.table.lines[i]), found.chip[i], found.label[i]]
                end = [f"{found.measured[i]:.6g}", *shown, int(found.held[i]), found.reason[i]]
                writer.writerow([*start, *cells, *end])
        return out.getvalue()


def _cell(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def predict(table: Table) -> Predictions:
    """The predictions of a table of any kind; rows of chips that no fit has seen count as held back."""
    if table.kind in BENCHES:
        found = BENCHES[table.kind].predict(table, LIBRARY)
        seen = {chip for tables in fitted().values() for chip in tables.get(table.kind, {}).get("chips", ())}
        return replace(found, held=found.held | ~np.isin(found.chip.astype(str), sorted(seen)))
    if table.kind == "mlperf":
        from presilicon.validate import mlperf

        return mlperf.predict(table)
    from presilicon.validate import fit_mlperf, serving

    found = serving.predict(table)
    strange = np.array([_family(str(chip)) not in fit_mlperf.SERVED for chip in found.chip])
    return replace(found, held=found.held | strange)


def validate(
    paths: Sequence[str | Path] = (), facts: str | Path | None = None, *, leave_one_out: bool = True
) -> ValidationReport:
    """Predict and score the tables of the files given, or with none those of the facts folder, MLPerf's, and single points.

    ``leave_one_out`` refits constants once per chip (tens of seconds for the whole folder). FactsError names the first
    broken row.
    """
    read = tables(paths, None if paths else folder(facts))
    found = tuple(predict(table) for table in read)
    kernels = {table.kind: table for table in read if table.kind in BENCHES}
    left = left_out(kernels) if leave_one_out and kernels else {}
    reports = tuple(_report(one, left.get(one.table.kind, []), leave_one_out) for one in found)
    if paths:
        return ValidationReport(reports, found)
    from presilicon.validate import points

    single = points.points()
    rest = points.predict(single)
    report = table_report(rest, extra={"points": [point.to_json() for point in single]})
    return ValidationReport((*reports, replace(report, spearman=None)), (*found, rest))


def _report(found: Predictions, left: list[LeftOut], leave_one_out: bool) -> TableReport:
    entries = [entry for one in left for entry in one.to_json()]
    report = table_report(found, leave_one_out=entries, constants=constants_of_families(found), extra=_extra(found))
    if found.table.kind != "mlperf":
        return report
    from presilicon.validate import mlperf_left_out, mlperf_report

    without = mlperf_left_out.entries(found) if leave_one_out else []
    return replace(report, spearman=mlperf_report.ranks(found), leave_one_out=without)


def _extra(found: Predictions) -> dict[str, Any]:
    if found.table.kind == "power":
        return {"large_matmuls": power.large_j_per_flop(found)}
    if found.table.kind == "mlperf":
        from presilicon.validate import mlperf_report

        return {"parts": mlperf_report.parts(found)}
    if found.table.kind == "serving":
        from presilicon.validate import serving

        ttft = serving.predict_ttft(found.table)
        return {"ttft_median_ape": score(ttft.measured[ttft.scored], ttft.predicted[ttft.scored]).median_ape}
    return {}


_UNITS = {
    "_bytes_per_cycle": "B/cycle",
    "_elements_per_cycle": "elements/cycle",
    "_j_per_byte": "J/B",
    "_j_per_bit": "J/bit",
    "_share": "1",
    "_passes": "1",
    "_s": "s",
}


def constants_of_families(found: Predictions) -> dict[str, Any]:
    """By family of the table's chips: each constant fitted on this table, with unit, and the rows and chips it rests on."""
    result: dict[str, Any] = {}
    for name in sorted({_family(str(chip)) for chip in set(found.chip.tolist())} & set(fitted())):
        record = fitted()[name].get(found.table.kind)
        if record is None:
            continue
        origin = f"{record['rows']} rows of " + ", ".join(record["chips"])
        result[name] = {
            key: {
                "value": float(getattr(family(name), key)),
                "unit": next((unit for end, unit in _UNITS.items() if key.endswith(end)), "1"),
                "fitted_on": origin,
            }
            for key in record["constants"]
        }
    return result


def _family(chip: str) -> str:
    try:
        return load(chip).family
    except ChipError:
        return ""
