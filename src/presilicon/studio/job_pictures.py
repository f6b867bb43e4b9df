"""Pictures of what a job has found so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from presilicon import __version__
from presilicon.errors import InputError
from presilicon.view import Design, Measure, pareto
from presilicon.view.design_report import read_design
from presilicon.view.document import html
from presilicon.view.replay_report import read_replay, replay_pictures


def pictures(job: Mapping[str, Any], width: float) -> dict[str, str]:
    """By name, as figures of a page; none where there is nothing to show yet."""
    latest, about = job["latest"] or {}, job["about"] or {}
    if about.get("kind") == "search":
        return _search(latest, about, width) if latest.get("front") else {}
    return _replay(latest, about, width) if "report" in latest else {}


PRICE = Measure("usd_per_million_tokens", "USD per million tokens", "USD")
ENERGY = Measure("energy_j_per_token", "energy of a token", "J")
LATENCY = Measure("time_per_output_token_s", "time per output token", "s")


def _search(latest: Mapping[str, Any], about: Mapping[str, Any], width: float) -> dict[str, str]:
    front = [Design(_named(one), one["figures"]) for one in latest["front"]]
    best = _named(latest["best"]) if latest["best"] else ""
    source = f"search for {about['model']}, {latest['evaluated']:,} designs evaluated, {latest['feasible']:,} within all limits"
    found: dict[str, str] = {}
    for name, title, y in (("energy_front", "Cost and energy", ENERGY), ("latency_front", "Cost and latency", LATENCY)):
        found[name] = pareto(
            front, PRICE, y, source=source, chosen=best, evaluated=latest["evaluated"], title=title, width=width
        ).figure()
    return found


def report_of(folder: Path) -> str:
    """The report of a job that is done, as one HTML file; InputError where it is not."""
    made_by = f"presilicon {__version__}, studio"
    if (folder / "design.json").is_file():
        return html(read_design(folder, made_by=made_by))
    if (folder / "results").is_dir():
        return html(read_replay(folder / "results", made_by=made_by))
    raise InputError("the job has no report yet", where=folder.name, hint="it has one when it is done")


def _replay(latest: Mapping[str, Any], about: Mapping[str, Any], width: float) -> dict[str, str]:
    report = latest["report"]
    load = about.get("trace_title") or f"{about.get('rate_per_s')} requests a second at random"
    source = f"replay of {load}: {report['model']} on {report['chips']} x {report['chip']}"
    made = replay_pictures(report, latest["quantiles"], latest["timeline"], source=source, width=width)
    names = {"Time to first token": "ttft_s", "Time per output token": "tpot_s", "Tokens": "tokens"}
    return {names.get(one.title, one.title): one.figure() for one in (*made["latency"], *made["time"])}


def _named(one: Mapping[str, Any]) -> str:
    """A design with how it is used: one chip stands on the front once a batch."""
    return f"{one['name']}, batch {one['fields']['batch']:g}"
