"""The scenarios in virtual time: the same queries as LoadGen sends, answered by the times of batches, without waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.bench._rules import (
    LEAST_DURATION_S,
    LEAST_OFFLINE_SAMPLES,
    PERCENTILES,
    SAMPLES_PER_QUERY,
    SCENARIOS,
    Floats,
    assignment,
    most_late,
    per_second,
    percentile_of,
    unit_schedule,
)
from presilicon.bench._system import System
from presilicon.errors import WorkloadError
from presilicon.scenario import caps, highest_rate, served
from presilicon.units import si

# Queries of a server's run in virtual time: as many as MLPerf asked for before early stopping (99 % sure within 0.05 %).
SERVER_QUERIES = 270336
HOPELESS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run: queries, samples, from the first query to the last answer (s), percentiles of latency (s), whether it is valid.

    ``value`` is the scenario's metric; ``rate_per_s`` the rate of a server's queries, else None. A language model's answers
    have ``tokens`` in all, and percentiles of the time to the first token and per further one (s).
    """

    value: float
    queries: int
    samples: int
    duration_s: float
    percentiles: dict[str, float]
    valid: bool
    rate_per_s: float | None = None
    reasons: tuple[str, ...] = ()
    ttft_s: dict[str, float] | None = None
    tpot_s: dict[str, float] | None = None
    tokens: int = 0


def percentiles_of(latencies: NDArray[np.floating[Any]]) -> dict[str, float]:
    """LoadGen's percentiles of latencies (s), by name."""
    ascending = np.sort(latencies)
    return {f"p{p:g}": percentile_of(ascending, p) for p in PERCENTILES}


def one_at_a_time(system: System, scenario: str) -> Measured:
    """Single stream, or multi-stream with eight samples a query: each query waits for the one before."""
    rules = SCENARIOS[scenario]
    samples = SAMPLES_PER_QUERY if scenario == "multi-stream" else 1
    latency = system.alone.at(ceil(samples / system.chips))
    queries = max(rules.least_queries, ceil(LEAST_DURATION_S / latency))
    return Measured(
        value=latency,
        queries=queries,
        samples=queries * samples,
        duration_s=queries * latency,
        percentiles=percentiles_of(np.full(1, latency)),
        valid=True,
    )


def offline_samples(system: System, least: int) -> int:
    """Samples of an offline run: at least ``least``, in full batches on every chip."""
    whole = int(system.stream.best_batch) * system.chips
    return ceil(least / whole) * whole


def offline(system: System, least: int | None = None) -> Measured:
    """All samples at once, in batches of the size that gives most samples a second, shared evenly by the chips."""
    batch = int(system.stream.best_batch)
    seconds = system.stream.at(batch)
    wanted = ceil(LEAST_DURATION_S * system.stream.best_rate_per_s() * system.chips)
    samples = offline_samples(system, max(LEAST_OFFLINE_SAMPLES, wanted) if least is None else least)
    ends = seconds * np.arange(1, samples // (batch * system.chips) + 1)
    return Measured(
        value=samples / float(ends[-1]),
        queries=1,
        samples=samples,
        duration_s=float(ends[-1]),
        percentiles=percentiles_of(ends),
        valid=True,
    )


def server_latencies(system: System, rate_per_s: float, queries: int, largest: int, give_up_s: float = np.inf) -> Floats | None:
    """Latency (s) of each query of LoadGen's schedule at a rate; None once a chip is hopelessly late."""
    table = [0.0, *(system.queued.at(b) for b in range(1, largest + 1))]
    arrivals = unit_schedule(queries) / rate_per_s
    if system.chips == 1:
        return served(table, arrivals.tolist(), largest, give_up_s)
    chosen, found = assignment(queries, system.chips), np.empty(queries)
    for chip in range(system.chips):
        own = np.flatnonzero(chosen == chip)
        late = served(table, arrivals[own].tolist(), largest, give_up_s)
        if late is None:
            return None
        found[own] = late
    return found


def _judged(latencies: Floats, bound_s: float, percentile: float) -> tuple[str, ...]:
    """What is wrong with a server's run; nothing where it is valid."""
    reached = percentile_of(np.sort(latencies), percentile)
    late = int(np.sum(latencies > bound_s))
    if reached > bound_s:
        return (f"the {percentile:g}th percentile of latency is {si(reached, 's')}, over the bound of {si(bound_s, 's')}",)
    if late > most_late(len(latencies), percentile):
        return (f"{late} of {len(latencies)} queries are late: too many to be 99 % sure of the percentile",)
    return ()


@dataclass(frozen=True, slots=True)
class Found:
    """The rate (queries/s) that a server keeps up within its bound, and the largest batch that it allows itself."""

    rate_per_s: float
    largest: int


def find_rate(system: System, bound_s: float, queries: int, progress: Callable[[], None] = lambda: None) -> Found:
    """Largest valid Poisson rate: at most the offline rate, never lower for a looser bound.

    WorkloadError says what can be met where no rate is valid.
    """
    allowed = caps(system.queued, bound_s)
    percentile = SCENARIOS["server"].percentile
    chosen: dict[float, int] = {}

    def valid(rate: float) -> bool:
        progress()
        for largest in allowed:
            late = server_latencies(system, rate, queries, largest, HOPELESS * bound_s)
            if late is not None and not _judged(late, bound_s, percentile):
                chosen[rate] = largest
                return True
        return False

    top = system.queued.best_rate_per_s() * system.chips
    rate = highest_rate(valid, top) if allowed else 0.0
    if rate == 0.0:
        raise _cannot(system, bound_s)
    return Found(rate, chosen[rate])


def _cannot(system: System, bound_s: float) -> WorkloadError:
    """No rate is valid: what one sample takes, and the bound from which on some rate is."""
    alone = system.queued.at(1)
    loose = alone * 2
    return WorkloadError(
        f"no rate keeps 99 % of the latencies within {si(bound_s, 's')}: one sample alone takes {si(alone, 's')} on "
        f"{system.chip}, and those that arrive meanwhile wait for it",
        where="--latency-s",
        hint=f"{loose:.2g} can be met (about {per_second(_within(system, loose))}); a faster chip answers sooner",
    )


def _within(system: System, bound_s: float) -> float:
    """A rate for a hint, found on a short run."""
    from presilicon.scenario import server_per_s

    return server_per_s(system.queued, system.chips, bound_s)


def at_rate(system: System, rate_per_s: float, bound_s: float, queries: int) -> Found:
    """A server at a fixed rate: the largest batch that gives the lowest percentile of latency."""
    percentile = SCENARIOS["server"].percentile

    def judged(largest: int) -> float:
        late = server_latencies(system, rate_per_s, queries, largest)
        assert late is not None  # nothing is hopeless without a limit
        return percentile_of(np.sort(late), percentile)

    return Found(rate_per_s, min(caps(system.queued, bound_s) or [1], key=judged))


def server(system: System, found: Found, bound_s: float, queries: int) -> Measured:
    """A server at a rate, its batches limited."""
    late = server_latencies(system, found.rate_per_s, queries, found.largest)
    assert late is not None  # nothing is hopeless without a limit
    reasons = _judged(late, bound_s, SCENARIOS["server"].percentile)
    return Measured(
        value=found.rate_per_s,
        queries=queries,
        samples=queries,
        duration_s=float(np.max(unit_schedule(queries) / found.rate_per_s + late)),
        percentiles=percentiles_of(late),
        valid=not reasons,
        rate_per_s=found.rate_per_s,
        reasons=reasons,
    )
