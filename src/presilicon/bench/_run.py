"""One benchmark from a system to a result: virtual time, or LoadGen with virtual time beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from presilicon.bench import _batch_run, _loadgen, _token_run
from presilicon.bench._outcome import Driven, Outcome
from presilicon.bench._result import Result, folder_for, require_free, write
from presilicon.bench._rules import NO_BOUNDS, SCENARIOS, Bounds
from presilicon.bench._system import System, require_positive
from presilicon.bench._tokens import TokenSystem
from presilicon.errors import WorkloadError
from presilicon.estimate.intervals import interval
from presilicon.units import si

DEFAULT_SECONDS = 10.0
LEAST_SECONDS = 1.0
# Chips that share the queries of one run at most, and the longest run (s) of LoadGen that is begun unasked.
MOST_CHIPS, LONGEST_S = 4096, 600.0
# Runs that a search of a server's rate takes, about.
SEARCHED = 12
# Answers that are late by this share of the median latency say that the machine had other things to do.
BUSY = 0.02
Progress = Callable[[str, int, int], None]


def _silent(_: str, __: int, ___: int) -> None:
    """Progress for nobody."""


def _bounds(system: System | TokenSystem, scenario: str, given: Bounds) -> Bounds | None:
    """The bounds of a server: those given, else MLPerf's; None for another scenario."""
    for name, option in (("latency_s", "--latency-s"), ("ttft_s", "--ttft-s"), ("tpot_s", "--tpot-s")):
        value = getattr(given, name)
        require_positive(name, value)
        if value is not None and scenario != "server":
            raise WorkloadError(f"the {scenario} scenario has no latency bound", where=option, hint="leave it out")
        if value is not None and name != "latency_s" and isinstance(system, System):
            raise WorkloadError(f"{system.model} generates no tokens", where=option, hint="--latency-s bounds its answers")
    if scenario != "server":
        return None
    rules = Bounds(latency_s=system.bound_s) if isinstance(system, System) else system.bounds
    found = Bounds(*(getattr(given, name) or getattr(rules, name) for name in ("ttft_s", "tpot_s", "latency_s")))
    if not found:
        tokens = isinstance(system, TokenSystem)
        raise WorkloadError(
            f"the server scenario needs a latency bound, and MLPerf sets none for {system.model} with these lengths",
            where="--ttft-s" if tokens else "--latency-s",
            hint="--ttft-s and --tpot-s: the longest times to the first token and per further one of 99 % of the requests"
            if tokens
            else "the longest time (s) within which 99 % of the queries must be answered",
        )
    return found


def bench(
    system: System | TokenSystem,
    scenario: str,
    *,
    virtual: bool = False,
    latency_s: float | None = None,
    ttft_s: float | None = None,
    tpot_s: float | None = None,
    rate_per_s: float | None = None,
    seconds: float = DEFAULT_SECONDS,
    out: str | Path | None = None,
    progress: Progress = _silent,
) -> Result:
    """Run a scenario on a system, with LoadGen in stretched real time or, with ``virtual``, without waiting.

    ``latency_s``, ``ttft_s``, ``tpot_s``: bounds of a server (MLPerf's where None). ``rate_per_s``: rate of a server, found
    where None. ``seconds``: about how long LoadGen runs. ``out``: a new or empty folder for the result. WorkloadError says
    what can be met where a bound cannot; InputError where the folder is taken or LoadGen is not installed.
    """
    if scenario not in SCENARIOS:
        raise WorkloadError(f"no scenario is called {scenario!r}", hint="one of " + ", ".join(SCENARIOS))
    if scenario == "multi-stream" and isinstance(system, TokenSystem):
        raise WorkloadError(
            "the multi-stream scenario is for networks that answer at once", where=system.model, hint="single-stream or server"
        )
    bounds = _bounds(system, scenario, Bounds(ttft_s, tpot_s, latency_s))
    require_positive("rate_per_s", rate_per_s)
    require_positive("seconds", seconds)
    if rate_per_s is not None and scenario != "server":
        raise WorkloadError(f"the {scenario} scenario has no rate of its own", where="--rate-per-s", hint="leave it out")
    if system.chips > MOST_CHIPS:
        raise WorkloadError(f"{system.chips} chips", where="--chips", hint=f"at most {MOST_CHIPS}: their rates add up")
    if out is not None:
        require_free(out)
    if virtual:
        result = _result(system, scenario, bounds, _in_virtual_time(system, scenario, bounds, rate_per_s, progress))
        if out is not None:
            with folder_for(out) as folder:
                write(folder, result)
        return result
    _loadgen.loadgen_version()
    with folder_for(out) as folder:
        result = _with_loadgen(system, scenario, bounds, rate_per_s, max(LEAST_SECONDS, seconds), folder, progress)
        write(folder, result)
    return result


