"""Language models: what is served, and the scenarios in virtual time, judged by first tokens and by those that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice
from math import ceil

import numpy as np

from presilicon.bench._rules import NO_BOUNDS, SAMPLE_SEED, SCENARIOS, Bounds, Floats, most_late, percentile_of, unit_schedule
from presilicon.bench._virtual import Measured, percentiles_of
from presilicon.chip import Chip
from presilicon.dtypes import Formats
from presilicon.errors import CapacityError, ParallelismError, PresiliconError, WorkloadError
from presilicon.estimate.reporting import DEFAULT_INPUT_TOKENS, DEFAULT_OUTPUT_TOKENS, formats_for, require_length
from presilicon.frontend.language import LanguageModel
from presilicon.replay import ClosedLoop, Deployment, Fleet, ReplayReport, Request, deploy, run
from presilicon.scenario import highest_rate
from presilicon.scenario.benchmarks import Benchmark, language_formats
from presilicon.units import si

# Requests of a run in virtual time: so many times those in flight, within these limits. It must fill up and go on.
TURNOVERS = 3
LEAST_REQUESTS, MOST_REQUESTS = 2048, 8192
MOST_OFFLINE = 24576
RATE_RESOLUTION = 0.01
SINGLE_STREAM_REQUESTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSystem:
    """A language model on ``chips`` chips: the ways to make replicas of them, fewest chips a replica first.

    Prompts have ``input_tokens``; answers ``output_tokens`` on the mean, all alike where ``longest`` is None, else exponential
    about the mean and cut there. Where there are ``given`` lengths (of prompt and answer), they follow one another instead.
    ``bounds`` are MLPerf's, where the model is a benchmark's; ``beams`` those of its search, of which one is served.
    """

    model: str
    chip: str
    family: str
    chips: int
    formats: str
    ways: tuple[Deployment, ...]
    input_tokens: float
    output_tokens: float
    longest: int | None = None
    given: tuple[tuple[int, int], ...] = ()
    beams: int = 1
    benchmark: str = ""
    samples: int = 0
    bounds: Bounds = NO_BOUNDS

    def lengths(self, requests: int) -> tuple[tuple[int, int], ...]:
        """Tokens of each prompt and of its answer; the same each time."""
        if self.given:
            return tuple(islice(cycle(self.given), requests))
        outputs = _outputs(requests, self.output_tokens, self.longest)
        return tuple((max(1, round(self.input_tokens)), output) for output in outputs)

    def replicas(self, way: Deployment) -> int:
        """Replicas of a way."""
        return self.chips // way.chips


@lru_cache(maxsize=8)
def _outputs(requests: int, mean: float, longest: int | None) -> tuple[int, ...]:
    if longest is None:
        return (max(1, round(mean)),) * requests
    drawn = np.random.default_rng(SAMPLE_SEED).exponential(mean, requests)
    for _ in range(8):  # cutting the longest lowers the mean
        lengths = np.clip(np.rint(drawn), 2, longest)
        drawn *= mean / lengths.mean()
    return tuple(int(n) for n in lengths)


def token_system(
    model: LanguageModel,
    benchmark: Benchmark | None,
    chip: Chip,
    chips: int = 1,
    *,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    given: Sequence[tuple[int, int]] = (),
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
) -> TokenSystem:
    """The system of a language model; errors are those of ``estimate``.

    A benchmark's model has the lengths, formats and bounds of MLPerf's rules unless others are given: one prompt's and
    answer's, or those of many requests.
    """
    own = input_tokens is not None or output_tokens is not None or bool(given)
    rules = benchmark if not own and benchmark and benchmark.input_tokens else None
    formats = formats_for(model, weights, activations, kv_cache)
    if benchmark is not None and weights is activations is kv_cache is None:
        formats = language_formats(chip, "") or formats
    longest: int | None = None
    bounds, lengths = NO_BOUNDS, (float(input_tokens or DEFAULT_INPUT_TOKENS), float(output_tokens or DEFAULT_OUTPUT_TOKENS))
    if given:
        means = np.mean(np.array(given), axis=0)
        lengths = float(means[0]), float(means[1])
    elif rules is not None:
        lengths = float(round(rules.input_tokens or 1)), rules.output_tokens
        limit = rules.fact("max_output_tokens") or 4 * rules.output_tokens
        longest = int(min(limit, (model.max_tokens or 10**9) - lengths[0]))
        if longest <= rules.output_tokens * 1.01:  # answers that all end at the limit
            longest = None
        bounds = Bounds(*(rules.bound_s("server", what) for what in ("ttft", "tpot", "latency")))
    hardest = max(given, key=sum) if given else (round(lengths[0]), longest or max(1, round(lengths[1])))
    require_length(model, *hardest)
    return TokenSystem(
        model=model.name,
        chip=chip.name,
        family=chip.family,
        chips=chips,
        formats=str(formats),
        ways=_ways(model, chip, chips, formats, Request(0, 0.0, *hardest)),
        input_tokens=lengths[0],
        output_tokens=lengths[1],
        longest=longest,
        given=tuple(given),
        beams=rules.beams if rules else 1,
        benchmark=rules.name if rules else "",
        samples=int((rules.fact("samples") if rules else None) or 0),
        bounds=bounds,
    )


def _ways(model: LanguageModel, chip: Chip, chips: int, formats: Formats, hardest: Request) -> tuple[Deployment, ...]:
    """Deployments on 1, 2, 4 ... chips that divide all of them and hold the model and its longest request."""
    found: list[Deployment] = []
    refused: PresiliconError = CapacityError("no number of chips holds it")
    for group in (g for g in range(1, chips + 1) if chips % g == 0):
        try:
            way = deploy(model, chip, chips=group, formats=formats, input_tokens=hardest.input_tokens)
        except (CapacityError, ParallelismError) as error:
            refused = error
            continue
        told = way.refusal(hardest)
        if told is None:
            found.append(way)
        else:
            refused = CapacityError(told.message, where=chip.name, hint="more chips, or a smaller weight format")
    if not found:
        raise refused
    return tuple(found)


def _requests(system: TokenSystem, arrivals: Floats) -> list[Request]:
    lengths = system.lengths(len(arrivals))
    return [Request(i, float(t), *lengths[i]) for i, t in enumerate(arrivals)]


def _replayed(system: TokenSystem, way: Deployment, requests: list[Request] | ClosedLoop) -> ReplayReport:
    return run(Fleet(deployment=way, replicas=system.replicas(way)), requests)


def _measured(report: ReplayReport, value: float, rate: float | None, reasons: tuple[str, ...] = ()) -> Measured:
    columns = report.records
    several = columns["output_tokens"] > 1
    return Measured(
        value=value,
        queries=report.requests,
        samples=report.requests,
        duration_s=report.virtual_s,
        percentiles=percentiles_of(columns["e2e_s"]),
        valid=not reasons,
        rate_per_s=rate,
        reasons=reasons,
        ttft_s=percentiles_of(columns["ttft_s"]),
        tpot_s=percentiles_of(columns["tpot_s"][several]) if several.any() else None,
        tokens=int(columns["output_tokens"].sum()),
    )


def single_stream(system: TokenSystem, requests: int = SINGLE_STREAM_REQUESTS) -> tuple[Measured, Deployment]:
    """One request after the other, on the way that answers them soonest."""
    best: tuple[Measured, Deployment] | None = None
    for way in system.ways:
        report = run(Fleet(deployment=way), ClosedLoop(1, _requests(system, np.zeros(requests))))
        found = _measured(report, percentile_of(np.sort(report.records["e2e_s"]), 90.0), None)
        if best is None or found.value < best[0].value:
            best = found, way
    assert best is not None
    return best


def in_flight(system: TokenSystem, way: Deployment) -> int:
    """Requests that all replicas hold at once, at most."""
    tokens = way.block_tokens * way.blocks
    fit = tokens // max(1, ceil(system.input_tokens + system.output_tokens))
    return max(1, min(fit, way.limits.max_running * way.times.ranks)) * system.replicas(way)


def requests_of(system: TokenSystem) -> int:
    """Requests of a run in virtual time."""
    most = max(in_flight(system, way) for way in system.ways)
    return min(MOST_REQUESTS, max(LEAST_REQUESTS, TURNOVERS * most))


def offline_requests(system: TokenSystem) -> int:
    """Requests of an offline run in virtual time: MLPerf's, that of the data set where that is smaller."""
    return min(MOST_OFFLINE, max(requests_of(system), system.samples or MOST_REQUESTS))


