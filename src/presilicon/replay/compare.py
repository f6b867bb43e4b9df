"""A measured run beside the replay: GuideLLM's and vLLM's result files, metric by metric.

TPOT is that of the tokens after the first one, as everywhere here: vLLM's tpot, GuideLLM's inter_token_latency (what GuideLLM
calls time_per_output_token holds the first token too).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from presilicon.errors import WorkloadError
from presilicon.replay.outcome import ReplayReport

PERCENTILES = ("p50", "p90", "p99", "mean")


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric, measured and replayed, in ``unit``."""

    metric: str
    unit: str
    measured: float
    replayed: float

    @property
    def ratio(self) -> float | None:
        """Replayed over measured."""
        return self.replayed / self.measured if self.measured else None

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {"metric": self.metric, "unit": self.unit, "measured": self.measured, "replayed": self.replayed,
                "ratio": self.ratio}  # fmt: skip


def compare(path: str | Path, report: ReplayReport) -> tuple[Compared, ...]:
    """What a measured run says, beside the replay; WorkloadError where the file is neither GuideLLM's nor vLLM's."""
    measured = read_measured(path)
    replayed = report.to_json()
    found = []
    for name, value in measured.items():
        metric, _, percentile = name.partition(".")
        ours = replayed[metric][percentile] if percentile else replayed[metric]
        unit = "s" if percentile else "1/s"
        found.append(Compared(name, unit, value, float(ours)))
    return tuple(found)


def read_measured(path: str | Path) -> dict[str, float]:
    """Metrics of a result file under the names of a replay's report (``ttft_s.p50`` ...), in seconds and per second."""
    where = str(path)
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"cannot be read: {error}", where=where) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise WorkloadError(f"not a JSON file: {error}", where=where) from None
    if isinstance(table, dict) and isinstance(table.get("benchmarks"), list):
        found = _guidellm(table["benchmarks"], where)
    elif isinstance(table, dict) and ("median_ttft_ms" in table or "mean_ttft_ms" in table):
        found = _vllm(table)
    else:
        found = {}
    if not found:
        raise WorkloadError(
            "neither a result of GuideLLM nor of vLLM's benchmark",
            where=where,
            hint="guidellm's benchmarks.json, or what `vllm bench serve --save-result` writes",
        )
    return found


def _number(value: Any, scale: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return float(value) * scale


def _vllm(table: Mapping[str, Any]) -> dict[str, float]:
    names = {"request_throughput": "requests_per_s", "output_throughput": "output_tokens_per_s"}
    found = {ours: _number(table.get(theirs), 1.0) for theirs, ours in names.items()}
    for metric, ours in (("ttft", "ttft_s"), ("tpot", "tpot_s"), ("e2el", "e2e_s")):
        for percentile in PERCENTILES:
            prefix = {"p50": "median"}.get(percentile, percentile)
            found[f"{ours}.{percentile}"] = _number(table.get(f"{prefix}_{metric}_ms"), 1e-3)
    return {name: value for name, value in found.items() if value is not None}


def _guidellm(benchmarks: list[Any], where: str) -> dict[str, float]:
    if len(benchmarks) != 1:
        raise WorkloadError(
            f"{len(benchmarks)} runs are in the file", where=where, hint="a file of one run: one rate or one concurrency"
        )
    metrics = benchmarks[0].get("metrics") if isinstance(benchmarks[0], dict) else None
    if not isinstance(metrics, dict):
        return {}
    found: dict[str, float | None] = {}
    for theirs, ours in (("requests_per_second", "requests_per_s"), ("output_tokens_per_second", "output_tokens_per_s")):
        found[ours] = _number(_summary(metrics, theirs).get("mean"), 1.0)
    for theirs, ours, scale in (("time_to_first_token_ms", "ttft_s", 1e-3), ("inter_token_latency_ms", "tpot_s", 1e-3),
                                ("request_latency", "e2e_s", 1.0)):  # fmt: skip
        summary = _summary(metrics, theirs)
        percentiles = summary.get("percentiles")
        values = {**(percentiles if isinstance(percentiles, dict) else {}), "mean": summary.get("mean")}
        for percentile in PERCENTILES:
            found[f"{ours}.{percentile}"] = _number(values.get(percentile), scale)
    return {name: value for name, value in found.items() if value is not None}


def _summary(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The distribution of a metric over the requests that succeeded."""
    value = metrics.get(name)
    value = value.get("successful") if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
