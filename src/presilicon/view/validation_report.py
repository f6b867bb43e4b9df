"""The report of a validation: predicted beside published, row by row, from the CSV file that `validate --rows` writes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from presilicon.errors import InputError
from presilicon.units import percent
from presilicon.view.document import Document, Section, rows
from presilicon.view.scatter import Comparison, published

UNITS = {"gemm": "s", "attention": "s", "collective": "s", "serving": "s", "power": "J"}
WHAT = {
    "gemm": "linear operators, latency", "attention": "attention, latency", "collective": "collectives, latency",
    "serving": "serving, time per output token", "power": "linear operators, energy",
    "mlperf": "MLPerf Inference, closed division",
    "points": "single points from papers and vendors",
}  # fmt: skip
COLUMNS = ("table", "chip", "measured", "predicted", "held_back", "skipped")
DETAILS = ("benchmark", "scenario", "model", "dtype", "m", "n", "k", "name")


def read_rows(path: Path, *, made_by: str) -> Document:
    """The report of a file of rows; InputError where it is none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from None
    if not lines or not set(COLUMNS) <= set(lines[0]):
        raise InputError("it holds no rows of a validation", where=str(path), hint="the file of `presilicon validate --rows`")
    try:
        tables = _tables(lines)
    except ValueError as error:
        raise InputError(f"a figure cannot be read: {error}", where=str(path)) from None
    pictures = [
        published(WHAT.get(name, name), found, UNITS.get(name, ""), source=f"{path.name}, table {name}", width=820.0)
        for name, found in tables.items()
    ]
    scored = [(name, [abs(one.predicted / one.published - 1.0) for one in found], found) for name, found in tables.items()]
    every = [error for _, errors, _ in scored for error in errors]
    best = min(scored, key=lambda one: median(one[1]))
    worst = max(scored, key=lambda one: median(one[1]))
    return Document(
        title="Predicted against published",
        subtitle=f"presilicon validate: {path.name}",
        summary=(
            f"{len(every):,} rows of {len(tables)} tables, {len({one.chip for _, _, f in scored for one in f})} chips.",
            f"Half of them are off by less than {percent(median(every))}, "
            f"{percent(sum(e <= 0.25 for e in every) / len(every))} by less than 25 %.",
            f"Closest: {WHAT.get(best[0], best[0])}, median error {percent(median(best[1]))}.",
            f"Farthest: {WHAT.get(worst[0], worst[0])}, median error {percent(median(worst[1]))}.",
            f"{sum(line['skipped'] != '' for line in lines):,} rows were not predicted; the file says why for each.",
        ),
        figures=(),
        sections=[
            Section("Table by table", "", [rows(("table", "rows", "chips", "median error"), [_line(*one) for one in scored])]),
            Section("Every row", "", pictures),
        ],
        command=f"presilicon validate --rows {path.name} && presilicon report {path.name}",
        made_by=made_by,
    )


def _tables(lines: Sequence[Mapping[str, str]]) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = {}
    for line in lines:
        if line["skipped"] or not line["predicted"]:
            continue
        told = " ".join(line[name] for name in DETAILS if line.get(name))
        one = Comparison(line["chip"], float(line["measured"]), float(line["predicted"]), told)
        found.setdefault(line["table"], []).append(one)
    if not found:
        raise ValueError("no row has a prediction")
    return found


def _line(name: str, errors: Sequence[float], found: Sequence[Comparison]) -> tuple[str, ...]:
    return WHAT.get(name, name), f"{len(found):,}", str(len({one.chip for one in found})), percent(median(errors))
