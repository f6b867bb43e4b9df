"""Scenarios of requests that are answered in batches: one inference each, no tokens that follow one another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Requests of one queueing run: p99 then rests on some 80 of them (LoadGen asks for 270,336; virtual time needs fewer to
# find a rate within the 1 % that this many say).
QUERIES = 8192
SEED = 2026
RATE_RESOLUTION = 0.005
# A run of finite length lets more through than can be kept up for ever: what waits at its end may still be in time.
FINITE_RUN = 1.3
# No rate is looked for below this share of the highest.
LEAST_SHARE = 1e-3
# A server this many times later than the bound will not catch up.
HOPELESS = 20.0


@cache
def unit_arrivals(number: int, seed: int) -> Floats:
    """Poisson arrivals at one a second."""
    return np.cumsum(np.random.default_rng(seed).exponential(1.0, number))


@dataclass(frozen=True, slots=True)
class BatchTimes:
    """Seconds one chip (or group of chips working as one) takes for batches of these sizes; straight lines between."""

    batches: tuple[float, ...]
    latency_s: tuple[float, ...]

    def at(self, batch: float) -> float:
        """Seconds for a batch of any size up to the largest; proportional above it."""
        if batch <= self.batches[-1]:
            return float(np.interp(batch, self.batches, self.latency_s))
        return self.latency_s[-1] * batch / self.batches[-1]

    @property
    def best_batch(self) -> float:
        """The smallest batch that gives most samples a second."""
        return self.batches[int(np.argmax(np.array(self.batches) / np.array(self.latency_s)))]

    def best_rate_per_s(self) -> float:
        """Samples a second at the batch that gives most."""
        return float(np.max(np.array(self.batches) / np.array(self.latency_s)))


def single_stream_s(times: BatchTimes) -> float:
    """Latency of one sample on an idle system (p90: nothing queues, so all percentiles are equal)."""
    return times.at(1)


def multi_stream_s(times: BatchTimes, chips: int, samples: int = 8) -> float:
    """Latency of a query of ``samples`` samples spread evenly over the chips."""
    return times.at(float(np.ceil(samples / chips)))


def streams(times: BatchTimes, chips: int, interval_s: float) -> float:
    """Most samples per query of a fixed interval that are done within it (v0.5 and v0.7)."""
    best = 0.0
    for batch in np.arange(1, 4097):
        if times.at(float(batch)) > interval_s:
            break
        best = float(batch)
    return best * chips


def offline_per_s(times: BatchTimes, chips: int) -> float:
    """Samples a second when all are there at once."""
    return times.best_rate_per_s() * chips


def highest_rate(valid: Callable[[float], bool], top: float, resolution: float = RATE_RESOLUTION) -> float:
    """Highest rate up to ``top`` that is valid, by bisection to ``resolution`` (a share); 0 where none above a thousandth is.

    Which rates are tried depends on ``top`` and on earlier answers only. So where one rule of validity allows whatever
    another one does, it is never given the lower rate, however validity wavers from rate to rate.
    """
    if valid(top):
        return top
    low, high = 0.0, top
    while high - low > resolution * high:
        middle = (low + high) / 2
        if middle < top * LEAST_SHARE:
            return 0.0
        low, high = (middle, high) if valid(middle) else (low, middle)
    return low


def caps(times: BatchTimes, bound_s: float) -> list[int]:
    """Largest batches that a server may allow itself, best first: those done within the bound, up to the best batch.

    A batch beyond the one that gives most samples a second only costs time. A looser bound has all caps of a stricter one.
    """
    best = times.best_batch
    sizes = {1, *(int(b) for b in times.batches if 1 <= b <= best)}
    return sorted((s for s in sizes if times.at(s) <= bound_s), reverse=True)


def served(table: list[float], arrivals: list[float], largest: int, give_up_s: float = np.inf) -> Floats | None:
    """Latency (s) of each request of one server that takes all that wait, up to ``largest``; None once hopelessly late.

    ``table[b]`` is the time (s) of a batch of b; ``arrivals`` (s) ascend.
    """
    done, now, found = 0, 0.0, np.empty(len(arrivals))
    while done < len(arrivals):
        start = max(now, arrivals[done])
        batch = min(bisect_right(arrivals, start, lo=done) - done, largest)
        now = start + table[batch]
        if now - arrivals[done] > give_up_s:
            return None
        found[done : done + batch] = now
        done += batch
    found -= np.array(arrivals)
    return found


def server_per_s(times: BatchTimes, chips: int, bound_s: float, percentile: float = 99.0, seed: int = SEED) -> float:
    """Highest Poisson rate at which the percentile of latency stays within the bound; arrivals are split over the chips.

    Never lower for a looser bound or for more chips.
    """
    allowed = caps(times, bound_s)
    if not allowed:
        return 0.0
    table = [0.0, *(times.at(b) for b in range(1, allowed[0] + 1))]
    unit = unit_arrivals(QUERIES, seed)

    def valid(rate: float) -> bool:
        arrivals = (unit / rate).tolist()
        for largest in allowed:
            late = served(table, arrivals, largest, HOPELESS * bound_s)
            if late is not None and float(np.percentile(late, percentile)) <= bound_s:
                return True
        return False

    return highest_rate(valid, times.best_rate_per_s() * FINITE_RUN) * chips