def offline(system: TokenSystem, requests: int, ways: tuple[Deployment, ...] | None = None) -> tuple[Measured, Deployment]:
    """All requests at once, on the way that gives most tokens a second; more chips a replica are tried until that falls."""
    best: tuple[Measured, Deployment] | None = None
    for way in ways or system.ways:
        report = _replayed(system, way, _requests(system, np.zeros(requests)))
        found = _measured(report, report.output_tokens_per_s, None)
        if best is not None and found.value < best[0].value:
            break
        best = found, way
    assert best is not None
    return best


def server(system: TokenSystem, way: Deployment, rate_per_s: float, bounds: Bounds, requests: int) -> Measured:
    """LoadGen's Poisson arrivals at a rate (requests/s); ``value`` is in output tokens a second."""
    report = _replayed(system, way, _requests(system, unit_schedule(requests) / rate_per_s))
    reasons = []
    for what, column, bound in (
        ("time to the first token", "ttft_s", bounds.ttft_s),
        ("time per output token", "tpot_s", bounds.tpot_s),
        ("latency", "e2e_s", bounds.latency_s),
    ):
        times = np.sort(report.records[column])
        times = times[np.isfinite(times)]
        if bound is None or not len(times):
            continue
        reached, late = percentile_of(times, 99.0), int(np.sum(times > bound))
        if reached > bound:
            reasons.append(f"the 99th percentile of the {what} is {si(reached, 's')}, over the bound of {si(bound, 's')}")
        elif late > most_late(len(times), 99.0):
            reasons.append(f"{late} of {len(times)} requests miss the bound of the {what}: too many to be 99 % sure")
    mean = float(np.mean(report.records["output_tokens"]))
    return _measured(report, rate_per_s * mean, rate_per_s, tuple(reasons))


