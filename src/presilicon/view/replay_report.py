"""The report of a replay, from its JSON, its requests and its timeline."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from presilicon.errors import InputError
from presilicon.units import percent, si
from presilicon.view.document import Document, Figure, Section, datum, rows, shown
from presilicon.view.picture import Picture
from presilicon.view.serving import CACHE, QUEUE, TOKENS, distribution, over_time

LATENCIES = (("time to first token", "ttft_s"), ("time per output token", "tpot_s"), ("end to end", "e2e_s"))


def replay_document(
    report: Mapping[str, Any],
    *,
    command: str,
    made_by: str,
    quantiles: Mapping[str, Sequence[float]],
    timeline: Mapping[str, Sequence[float]],
) -> Document:
    """``report`` is what ``replay --json`` prints; ``quantiles`` are times (s) at equal steps of share, by latency."""
    source = f"replay of {report['requests']:,} requests on {report['chips']} x {report['chip']}{_shared(report)}"
    pictures = replay_pictures(report, quantiles, timeline, source=source)
    latency = [
        (
            name,
            *(datum(report[key][p], "s", f"{key}.{p}") for p in ("p50", "p90", "p99", "mean")),
        )
        for name, key in LATENCIES
    ]
    return Document(
        title=f"{report['model']} on {report['chips']} x {report['chip']}",
        subtitle=f"presilicon replay: {_count(report['replicas'])}{_shared(report)}, {report['formats']}",
        summary=_summary(report),
        figures=(
            Figure("Time to first token, median", report["ttft_s"]["p50"], "s", "ttft_s.p50"),
            Figure("Time per output token, median", report["tpot_s"]["p50"], "s", "tpot_s.p50"),
            Figure("Output tokens", report["output_tokens_per_s"], "/s", "output_tokens_per_s"),
            Figure("Goodput", report["goodput_per_s"], "/s", "goodput_per_s", "requests within the limits"),
            Figure("Energy of a token", report["energy_per_token_j"], "J", "energy_per_token_j"),
            Figure(
                "1 M output tokens", report["usd_per_million_tokens"], "USD", "usd_per_million_tokens", report["price_basis"]
            ),
        ),
        sections=(
            Section("Latency", "", [rows(("", "median", "p90", "p99", "mean"), latency), *pictures["latency"]]),
            Section("Over time", "What the scheduler did, in the mean of each slice of the replay.", pictures["time"]),
        ),
        command=command,
        made_by=made_by,
        sources=(
            ("step times", "presilicon's estimate of the chip, its constants as its file says (presilicon chips NAME)", "", ""),
            ("scheduling", "docs/replay.md of presilicon", "", ""),
        ),
    )


def replay_pictures(
    report: Mapping[str, Any], quantiles: Mapping[str, Sequence[float]], timeline: Mapping[str, Sequence[float]], *,
    source: str, width: float = 820.0,
) -> dict[str, list[Picture]]:  # fmt: skip
    """Distributions of latencies ("latency") and what happened over time ("time"), as far as there is any."""
    titles = {"ttft_s": "Time to first token", "tpot_s": "Time per output token"}
    found: dict[str, list[Picture]] = {"latency": [], "time": []}
    for key, title in titles.items():
        if len(quantiles.get(key, ())) > 1:
            limit = report["slo"][key]
            found["latency"].append(distribution(title, quantiles[key], source=source, limit_s=limit, width=width))
    if timeline:
        for title, series in (("Requests", QUEUE), ("Memory and chips", CACHE), ("Tokens", TOKENS)):
            found["time"].append(over_time(title, timeline, series, source=source, width=width))
    return found


def _shared(report: Mapping[str, Any]) -> str:
    return "" if report["parallelism"] == "1" else f", each shared {report['parallelism']}"


def _count(replicas: int) -> str:
    return f"{replicas} replicas" if replicas > 1 else "one replica"


def _summary(r: Mapping[str, Any]) -> tuple[str, ...]:
    limits = [f"{name} {si(r['slo'][key], 's')}" for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s")) if r["slo"][key]]
    within = f"{percent(r['within_slo'])} within {' and '.join(limits)}." if limits else "No limit on latency was asked."
    usd = (
        f"{shown(r['usd_per_million_tokens'], 'USD')} a million output tokens ({r['price_basis']})"
        if r["usd"]
        else "no price known"
    )
    return (
        f"{r['requests']:,} requests in {si(r['virtual_s'], 's')} of virtual time, {r['refused']:,} refused.",
        f"Half of them had their first token within {shown(r['ttft_s']['p50'], 's')}, "
        f"99 % within {shown(r['ttft_s']['p99'], 's')}.",
        f"Then a token every {shown(r['tpot_s']['p50'], 's')} in the median, {shown(r['tpot_s']['p99'], 's')} at p99. {within}",
        f"{shown(r['output_tokens_per_s'], '')} output tokens a second; chips at work {percent(r['utilization'])} of the time, "
        f"{r['preemptions']:,} preemptions.",
        f"{shown(r['energy_per_token_j'], 'J')} an output token, {shown(r['power_w'], 'W')} in the mean; {usd}.",
    )


QUANTILES = 200
"""Steps of a distribution that is read from requests."""


def read_replay(folder: Path, *, made_by: str) -> Document:
    """The report of report.json, requests.csv and timeline.csv in a folder; InputError names a file that cannot be read."""
    report = read_json(folder / "report.json")
    try:
        requests = _columns(folder / "requests.csv")
        timeline = {name: [float(v) for v in values] for name, values in _columns(folder / "timeline.csv").items()}
        quantiles = {}
        for key in ("ttft_s", "tpot_s", "e2e_s"):
            known = sorted(float(v) for v in requests[key] if v)
            quantiles[key] = [_quantile(known, step / QUANTILES) for step in range(QUANTILES + 1)] if known else []
        return replay_document(
            report, command=report.get("command", ""), made_by=made_by, quantiles=quantiles, timeline=timeline
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"not the results of a replay ({error})", where=str(folder)) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; InputError where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except ValueError as error:
        raise InputError(f"not a JSON file: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise InputError("not an object", where=str(path))
    return found


def _columns(path: Path) -> dict[str, list[str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return {name: [line[place] for line in lines[1:]] for place, name in enumerate(lines[0])}


def _quantile(values: Sequence[float], share: float) -> float:
    """Linear between neighbours of sorted values."""
    place = share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
