"""LoadGen as the driver: how a run is stretched in time, the process it runs in, and what its log says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from presilicon.bench._rules import PERCENTILES, SAMPLES_PER_QUERY, SCENARIOS
from presilicon.bench._system import System
from presilicon.bench._virtual import Measured, offline_samples
from presilicon.errors import CheckError, InputError
from presilicon.scenario import BatchTimes

# A latency (s) of real time beside which what a sleep and a call of Python take (some 0.1 ms) are nothing.
PRECISE_S = 0.05
# The same for a server's bound: half of the latencies lie far below it.
PRECISE_BOUND_S = 0.1
# Queries a second of real time that Python takes in without haste.
UNHURRIED_PER_S = 1000.0
# Multi-stream needs 662 queries: shorter ones, so that the run stays short; its percentile is not as precise.
PRECISE_STREAM_S = 0.02
MOST_QUERIES = 8192
LEAST_SERVER_QUERIES = 1024
LEAST_OFFLINE_SAMPLES = 8192
# A run that takes this many times longer than planned, and a minute more, hangs.
HANGS = 5.0
EARLY_STOPPING = {"SingleStream": "early_stopping_latency_ss", "MultiStream": "early_stopping_latency_ms"}
Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run of LoadGen: real seconds per second of the chips, queries, settings, and what answers.

    ``engine`` has either the ``table`` of the times of batches (s of the chips) or a ``deployment`` with its lengths.
    """

    scenario: str
    scale: float
    queries: int
    samples: int
    wall_s: float
    engine: Mapping[str, Any]
    settings: Mapping[str, Any]

    def job(self, folder: Path) -> dict[str, Any]:
        """What the process reads."""
        return {
            "scenario": self.scenario,
            "scale": self.scale,
            **self.engine,
            "settings": {"min_duration_ms": 0, "min_query_count": self.queries, **self.settings},
            "outdir": str(folder),
        }


def loadgen_version() -> str:
    """The version of LoadGen; InputError where it is not installed."""
    try:
        found = version("mlcommons-loadgen")
    except PackageNotFoundError:
        found = ""
    if not found or find_spec("mlperf_loadgen") is None:
        raise InputError(
            "this needs the package mlcommons-loadgen", hint="pip install 'presilicon[bench]', or --virtual without it"
        )
    return found


def _ns(seconds: float) -> int:
    return max(1, round(seconds * 1e9))


def _batches(times: BatchTimes, largest: int, chips: int) -> dict[str, Any]:
    return {"table": [times.at(b) for b in range(1, largest + 1)], "chips": chips}


def stream_plan(system: System, scenario: str, seconds: float) -> Plan:
    """Single stream or multi-stream: one query after the other, each long enough to be measured well."""
    rules, multi = SCENARIOS[scenario], scenario == "multi-stream"
    samples = SAMPLES_PER_QUERY if multi else 1
    share = ceil(samples / system.chips)
    latency = system.alone.at(share)
    precise = PRECISE_STREAM_S if multi else PRECISE_S
    queries = min(MOST_QUERIES, max(rules.least_queries, round(seconds / precise)))
    scale = max(precise, seconds / queries) / latency
    expected = _ns(latency * scale)
    settings: dict[str, Any] = {"single_stream_expected_latency_ns": expected}
    if multi:
        settings = {"multi_stream_expected_latency_ns": expected, "multi_stream_samples_per_query": samples}
    return Plan(
        scenario=rules.loadgen,
        scale=scale,
        queries=queries,
        samples=queries * samples,
        wall_s=queries * latency * scale,
        engine=_batches(system.alone, share, system.chips),
        settings={**settings, "max_query_count": queries},
    )


def offline_plan(system: System, seconds: float) -> Plan:
    """All samples in one query; the whole run takes ``seconds``."""
    batch = int(system.stream.best_batch)
    samples = offline_samples(system, LEAST_OFFLINE_SAMPLES)
    lasts = samples / (batch * system.chips) * system.stream.at(batch)
    return Plan(
        scenario=SCENARIOS["offline"].loadgen,
        scale=seconds / lasts,
        queries=samples,  # LoadGen counts an offline run's samples in this setting
        samples=samples,
        wall_s=seconds,
        engine=_batches(system.stream, batch, system.chips),
        settings={"offline_expected_qps": samples / seconds},
    )


def server_queries(system: System, bound_s: float, seconds: float) -> int:
    """Queries of a server's run of ``seconds`` whose bound is long enough in real time to be measured well."""
    at_once = bound_s * system.queued.best_rate_per_s() * system.chips
    most = min(MOST_QUERIES, UNHURRIED_PER_S * seconds)
    return round(max(LEAST_SERVER_QUERIES, min(most, at_once * seconds / PRECISE_BOUND_S)))