@dataclass(frozen=True, slots=True)
class FoundWay:
    """The rate (requests/s) that a server keeps up within its bounds, and how its chips are made replicas."""

    rate_per_s: float
    way: Deployment


def find_rate(system: TokenSystem, bounds: Bounds, requests: int, told: Callable[[], None] = lambda: None) -> FoundWay:
    """Largest valid Poisson rate on any way; at most what offline gives, never lower for looser bounds.

    WorkloadError says what can be met where no rate is valid.
    """
    tops = [offline(system, offline_requests(system), (way,))[0].value / system.output_tokens for way in system.ways]
    # A way that fails at a rate is not tried at higher ones.
    chosen: dict[float, Deployment] = {}

    def valid(rate: float) -> bool:
        for index, way in enumerate(system.ways):
            if rate > tops[index]:
                continue
            told()
            if server(system, way, rate, bounds, requests).valid:
                chosen[rate] = way
                return True
            tops[index] = rate
        return False

    rate = highest_rate(valid, max(tops), RATE_RESOLUTION)
    if rate == 0.0:
        raise _cannot(system)
    return FoundWay(rate, chosen[rate])


def _cannot(system: TokenSystem) -> WorkloadError:
    """No rate is valid: what a request alone gets."""
    alone = [run(Fleet(deployment=way), ClosedLoop(1, _requests(system, np.zeros(8)))) for way in system.ways]
    ttft, tpot = (min(getattr(report, name).p50 for report in alone) for name in ("ttft_s", "tpot_s"))
    return WorkloadError(
        f"no rate keeps 99 % of the requests within the bounds: a request alone has its first token after {si(ttft, 's')} "
        f"and takes {si(tpot, 's')} per output token on {system.chips} x {system.chip}",
        where=SCENARIOS["server"].name,
        hint=f"--ttft-s {ttft * 3:.2g} --tpot-s {tpot * 2:.2g}, or more chips",
    )
