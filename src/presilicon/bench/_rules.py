"""MLPerf's rules as LoadGen applies them: names, counts, seeds, the arrivals of a schedule, percentiles, early stopping.

Sources: mlcommons/inference at 001712e9, loadgen/mlperf.conf (seeds, counts, percentiles), loadgen/loadgen.cc
(GenerateQueries), loadgen/results.cc (percentiles) and loadgen/early_stopping.cc; mlcommons/inference_policies,
inference_rules.adoc.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import floor, log

import numpy as np
from numpy.typing import NDArray

from presilicon.units import si

Floats = NDArray[np.float64]

LABEL = "MLPerf-style, unverified"

QSL_SEED = 1780908523862526354
SAMPLE_SEED = 14771362308971278857
SCHEDULE_SEED = 18209322760996052031
CONFIDENCE = 0.99
SAMPLES_PER_QUERY = 8
LEAST_OFFLINE_SAMPLES = 24576
LEAST_DURATION_S = 600.0
PERCENTILES = (50.0, 90.0, 95.0, 97.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario: LoadGen's name, the metric's name, the percentile that is judged, and fewest queries of a run."""

    name: str
    loadgen: str
    metric: str
    percentile: float
    least_queries: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """Longest time to the first token, per further token, and to the last one (s) of 99 of 100 requests; None: any."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    latency_s: float | None = None

    def __bool__(self) -> bool:
        return any(b is not None for b in (self.ttft_s, self.tpot_s, self.latency_s))


NO_BOUNDS = Bounds()

SCENARIOS = {
    s.name: s
    for s in (
        # 64 and 662 queries: fewest for which early stopping can say anything of the 90th and of the 99th percentile.
        Scenario("single-stream", "SingleStream", "latency_p90_s", 90.0, 64),
        Scenario("multi-stream", "MultiStream", "latency_p99_s", 99.0, 662),
        Scenario("offline", "Offline", "samples_per_s", 99.0, 1),
        Scenario("server", "Server", "queries_per_s", 99.0, 662),
    )
}
"""The scenarios by the name that users give."""


@lru_cache(maxsize=8)
def unit_schedule(queries: int, seed: int = SCHEDULE_SEED) -> Floats:
    """Times (s) at which LoadGen's Server scenario sends ``queries`` queries at one a second; the first comes at 0.

    The same numbers as LoadGen's: std::mt19937 seeded with the low 32 bits, two draws a double
    (std::generate_canonical), std::exponential_distribution. At another rate its rounding to nanoseconds differs.
    """
    generator = np.random.RandomState(seed % 2**32)  # seeded as std::mt19937 is
    draws = generator.randint(0, 2**32, size=2 * (queries - 1), dtype=np.uint32).astype(np.float64)
    uniform = (draws[0::2] + draws[1::2] * 2.0**32) / 2.0**64
    return np.concatenate([[0.0], np.cumsum(-np.log1p(-uniform))])


@lru_cache(maxsize=8)
def assignment(queries: int, chips: int, seed: int = SAMPLE_SEED) -> NDArray[np.int64]:
    """The chip that serves each query of a server: drawn evenly, so that each chip sees Poisson arrivals too."""
    return np.random.default_rng(seed).integers(0, chips, queries)


def per_second(rate: float) -> str:
    """A rate as text: a prefix only above a thousand, as "m/s" reads as metres."""
    return si(rate, "/s") if rate >= 1000 else f"{rate:.3g} /s"


def percentile_of(ascending: Floats, percentile: float) -> float:
    """A percentile of values in ascending order as LoadGen takes it: the value at the floor of their share."""
    return float(ascending[min(len(ascending) - 1, floor(len(ascending) * percentile / 100.0))])


@lru_cache(maxsize=64)
def most_late(queries: int, percentile: float) -> int:
    """Most queries of a run that may be late for early stopping to accept it; -1 where the run is too short for any.

    The largest t for which so few late ones, or fewer, would be seen with at most 1 - CONFIDENCE probability if the
    share of late ones were as large as the percentile allows.
    """
    share = 1.0 - percentile / 100.0
    ratio = log(share / (1.0 - share))
    most = min(queries, int(queries * share * 2) + 16)
    late = np.arange(most)
    steps = np.log((queries - late) / (late + 1.0)) + ratio
    chances = np.concatenate([[0.0], np.cumsum(steps)]) + queries * log(1.0 - share)
    below = np.logaddexp.accumulate(chances)
    return int(np.searchsorted(below, log(1.0 - CONFIDENCE))) - 1
