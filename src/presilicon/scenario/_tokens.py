"""The server scenario of a language model: continuous batching, judged by the times of first and of further tokens."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil

import numpy as np

from presilicon.scenario._batches import SEED, highest_rate, unit_arrivals

# Requests of one run of the token server, in multiples of those in flight: it must fill up and go on.
TURNOVERS = 3
LEAST_REQUESTS = 2048


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
    unit = unit_arrivals(requests, seed)
    sizes = np.arange(times.most + 1)
    decode = np.interp(sizes, times.batches, times.decode_s).tolist()
    prefill = np.interp(sizes, times.batches, times.prefill_s).tolist()

    def valid(rate: float) -> bool:
        return _tokens_in_time(decode, prefill, (unit / rate).tolist(), lengths, ttft_s, tpot_s)

    # A run of finite length lets a little more through than can be kept up for ever.
    steady = times.steady_tokens_per_s(output_tokens)
    return highest_rate(valid, steady / output_tokens) * output_tokens


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
