"""MLPerf's Server and Interactive scenarios of language models, through the replay's scheduler.

One replica takes its part of the Poisson arrivals; the rate is the highest at which 99 of 100 requests stay within both bounds
and that can be kept up. Prompts have the benchmark's mean length, answers are exponential about theirs, cut at the longest
allowed (all equal where the mean is the longest).
"""

from __future__ import annotations

from presilicon import frontend
from presilicon.chip import Chip
from presilicon.dtypes import Formats
from presilicon.errors import PresiliconError
from presilicon.estimate.machine import Machine
from presilicon.frontend.language import LanguageModel
from presilicon.mapping import Parallelism
from presilicon.replay import Distribution, Fleet, Lengths, Limits, Slo, deploy, poisson
from presilicon.replay.capacity import highest_rate
from presilicon.scenario.benchmarks import Benchmark

# Requests in flight on a rank at most (TensorRT-LLM's default max_batch_size, docs.nvidia.com, "Tuning max batch size").
RUNNING = 2048
# Requests of one run: so many a rank at least, and twice those in flight, so that it fills up and goes on.
LEAST_REQUESTS, TURNOVERS = 1024, 2
SEED, RESOLUTION = 2026, 0.04
# Rate that submissions reach over the highest that the replay finds: they keep a distance to bounds that one late request in a
# hundred breaks, for ten minutes. The median over the Server and Interactive rows that are not held back.
REACHED = 0.95


def server_tokens_per_s(
    machine: Machine,
    chip: Chip,
    benchmark: Benchmark,
    formats: Formats,
    parallelism: Parallelism,
    most: int,
    slo: Slo,
    beyond: float = 0.0,
) -> float:
    """Output tokens a second of a replica that holds about ``most`` requests; 0 where none above ``beyond`` meets the SLO."""
    model = frontend.load(benchmark.language_model)
    assert isinstance(model, LanguageModel)
    try:
        deployment = deploy(
            model, chip, parallelism=parallelism, formats=formats, limits=Limits(max_running=RUNNING), found=machine
        )
    except PresiliconError:
        return 0.0
    ranks = deployment.times.ranks
    number = max(LEAST_REQUESTS * ranks, TURNOVERS * min(most, RUNNING * ranks))
    mean = benchmark.output_tokens
    longest = benchmark.fact("max_output_tokens") or 4.0 * mean
    answers = Distribution("fixed", mean) if mean >= 0.9 * longest else Distribution("exponential", mean, 0.0, 2.0, longest)
    lengths = Lengths(Distribution("fixed", float(round(benchmark.input_tokens or 1.0))), answers)
    each = sum(r.output_tokens for r in poisson(1.0, lengths, number, SEED)) / number
    try:
        found = highest_rate(
            Fleet(deployment=deployment), lambda rate: poisson(rate, lengths, number, SEED), slo,
            resolution=RESOLUTION, beyond=beyond / each / REACHED,
        )  # fmt: skip
    except PresiliconError:
        return 0.0
    return REACHED * found.rate_per_s * each if found and found.rate_per_s else 0.0
