"""The page ``docs/validation.md``: what was predicted, how well, on which constants, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from presilicon.units import percent
from presilicon.validate.report import ValidationReport
from presilicon.validate.score import Predictions, TableReport, score

_HEAD = """# Validation

Predicted against published and measured figures. Regenerate this page with

    presilicon validate --markdown docs/validation.md

Every error is the absolute error over the measured value (APE); "bias" is the median with its sign. Constants were fitted on
half of the shapes (groups of n and k, of heads and window, every other message size); all figures are of the other half, that
no fit saw, unless they say otherwise. The plain roofline is the longer of work at 75 % of the peak rate and bytes at 80 % of
the bandwidth, plus 3 us: nothing in it is fitted. Left out: the same rows with constants fitted on the other chips of the
family alone; a chip alone in its family is predicted with another family's constants, which the table names.

The values of the constants are blind to the held-back rows; the terms of the formulas and a few set values are not: they were
chosen while looking at all rows ([what was looked at](decisions/0008-what-was-looked-at.md)).
"""

_WHAT = {
    "gemm": "Linear operators: the fastest latency over the versions of the frameworks that measured a shape. Timed in a "
    "burst, they draw more than the power limit allows for long: a limit of 1.5 times stands in its place.",
    "power": "Energy of matmul kernels: their measured latency is given, their power predicted. In place of a roofline: "
    "75 % of the TDP, whatever runs.",
    "attention": "Attention kernels, prefill and decode.",
    "collective": "Collectives among 2, 4 and 8 chips. The roofline is 80 % of the links, plus 3 us.",
    "serving": "Time per output token (TPOT) of served models, and time to first token below: each row is a closed loop of its "
    "concurrency through the replay's scheduler (replay.md). Two constants belong to this table alone, chosen on the rows that "
    "are not held back: how often each client asks, and the time before a prompt reaches the scheduler.",
    "mlperf": "MLPerf Inference, closed division, v0.5 to v6.1: the scenario run in virtual time over the estimate. The "
    "Server and Interactive scenarios were in no fit of a family. Those of language models go through the replay's scheduler "
    "(but for GPT-J's beam search); one constant was fitted on their rows that are not held back: the share of the rate "
    "that submissions reach. Families that had fewer than five rows to learn from (ATOM, Inferentia, "
    "Hailo, TPU, MI325X) were fitted on their held-back rows too: the errors of those are of a fit. "
    "Left-out constants: `python -m presilicon.validate.fit_mlperf --leave-one-out`.",
    "points": "Single published measurements, in no fit; two formulas were changed after seeing RNGD's, and what is "
    "declared of the layer was chosen after seeing its figures (decisions/0008-what-was-looked-at.md). "
    "A layer is predicted as its authors ran it (eager PyTorch, no "
    "fused attention, each call at the cost they published; a sum of operators timed one by one), and beside it as a serving "
    "stack of today would run it; it has a bar. A service is predicted by the estimate alone, within the estimate's interval.",
}


# Tables whose chips have many labels with few rows each: by chip, and by label, instead of both together.
_MANY = ("serving", "mlperf", "points")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)]) + "\n"


def _summary(tables: Sequence[TableReport]) -> str:
    head = ("table", "rows", "skipped", "scored", "median APE", "90 % of rows under", "bias", "roofline's median APE")
    rows = [
        (
            f"[{t.table}](#{t.table})",
            t.rows,
            sum(s["rows"] for s in t.skipped),
            t.scored,
            percent(t.median_ape),
            percent(t.p90_ape),
            percent(t.bias),
            percent(t.roofline["median_ape"]) if t.roofline else "-",
        )
        for t in tables
    ]
    return _table(head, rows)


def _by_chip(report: TableReport) -> str:
    plain = {(e["chip"], e["format"]): e["median_ape"] for e in report.roofline["by_chip"]} if report.roofline else {}
    head = ("chip", "what", "rows", "median APE", "90 % under", "bias", "on fitted rows", "roofline")
    rows = [
        (
            e["chip"],
            e["format"],
            e["held_back_rows"] or e["rows"],
            percent(e["median_ape"]),
            percent(e["p90_ape"]),
            percent(e["bias"]),
            percent(e["fitted_median_ape"]),
            percent(plain.get((e["chip"], e["format"]))),
        )
        for e in report.by_chip
        if report.table not in _MANY or e["format"] == "all" or e["rows"] == _rows_of(report, e["chip"])
    ]
    return _table(head, rows)


def _rows_of(report: TableReport, chip: str) -> int:
    """Rows of a chip in all: those of its largest entry."""
    return max(int(e["rows"]) for e in report.by_chip if e["chip"] == chip)


def _left_out(report: TableReport) -> str:
    more = any("over_usual" in e for e in report.leave_one_out)
    rows = []
    for e in report.leave_one_out:
        origin = ", ".join(e["fitted_on"]) or (f"the family {e['family']}" if e["family"] else "the others of each family")
        row = [e["chip"], e["format"], origin, e["rows"], percent(e["median_ape"])]
        if more:
            row += [percent(e["usual_median_ape"]), "-" if e["over_usual"] is None else f"{e['over_usual']:.2f}"]
        rows.append(row)
    head = ["chip", "what", "constants from", "rows", "median APE", *(["with its own", "ratio"] if more else [])]
    return "Left out:\n\n" + _table(head, rows)


def _constants(report: TableReport) -> str:
    rows = [
        (name, key, f"{entry['value']:.3g}", entry["unit"], entry["fitted_on"])
        for name, values in report.constants.items()
        for key, entry in values.items()
    ]
    return "Constants fitted on this table:\n\n" + _table(("family", "constant", "value", "unit", "fitted on"), rows)


def _extra(report: TableReport) -> str:
    text = ""
    if report.extra.get("large_matmuls"):
        head = ("chip", "format", "rows", "measured pJ/FLOP", "predicted pJ/FLOP")
        sides = ("measured_j_per_flop", "predicted_j_per_flop")
        rows = [
            (e["chip"], e["format"], e["rows"], *(f"{e[side] * 1e12:.3f}" for side in sides))
            for e in report.extra["large_matmuls"]
        ]
        text += "Matmuls past 2e12 FLOP:\n\n" + _table(head, rows) + "\n"
    if "ttft_median_ape" in report.extra:
        text += f"Time to first token: median APE {percent(report.extra['ttft_median_ape'])}.\n"
    if "parts" in report.extra:
        head = ("rows", "number", "median APE", "90 % under", "bias")
        names = {"all_rows": "all predicted", "held_back": "held back", "not_held_back": "not held back",
                 "server": "Server, Interactive", "language_server": "of language models",
                 "language_server_held_back": "of language models, held back"}  # fmt: skip
        figures = [
            (names[key], e["rows"], percent(e["median_ape"]), percent(e["p90_ape"]), percent(e["bias"]))
            for key, e in report.extra["parts"].items()
        ]
        text += _table(head, figures) + "\n"
    if isinstance(report.spearman, list) and report.spearman:
        text += _ranks(report.spearman)
    elif isinstance(report.spearman, float):
        text += f"Spearman's rank correlation, all scored rows: {report.spearman:.3f}.\n"
    return text


def _ranks(entries: Sequence[Mapping[str, Any]]) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    ranked = [(e["group"], e["chips"], shown(e["spearman"]), shown(e.get("without_contradictory"))) for e in entries]
    head = ("benchmark, scenario, unit", "chips", "Spearman", "without contradictory rows")
    text = "Ranks, on each chip's best row:\n\n" + _table(head, ranked)
    wrong = [row for e in entries for row in e.get("contradictory", ())]
    if wrong:
        text += "\nContradictory: a single sample takes longer than eight do on the same system: " + "; ".join(wrong) + ".\n"
    return text


def _points(entries: Sequence[Mapping[str, Any]]) -> str:
    def shown(value: float | None, unit: str) -> str:
        if value is None:
            return "-"
        return f"{value * 1e3:.4g} ms" if unit == "s" else f"{value:,.0f} {unit}"

    rows = []
    for e in entries:
        figures = [shown(e[key], e["unit"]) for key in ("measured", "predicted", "low", "high", "modern")]
        inside = f"{'yes' if e['inside'] else 'no'}" + (f" ({percent(e['bar'], 0)})" if e["bar"] else "")
        error = ("+" if e["error"] >= 0 else "") + percent(e["error"])
        rows.append((e["name"], e["how"], *figures[:2], error, f"{figures[2]} to {figures[3]}", inside, figures[4]))
    head = ("point", "how", "measured", "predicted", "error", "expected", "inside (bar)", "by a stack of today")
    return _table(head, rows) + "\n" + "\n".join(f"- {e['name']}: {e['source']}" for e in entries) + "\n"


def _by_label(found: Predictions) -> str:
    rows = []
    for label in sorted(set(found.label[found.scored].tolist())):
        own = found.scored & (found.label == label)
        figures = score(found.measured[own], found.predicted[own])
        rows.append((label, figures.rows, percent(figures.median_ape), percent(figures.p90_ape), percent(figures.bias)))
    return _table(("what", "rows", "median APE", "90 % under", "bias"), rows)


def _section(report: TableReport, found: Predictions) -> str:
    parts = [f"## {report.table}\n", _WHAT[report.table] + f" File: `{Path(report.path).name}`, {report.rows} rows.\n"]
    parts.append(_points(report.extra["points"]) if "points" in report.extra else _by_chip(report))
    if report.table in ("serving", "mlperf"):
        parts.append(_by_label(found))
    if report.skipped:
        parts.append(_table(("skipped because", "rows"), [(s["reason"], s["rows"]) for s in report.skipped]))
    if report.leave_one_out:
        parts.append(_left_out(report))
    if report.constants:
        parts.append(_constants(report))
    extra = _extra(report)
    return "\n".join([*parts, extra] if extra else parts)


def markdown(report: ValidationReport) -> str:
    """The page's text: the same for the same tables and constants."""
    sections = [_section(*each) for each in zip(report.tables, report.found, strict=True)]
    return "\n".join([_HEAD, _summary(report.tables), *sections])
