"""MLPerf's scenarios in virtual time over the estimate: single stream, multi-stream, offline, server.

Rules: mlcommons/inference_policies, inference_rules.adoc (facts/mlperf_rules.md, section 2). A server's rate is found by
queueing: Poisson arrivals, batches formed greedily, the latency of each request judged at the percentile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from math import ceil

import numpy as np
from numpy.typing import NDArray

# Requests of one queueing run: p99 then rests on some 80 of them (LoadGen asks for 270,336; virtual time needs fewer to
# find a rate within the 1 % that the search resolves).
QUERIES = 8192
# Requests of one run of the token server, in multiples of those in flight: it must fill up and go on.
TURNOVERS = 3
LEAST_REQUESTS = 2048
SEED = 2026
RATE_RESOLUTION = 0.02


@cache
def _unit_arrivals(number: int, seed: int) -> NDArray[np.float64]:
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


def _highest(valid: Callable[[float], bool], start: float) -> float:
    """Highest rate that is valid, by doubling or halving and then bisection; 0 where none is."""
    low, high = 0.0, start
    if valid(high):
        while valid(high * 1.3) and high < start * 64:
            high *= 1.3
        low, high = high, high * 1.3
    while high - low > RATE_RESOLUTION * high:
        middle = (low + high) / 2 if low else high / 2
        if middle < start * 1e-3:
            return 0.0
        low, high = (middle, high) if valid(middle) else (low, middle)
    return low


def _latencies(times: list[float], arrivals: list[float], largest: int, give_up_s: float) -> NDArray[np.float64] | None:
    """Latency of each request of one server that takes all that wait, up to ``largest``; None once hopelessly late."""
    done, now, found = 0, 0.0, np.empty(len(arrivals))
    while done < len(arrivals):
        start = max(now, arrivals[done])
        batch = min(bisect_right(arrivals, start, lo=done) - done, largest)
        now = start + times[batch]
        if now - arrivals[done] > give_up_s:
            return None
        found[done : done + batch] = now
        done += batch
    found -= np.array(arrivals)
    return found


def server_per_s(times: BatchTimes, chips: int, bound_s: float, percentile: float = 99.0, seed: int = SEED) -> float:
    """Highest Poisson rate at which the percentile of latency stays within the bound; arrivals are split over the chips."""
    largest = 1
    while largest < times.batches[-1] and times.at(largest * 2) <= bound_s:
        largest *= 2
    if times.at(1) > bound_s:
        return 0.0
    table = [0.0, *(times.at(b) for b in range(1, largest + 1))]
    unit = _unit_arrivals(QUERIES, seed)

    def valid(rate: float) -> bool:
        late = _latencies(table, (unit / rate).tolist(), largest, 20 * bound_s)
        return late is not None and float(np.percentile(late, percentile)) <= bound_s

    return _highest(valid, 0.9 * max(b / table[b] for b in range(1, largest + 1))) * chips


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """What a group of chips takes to serve a language model: a decode step by requests in flight, a prefill by prompts."""

    batches: tuple[float, ...]
    decode_s: tuple[float, ...]
    prefill_s: tuple[float, ...]
    most: int  # requests whose caches fit

    def decode_at(self, batch: float) -> float:
        """Seconds of one decode step."""
        return float(np.interp(batch, self.batches, self.decode_s))

    def prefill_at(self, prompts: float) -> float:
        """Seconds of a prefill of some prompts."""
        return float(np.interp(prompts, self.batches, self.prefill_s))

    def steady_tokens_per_s(self, output_tokens: float) -> float:
        """Output tokens a second at the number in flight that gives most, prompts following one another."""
        best = 0.0
        for batch in sorted({*(b for b in self.batches if b <= self.most), float(self.most)}):
            cycle = self.prefill_at(batch) + (output_tokens - 1) * self.decode_at(batch)
            best = max(best, batch * output_tokens / cycle)
        return best


def token_server_per_s(
    times: TokenTimes, output_tokens: float, longest_output: float, ttft_s: float, tpot_s: float, seed: int = SEED
) -> float:
    """Output tokens a second at the highest Poisson rate that keeps TTFT and TPOT within their bounds at p99.

    Continuous batching: each step decodes all requests in flight and prefills those just admitted. Output lengths are
    exponential about their mean, cut at the longest allowed.
    """
    rng = np.random.default_rng(seed)
    requests = max(LEAST_REQUESTS, TURNOVERS * times.most)
    lengths = np.clip(np.rint(rng.exponential(output_tokens, requests)), 2, longest_output)
    lengths = np.maximum(2, np.rint(lengths * output_tokens / lengths.mean())).astype(int).tolist()
    unit = _unit_arrivals(requests, seed)
    sizes = np.arange(times.most + 1)
    decode = np.interp(sizes, times.batches, times.decode_s).tolist()
    prefill = np.interp(sizes, times.batches, times.prefill_s).tolist()

    def valid(rate: float) -> bool:
        return _tokens_in_time(decode, prefill, (unit / rate).tolist(), lengths, ttft_s, tpot_s)

    # A run of finite length lets a little more through than can be kept up for ever.
    steady = times.steady_tokens_per_s(output_tokens)
    return steady if valid(steady / output_tokens) else _highest(valid, steady / output_tokens) * output_tokens


def _tokens_in_time(
    decode: list[float],
    prefill: list[float],
    arrivals: list[float],
    lengths: list[int],
    ttft_s: float,
    tpot_s: float,
) -> bool:
    """One run of the continuous-batching server; the first tenth of the requests warms it up and is not judged.

    Steps between two events (an arrival that is admitted, a request that ends) are alike and are taken at once.
    """
    ending: dict[int, list[tuple[int, float]]] = {}
    ends: list[int] = []
    now, step, active, admitted, total, most = 0.0, 0, 0, 0, len(arrivals), len(decode) - 1
    skipped, bad_first, bad_next = total // 10, 0, 0
    allowed = 0.01 * (total - skipped)
    while admitted < total or active:
        if not active and arrivals[admitted] > now:
            now = arrivals[admitted]
        waiting = min(bisect_right(arrivals, now, lo=admitted) - admitted, most - active)
        if waiting:
            now += (decode[active] if active else 0.0) + prefill[waiting]
            step += 1
        else:
            alike = ends[0] - step
            if admitted < total and active < most:
                alike = max(1, min(alike, ceil((arrivals[admitted] - now) / decode[active])))
            now += alike * decode[active]
            step += alike
        while ends and ends[0] <= step:
            for length, first in ending.pop(heappop(ends)):
                active -= 1
                bad_next += (now - first) > tpot_s * (length - 1)
        for index in range(admitted, admitted + waiting):
            end = step + lengths[index] - 1
            if end not in ending:
                ending[end] = []
                heappush(ends, end)
            ending[end].append((lengths[index], now))
            bad_first += index >= skipped and now - arrivals[index] > ttft_s
        admitted += waiting
        active += waiting
        if bad_first > allowed or bad_next > allowed:
            return False
    return True
