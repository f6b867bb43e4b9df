"""Published estimates of manufacturing cost, and the pages' tables that put the model beside what is published."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from presilicon.chip import load
from presilicon.economics.cost import cost
from presilicon.economics.dies import dies
from presilicon.economics.silicon import area_spread

_PARTS = {"die": "die_usd", "package": "package_usd", "memory": "memory_usd", "test": "test_usd", "loss": "loss_usd"}


@dataclass(frozen=True, slots=True)
class Published:
    """What one part of a chip (or "total") is said to cost, with the ends of what is said."""

    chip: str
    part: str
    usd: float
    low: float
    high: float
    source: str


@cache
def published() -> tuple[Published, ...]:
    """Every row of data/published/manufacturing.csv."""
    text = (resources.files("presilicon") / "data" / "published" / "manufacturing.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Published(row["chip"], row["part"], float(row["usd"]), float(row["low"]), float(row["high"]), row["source"])
        for row in rows
    )


def area_table() -> str:
    """Markdown: modelled and published area of every die of dies.csv, those that were not fitted first."""
    lines = ["| die | chips | node | mm2 | modelled | off by | |", "| --- | --- | --- | ---: | ---: | ---: | --- |"]
    for die in sorted(dies(), key=lambda die: die.fitted):
        chips = die.chips[0] + (f" and {len(die.chips) - 1} more" if len(die.chips) > 1 else "") if die.chips else ""
        modelled = die.area_mm2 * (1.0 + die.error)
        use = "fitted" if die.fitted else "**not fitted**"
        lines.append(
            f"| {die.name} | {chips} | {die.spec.node} | {die.area_mm2:g} | {modelled:.0f} | {100 * die.error:+.1f} % | {use} |"
        )
    judged = [abs(die.error) for die in dies() if not die.fitted]
    told = (
        f"Median of those not fitted: {100 * float(np.median(judged)):.1f} %, the worst {100 * max(judged):.1f} %. Each fitted "
    )
    told += (
        f"die by constants fitted on the others: {100 * area_spread():.0f} % (root mean square), the spread of a modelled area."
    )
    lines += ["", told]
    return "\n".join(lines)


def cost_table() -> str:
    """Markdown: the cost of each part beside what is published of it."""
    lines = ["| chip | part | published, USD | here | p10 to p90 |", "| --- | --- | ---: | ---: | ---: |"]
    for name in dict.fromkeys(row.chip for row in published()):
        found = cost(load(name))
        for row in (one for one in published() if one.chip == name):
            spread = found.unit_usd if row.part == "total" else found.parts[_PARTS[row.part]]
            ends = f" ({row.low:,.0f} to {row.high:,.0f})" if row.low != row.high else ""
            lines.append(
                f"| {name} | {row.part} | {row.usd:,.0f}{ends} | {spread.value:,.0f} | {spread.p10:,.0f} to {spread.p90:,.0f} |"
            )
    return "\n".join(lines)
