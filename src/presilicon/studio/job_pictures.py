"""Pictures of what a job has found so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from presilicon.view.serving import CACHE, QUEUE, TOKENS, distribution, over_time


def pictures(job: Mapping[str, Any], width: float) -> dict[str, str]:
    """By name, as figures of a page; none where there is nothing to show yet."""
    latest, about = job["latest"] or {}, job["about"] or {}
    return _replay(latest, about, width) if about.get("kind") == "replay" and "report" in latest else {}


def _replay(latest: Mapping[str, Any], about: Mapping[str, Any], width: float) -> dict[str, str]:
    report = latest["report"]
    load = about.get("trace_title") or f"{about.get('rate_per_s')} requests a second at random"
    source = f"replay of {load}: {report['model']} on {report['chips']} x {report['chip']}, {report['parallelism']}"
    found: dict[str, str] = {}
    for key, title in (("ttft_s", "Time to first token"), ("tpot_s", "Time per output token")):
        if key in latest["quantiles"]:
            found[key] = distribution(
                title, latest["quantiles"][key], source=source, limit_s=report["slo"][key], width=width
            ).figure()
    if latest["timeline"]:
        for name, title, series in (
            ("queue", "Requests", QUEUE),
            ("cache", "Memory and chips", CACHE),
            ("tokens", "Tokens", TOKENS),
        ):
            found[name] = over_time(title, latest["timeline"], series, source=source, width=width).figure()
    return found