def server_plan(system: System, rate_per_s: float, bound_s: float, largest: int, queries: int, seconds: float) -> Plan:
    """Poisson arrivals at a rate; ``seconds`` long, or longer where the bound would be too short to be measured."""
    scale = max(seconds * rate_per_s / queries, PRECISE_BOUND_S / bound_s)
    return Plan(
        scenario=SCENARIOS["server"].loadgen,
        scale=scale,
        queries=queries,
        samples=queries,
        wall_s=queries / rate_per_s * scale + bound_s * scale,
        engine=_batches(system.queued, largest, system.chips),
        settings={
            "server_target_qps": rate_per_s / scale,
            "server_target_latency_ns": _ns(bound_s * scale),
            "server_target_latency_percentile": SCENARIOS["server"].percentile / 100.0,
        },
    )


@dataclass(frozen=True, slots=True)
class Run:
    """What LoadGen measured, in seconds of the chips; early stopping's estimate (s); how late answers were (s, real)."""

    measured: Measured
    early_stopping_s: float | None
    overhead_s: Mapping[str, float]


def drive(plan: Plan, folder: Path, told: Told = lambda done, total: None) -> Run:
    """Run LoadGen in a process of its own; its logs come to ``folder``. ``told`` hears of samples done, and of all.

    The process ends with this one, and when this is interrupted. CheckError where LoadGen fails.
    """
    loadgen_version()
    place = str(Path(__file__).resolve().parents[2])
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "presilicon.bench._sut"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        last = _talk(process, plan, folder, told)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # the process is gone with what was not yet written
                if pipe is not None:
                    pipe.close()
    return read(plan, folder, last["overhead_s"])


def _talk(process: subprocess.Popen[str], plan: Plan, folder: Path, told: Told) -> dict[str, Any]:
    from threading import Timer

    assert process.stdin is not None
    assert process.stdout is not None
    timer = Timer(plan.wall_s * HANGS + 60.0, process.kill)
    timer.start()
    try:
        with suppress(OSError):  # it died before it read its job
            process.stdin.write(json.dumps(plan.job(folder)) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "done" not in message:
                return message
            told(int(message["done"]), plan.samples)
    finally:
        timer.cancel()
    raise CheckError("LoadGen ended without a result", where=plan.scenario, hint="--virtual does without it")


def read(plan: Plan, folder: Path, overhead_s: Mapping[str, float]) -> Run:
    """LoadGen's detail log as a Run, with times scaled back to the chips'."""
    log: dict[str, Any] = {}
    for line in (folder / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line.partition(":::MLLOG ")[2])
        log[entry["key"]] = entry["value"]
    seconds = 1e-9 / plan.scale
    kind = "_per_query_latency_ns" if plan.scenario == "MultiStream" else "_latency_ns"

    def percentiles_of(name: str) -> dict[str, float] | None:
        if name.format(PERCENTILES[0]) not in log:
            return None
        return {f"p{p:g}": log[name.format(p)] * seconds for p in PERCENTILES}

    percentiles = percentiles_of(f"result_{{:.2f}}_percentile{kind}")
    assert percentiles is not None
    tokens = sum(output for _, output in plan.engine.get("lengths", ()))
    early = log.get(EARLY_STOPPING.get(plan.scenario, ""))
    value = percentiles["p90" if plan.scenario == "SingleStream" else "p99"]
    rate: float | None = None
    if plan.scenario == "Offline":
        value = log["result_samples_per_second"] * plan.scale
        value *= tokens / plan.samples if tokens else 1.0
    elif plan.scenario == "Server":
        rate = plan.settings["server_target_qps"] * plan.scale
        value = rate * (tokens / plan.samples if tokens else 1.0)
    reasons = (str(log.get("result_invalid_reason") or log.get("early_stopping_result", "")).strip(),)
    valid = log["result_validity"] == "VALID"
    return Run(
        Measured(
            value=value,
            queries=int(log["result_query_count"]),
            samples=plan.samples,
            duration_s=(tokens or plan.samples) / value if plan.scenario == "Offline" else plan.wall_s / plan.scale,
            percentiles=percentiles,
            valid=valid,
            rate_per_s=rate,
            reasons=() if valid else reasons,
            ttft_s=percentiles_of("result_first_token_{:.2f}_percentile_latency_ns"),
            tpot_s=percentiles_of("result_time_per_output_token_{:.2f}_percentile_ns"),
            tokens=tokens,
        ),
        early * seconds if early else None,
        overhead_s,
    )
