"""``presilicon validate``: predictions beside what was published and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from presilicon.cli.options import as_json
from presilicon.cli.output import print_json, print_table, progress, say


@click.command(name="validate", short_help="Predictions beside what was published and measured.")
@click.argument("tables", nargs=-1, type=click.Path(), metavar="[FACTS.csv ...]")
@click.option("--facts", type=click.Path(), metavar="DIR", help="Folder of the measurements; else PRESILICON_FACTS names it.")
@click.option("--rows", type=click.Path(), metavar="OUT.csv", help="Write every row with its prediction.")
@click.option("--markdown", type=click.Path(), metavar="OUT.md", help="Write the page docs/validation.md.")
@click.option("--claims", is_flag=True, help="Only the three published claims about ATOM, Warboy and X220.")
@click.option("--quick", is_flag=True, help="Without the fits that leave one chip out.")
@as_json
def validate(
    tables: tuple[str, ...],
    facts: str | None,
    rows: str | None,
    markdown: str | None,
    claims: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Predict every row of tables of published figures, and show how far off the predictions are.

    \b
    presilicon validate --quick                      all tables of the facts folder, and MLPerf's
    presilicon validate my-gemm.csv --rows out.csv   one table; every row with its prediction
    presilicon validate --claims                     three published claims, checked
    presilicon validate --markdown docs/validation.md

    A table is a CSV file known by its header: gemm, power, attention, collective, serving or mlperf. Errors are medians of
    the absolute error over the measured value, on rows that no fit saw.
    """
    if claims:
        if tables or rows or quick or facts:
            raise click.UsageError("--claims goes with --json and --markdown only")
        _claims(as_json, markdown)
        return
    if tables and facts:
        raise click.UsageError("either tables or --facts")
    from presilicon import validate as validation
    from presilicon.files import write_whole

    progress("predicting ..." if quick or tables else "predicting, and fitting again without each chip: about a minute ...")
    report = validation.validate(tables, facts, leave_one_out=not quick)
    if rows:
        write_whole(rows, report.rows_csv())
    if markdown:
        write_whole(markdown, validation.markdown(report))
    if as_json:
        print_json("validate", report.to_json())
    else:
        _print(report.to_json()["tables"])


def _print(tables: Sequence[Mapping[str, Any]]) -> None:
    from presilicon.units import percent

    def plain(entry: Mapping[str, Any] | None) -> str:
        return percent(entry["median_ape"]) if entry else "-"

    rows = [
        (
            str(t["table"]),
            str(t["rows"]),
            str(sum(s["rows"] for s in t["skipped"])),
            str(t["scored"]),
            percent(t["median_ape"]),
            percent(t["p90_ape"]),
            percent(t["bias"]),
            plain(t["roofline"]),
        )
        for t in tables
    ]
    columns = ("table", "rows", "skipped", "scored", "error", "90 % under", "bias", "roofline")
    print_table(columns, rows, right=columns[1:])
    say()
    by_chip = [
        (
            t["table"],
            e["chip"],
            e["format"],
            str(e["rows"]),
            percent(e["median_ape"]),
            percent(e["p90_ape"]),
            percent(e["bias"]),
        )
        for t in tables
        for e in t["by_chip"]
    ]
    print_table(
        ("table", "chip", "what", "rows", "error", "90 % under", "bias"),
        by_chip,
        right=("rows", "error", "90 % under", "bias"),
        fold="what",
    )
    for t in tables:
        if "points" in t:
            say()
            _points(t["points"])
    for t in tables:
        for s in t["skipped"]:
            say(f"{t['table']}: {s['rows']} rows skipped: {s['reason']}")


def _points(entries: Sequence[Mapping[str, Any]]) -> None:
    from presilicon.units import percent, si

    def shown(value: float, unit: str) -> str:
        return si(value, unit) if unit == "s" else f"{value:.0f} {unit}"

    rows = []
    for e in entries:
        values = (shown(e["measured"], e["unit"]), shown(e["predicted"], e["unit"]))
        rows.append((str(e["name"]), *values, percent(e["error"]), "inside" if e["inside"] else "outside"))
    columns = ("point", "measured", "predicted", "error", "interval or bar")
    print_table(columns, rows, right=columns[1:4], fold="point")


def _claims(as_json: bool, markdown: str | None) -> None:
    from presilicon.files import write_whole
    from presilicon.validate.claims import claims, page

    found = claims()
    if markdown:
        write_whole(markdown, page(found))
    if as_json:
        print_json("validate", {"claims": [claim.to_json() for claim in found]})
        return
    columns = ("benchmark", "scenario", "against", "submitted by", "cards", "published", "predicted", "verdict")
    for claim in found:
        say(f"{claim.title}: {claim.wording}")
        for part in claim.parts:
            say()
            say(f"  {part.what}: {part.verdict}.")
            rows = [_compared(one, len({o.subject for o in part.comparisons}) > 1) for one in part.comparisons]
            if rows:
                print_table(columns, rows, right=("cards", "published", "predicted"), fold="submitted by")
            for reason in dict.fromkeys(one.reason for one in part.comparisons if one.reason):
                say(f"  Not predicted: {reason}.")
        say()


def _compared(one: Any, several: bool) -> tuple[str, ...]:
    predicted = "-" if one.predicted is None else f"{one.predicted:.2f}"
    other = one.other.replace("Qualcomm Cloud AI 100 ", "").replace("NVIDIA ", "").replace("PCIe/HHHL ", "")
    against = f"{one.subject.split()[-1]} / {other}" if several else other
    shown = (str(one.cards), f"{one.published:.2f}", predicted, one.verdict)
    return (one.benchmark, one.scenario, against, one.submitter, *shown)
