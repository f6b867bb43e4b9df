"""One benchmark from a system to a result: virtual time, or LoadGen with virtual time beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from presilicon.bench import _loadgen, _virtual
from presilicon.bench._result import Result, folder_for, require_free, write
from presilicon.bench._rules import SCENARIOS
from presilicon.bench._system import System, require_positive
from presilicon.errors import WorkloadError
from presilicon.estimate.intervals import interval
from presilicon.units import si

DEFAULT_SECONDS = 10.0
# A server whose run LoadGen does not accept is tried again at this share of the rate, so many times in all.
SLOWER, ATTEMPTS = 0.98, 4
# Answers that are late by this share of the median latency say that the machine had other things to do.
BUSY = 0.02
Progress = Callable[[str, int, int], None]


def _silent(_: str, __: int, ___: int) -> None:
    """Progress for nobody."""


def _bound(system: System, scenario: str, latency_s: float | None) -> float | None:
    """The latency bound of a server: the one given, else MLPerf's."""
    require_positive("latency_s", latency_s)
    if scenario != "server":
        if latency_s is not None:
            raise WorkloadError(f"the {scenario} scenario has no latency bound", where="--latency-s", hint="leave it out")
        return None
    bound = latency_s if latency_s is not None else system.bound_s
    if bound is None:
        raise WorkloadError(
            f"the server scenario needs a latency bound, and MLPerf sets none for {system.model}",
            where="--latency-s",
            hint="the longest time (s) within which 99 % of the queries must be answered",
        )
    return bound


def bench(
    system: System,
    scenario: str,
    *,
    virtual: bool = False,
    latency_s: float | None = None,
    rate_per_s: float | None = None,
    seconds: float = DEFAULT_SECONDS,
    out: str | Path | None = None,
    progress: Progress = _silent,
) -> Result:
    """Run a scenario on a system, with LoadGen in stretched real time or, with ``virtual``, without waiting.

    ``latency_s``: bound of a server (MLPerf's where None). ``rate_per_s``: rate of a server, found where None. ``seconds``:
    about how long LoadGen runs. ``out``: a new or empty folder for the result. WorkloadError says what can be met where a
    bound cannot; InputError where the folder is taken or LoadGen is not installed.
    """
    if scenario not in SCENARIOS:
        raise WorkloadError(f"no scenario is called {scenario!r}", hint="one of " + ", ".join(SCENARIOS))
    bound = _bound(system, scenario, latency_s)
    require_positive("rate_per_s", rate_per_s)
    require_positive("seconds", seconds)
    if rate_per_s is not None and scenario != "server":
        raise WorkloadError(f"the {scenario} scenario has no rate of its own", where="--rate-per-s", hint="leave it out")
    if out is not None:
        require_free(out)
    if virtual:
        result = _in_virtual_time(system, scenario, bound, rate_per_s)
        if out is not None:
            with folder_for(out) as folder:
                write(folder, result)
        return result
    _loadgen.loadgen_version()
    with folder_for(out) as folder:
        result = _driven(system, scenario, bound, rate_per_s, seconds, folder, progress)
        write(folder, result)
    return result


def _result(system: System, scenario: str, measured: _virtual.Measured, bound: float | None) -> Result:
    rules = SCENARIOS[scenario]
    low, high = interval(system.family, f"mlperf {rules.loadgen}")
    return Result(
        model=system.model,
        chip=system.chip,
        chips=system.chips,
        formats=system.formats,
        benchmark=system.benchmark,
        scenario=scenario,
        metric=rules.metric,
        driver="virtual time",
        measured=measured,
        low=low,
        high=high,
        latency_bound_s=bound,
    )


def _found(system: System, bound: float, rate: float | None, queries: int) -> _virtual.Found:
    """The rate of a server: the one given, or the largest that is valid; with the largest batch that suits it.

    The rate is found on as many queries as MLPerf asks for. A run of fewer is judged by less: where it would not be accepted
    at that rate, its own largest valid one is taken, so that the rate holds in both.
    """
    if rate is not None:
        return _virtual.at_rate(system, rate, bound, queries)
    found = _virtual.find_rate(system, bound, _virtual.SERVER_QUERIES)
    if queries == _virtual.SERVER_QUERIES or _virtual.server(system, found, bound, queries).valid:
        return found
    return min(found, _virtual.find_rate(system, bound, queries), key=lambda one: one.rate_per_s)


def _in_virtual_time(system: System, scenario: str, bound: float | None, rate: float | None) -> Result:
    if bound is not None:
        queries = _virtual.SERVER_QUERIES
        found = _found(system, bound, rate, queries)
        result = _result(system, scenario, _virtual.server(system, found, bound, queries), bound)
        return replace(result, largest_batch=found.largest)
    if scenario == "offline":
        result = _result(system, scenario, _virtual.offline(system), None)
        return replace(result, largest_batch=int(system.stream.best_batch))
    return _result(system, scenario, _virtual.one_at_a_time(system, scenario), None)


def _driven(
    system: System,
    scenario: str,
    bound: float | None,
    rate: float | None,
    seconds: float,
    folder: Path,
    progress: Progress,
) -> Result:
    begun = time.perf_counter()
    notes: tuple[str, ...] = ()

    def drive(plan: _loadgen.Plan, what: str = "LoadGen") -> _loadgen.Run:
        progress(what, 0, plan.samples)
        found = _loadgen.drive(plan, folder, lambda done, total: progress(what, done, total))
        progress(what, plan.samples, plan.samples)
        return found

    if bound is not None:
        plan, run, expected, notes = _server(system, bound, rate, seconds, drive)
    elif scenario == "offline":
        plan = _loadgen.offline_plan(system, seconds)
        run, expected = drive(plan), _virtual.offline(system, plan.samples)
    else:
        plan = _loadgen.stream_plan(system, scenario, seconds)
        run, expected = drive(plan), _virtual.one_at_a_time(system, scenario)
    if run.overhead_s["p99"] > BUSY * plan.scale * run.measured.percentiles["p50"]:
        late = si(run.overhead_s["p99"], "s")
        notes = (*notes, f"This machine was busy: one answer in a hundred came {late} late or later; --seconds gives it more time")
    return replace(
        _result(system, scenario, run.measured, bound),
        driver=f"mlcommons-loadgen {_loadgen.loadgen_version()}",
        virtual=expected,
        time_scale=plan.scale,
        wall_s=time.perf_counter() - begun,
        early_stopping_s=run.early_stopping_s,
        overhead_s=run.overhead_s,
        largest_batch=len(plan.table) if scenario in ("offline", "server") else None,
        notes=notes,
    )


def _server(
    system: System, bound: float, rate: float | None, seconds: float, drive: Callable[..., _loadgen.Run]
) -> tuple[_loadgen.Plan, _loadgen.Run, _virtual.Measured, tuple[str, ...]]:
    """LoadGen at the rate that virtual time finds; lower ones follow where LoadGen does not accept it."""
    queries = _loadgen.server_queries(system, bound, seconds)
    asked = found = _found(system, bound, rate, queries)
    for attempt in range(ATTEMPTS if rate is None else 1):
        found = replace(asked, rate_per_s=asked.rate_per_s * SLOWER**attempt)
        plan = _loadgen.server_plan(system, found.rate_per_s, bound, found.largest, queries, seconds)
        run = drive(plan, f"LoadGen at {si(found.rate_per_s, '/s')}")
        if run.measured.valid:
            break
    notes = (f"LoadGen did not accept {si(asked.rate_per_s, '/s')}, which virtual time found",) if found != asked else ()
    return plan, run, _virtual.server(system, found, bound, queries), notes