def _result(system: System | TokenSystem, scenario: str, bounds: Bounds | None, outcome: Outcome) -> Result:
    rules, tokens = SCENARIOS[scenario], isinstance(system, TokenSystem)
    low, high = interval(system.family, f"mlperf {rules.loadgen}")
    return Result(
        model=system.model,
        chip=system.chip,
        chips=system.chips,
        formats=system.formats,
        benchmark=system.benchmark,
        scenario=scenario,
        metric="tokens_per_s" if tokens and scenario in ("offline", "server") else rules.metric,
        driver="virtual time",
        measured=outcome.measured,
        low=low,
        high=high,
        bounds=bounds or NO_BOUNDS,
        more=outcome.more,
        notes=outcome.notes,
    )


def _searching(progress: Progress) -> Callable[[], None]:
    """Progress of a search, whose length is known about."""
    runs = count(1)

    def told() -> None:
        done = next(runs)
        progress("Virtual time", done, max(done, SEARCHED))

    return told


def _in_virtual_time(
    system: System | TokenSystem, scenario: str, bounds: Bounds | None, rate: float | None, progress: Progress
) -> Outcome:
    if isinstance(system, TokenSystem):
        return _token_run.in_virtual_time(system, scenario, bounds, rate, _searching(progress))
    return _batch_run.in_virtual_time(system, scenario, bounds, rate, _searching(progress))


def _with_loadgen(
    system: System | TokenSystem,
    scenario: str,
    bounds: Bounds | None,
    rate: float | None,
    seconds: float,
    folder: Path,
    progress: Progress,
) -> Result:
    begun = time.perf_counter()

    def drive(plan: _loadgen.Plan, what: str = "LoadGen") -> _loadgen.Run:
        if plan.wall_s > max(LONGEST_S, 2 * seconds):
            raise WorkloadError(
                f"LoadGen would take {plan.wall_s:.0f} s: so few queries a second, each so short, are slow to send",
                where=scenario,
                hint="--virtual does not wait, or --rate-per-s with a higher rate",
            )
        progress(what, 0, plan.samples)
        found = _loadgen.drive(plan, folder, lambda done, total: progress(what, done, total))
        progress(what, plan.samples, plan.samples)
        return found

    done: Driven
    if isinstance(system, TokenSystem):
        done = _token_run.driven(system, scenario, bounds, rate, seconds, drive, _searching(progress))
    else:
        done = _batch_run.driven(system, scenario, bounds, rate, seconds, drive, _searching(progress))
    run, notes = done.run, done.notes
    if run.overhead_s["p99"] > BUSY * done.plan.scale * run.measured.percentiles["p50"]:
        late = si(run.overhead_s["p99"], "s")
        notes = (*notes, f"this machine was busy: 1 % of the answers came {late} late or more; --seconds gives it more time")
    return replace(
        _result(system, scenario, bounds, Outcome(run.measured, done.more)),
        driver=f"mlcommons-loadgen {_loadgen.loadgen_version()}",
        virtual=done.expected,
        time_scale=done.plan.scale,
        wall_s=time.perf_counter() - begun,
        early_stopping_s=run.early_stopping_s,
        overhead_s=run.overhead_s,
        notes=notes,
    )
