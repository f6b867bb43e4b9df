"""Chips ranked on a model: each at its best batch, parallelism and allowed formats, within limits, with what it costs.

All chips are costed at once for each way of sharing the model: the estimate is array-valued over chips and batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon import chip as chips
from presilicon.chip import Chip
from presilicon.dtypes import BF16, FP8, INT8, Formats
from presilicon.economics import Operation, defaults, usd_per_hour, usd_per_million_tokens
from presilicon.economics.policy import policy_class
from presilicon.errors import ParallelismError, PresiliconError, WorkloadError
from presilicon.estimate import Load, Machine, machine, pass_cost, stack, steady_cost
from presilicon.estimate.intervals import interval
from presilicon.estimate.reporting import DEFAULT_INPUT_TOKENS, DEFAULT_OUTPUT_TOKENS, require_length, ways
from presilicon.estimate.service import USABLE_MEMORY, SteadyCost
from presilicon.evidence import published
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.network import Network
from presilicon.mapping import Parallelism
from presilicon.ranking import Entry, Ranking
from presilicon.replay import read_trace
from presilicon.replay.workload import read_workload
from presilicon.units import si

# Requests in flight that are tried: a thousand on each of eight chips at most.
BATCHES = tuple(float(2**i) for i in range(14))
DEFAULT_CHIPS = 8
# The smallest batch that gives this share of the best rate is taken: latency is not given away for nothing.
NEARLY = 0.99
# Bounds where none are given: MLPerf's server scenario of Llama2-70B (inference_policies, inference_rules.adoc).
DEFAULT_TTFT_S, DEFAULT_TPOT_S = 2.0, 0.2
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a candidate must hold: lengths, latency bounds (s), power of all chips (W), number of chips, weight formats."""

    input_tokens: int = DEFAULT_INPUT_TOKENS
    output_tokens: int = DEFAULT_OUTPUT_TOKENS
    ttft_s: float | None = DEFAULT_TTFT_S
    tpot_s: float | None = DEFAULT_TPOT_S
    max_power_w: float | None = None
    chips: int = DEFAULT_CHIPS
    formats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("input_tokens", "output_tokens", "chips"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**9:
                raise WorkloadError(f"{name} is {value!r}", hint="a whole number from 1")
        for name in ("ttft_s", "tpot_s", "max_power_w"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e30:
                raise WorkloadError(f"{name} is {value!r}", hint="a finite number above zero")


def workload(path: str) -> dict[str, Any]:
    """The limits a workload file sets: mean lengths of its requests, SLOs, formats; when requests arrive is not used.

    WorkloadError names the file and the key that is wrong.
    """
    read = read_workload(path)
    limits = {name: getattr(read, name) for name in ("ttft_s", "tpot_s", "max_power_w", "chips")}
    if read.trace is not None:
        requests = read_trace(read.trace, most=read.requests)
        for name in ("input_tokens", "output_tokens"):
            limits[name] = max(1, round(sum(getattr(r, name) for r in requests) / len(requests)))
    for name in ("input_tokens", "output_tokens"):
        lengths = getattr(read, name)
        if lengths is not None:
            limits[name] = max(1, round(lengths.mean))
    if read.formats:
        limits["formats"] = read.formats
    return {name: value for name, value in limits.items() if value is not None}


def match(model: LanguageModel | Network, **options: Any) -> Ranking:
    """Rank every product of the library for a model.

    Options: the fields of ``Limits``, ``years``, ``usd_per_kwh``, ``pue``, ``workload`` (a TOML file of limits), and
    ``template`` (True: the chips of our own template too, which nobody can buy).
    """
    given = dict(options)
    template = given.pop("template", False)
    operation = defaults(given.pop("years", None), given.pop("usd_per_kwh", None), given.pop("pue", None))
    path = given.pop("workload", None)
    given = (workload(path) if path else {}) | given
    limits = Limits(**given)
    library = [c for c in chips.library() if template or c.template is None]
    ready = [c for c in library if not c.missing()]
    blank = [Entry(chip=c.name, reason="not published: " + ", ".join(c.missing())) for c in library if c.missing()]
    if isinstance(model, Network):
        for name in ("output_tokens", "tpot_s"):
            if given.get(name) is not None:
                raise WorkloadError(f"{model.name} generates no tokens", hint=f"leave {name} out")
        entries = [_network_entry(model, c, limits, operation, given.get("input_tokens")) for c in ready]
    else:
        require_length(model, limits.input_tokens, limits.output_tokens)
        entries = _language_entries(model, ready, limits, operation)
    policy = {c.name: policy_class(c).to_json() for c in library if c.peak_ops_per_s}
    ranked = [replace(entry, policy=policy.get(entry.chip)) for entry in sorted(entries + blank, key=_order)]
    return Ranking(model=model.name, limits=_shown(limits), operation=operation, entries=tuple(ranked))


def _shown(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__dataclass_fields__}


def _order(entry: Entry) -> tuple[Any, ...]:
    """Cheapest first; those without a price by energy per token; then those that do not qualify, by name."""
    cost = entry.usd_per_million_tokens
    return (not entry.fits, cost is None, cost if cost is not None else entry.energy_j_per_token or 0.0, entry.chip)


def candidates(model: LanguageModel, limits: Limits) -> list[Formats]:
    """Formats that may be used: those named, else the checkpoint's own and 8-bit ones no narrower than it needs."""
    if limits.formats:
        return [Formats.parse(name) for name in limits.formats]
    own = model.default_formats
    found = [own]
    if own.weights.bits > 8:
        found += [Formats(FP8, FP8, FP8), Formats(INT8, INT8, BF16)]
    elif own.weights.bits < 8:
        found.append(Formats(own.weights, FP8, FP8))
    return found


@dataclass(frozen=True, slots=True)
class _Point:
    """One chip in one setting at its best batch."""

    batch: float
    parallelism: Parallelism
    formats: Formats
    tokens_per_s: float
    ttft_s: float
    tpot_s: float
    power_w: float
    energy_j_per_token: float

    @property
    def per_chip(self) -> float:
        return self.tokens_per_s / self.parallelism.chips


def _usable(c: Chip, formats: Formats, p: Parallelism) -> bool:
    """Whether a chip multiplies the formats itself and its links join as many chips as share every operator."""
    has, wide = c.peak_ops_per_s, formats.activations.name
    sixteen = "bf16" in has or "fp16" in has  # attention's probabilities need them whatever the weights are
    native = sixteen and (wide in has or wide in ("bf16", "fp16"))
    together = c.link.chips if c.link and c.link.chips else None
    joined = p.tensor * (p.data if p.expert > 1 else 1)
    return native and (together is None or joined <= together or joined == 1)


def _no_format(c: Chip) -> str:
    if not {"bf16", "fp16"} & set(c.peak_ops_per_s):
        return "no 16-bit rate is published, which attention needs"
    return "it multiplies none of the allowed number formats"


def _shared(ready: list[Chip], formats: Formats) -> tuple[list[Chip], Machine | None]:
    """The chips that can run in some formats, and all of them as one machine."""
    usable = [c for c in ready if _usable(c, formats, Parallelism())]
    if not usable:
        return [], None
    wanted = {formats.activations.name, "bf16"}
    machines = []
    for c in usable:
        one = machine(c)
        machines.append(replace(one, peak={name: one.rate(name) for name in wanted}))
    return usable, stack(machines).reshaped(1)


def _settings(model: LanguageModel, most: int) -> Iterator[Parallelism]:
    number = 1
    while number <= most:
        yield from ways(model, number)
        number *= 2


def _language_entries(model: LanguageModel, ready: list[Chip], limits: Limits, operation: Operation) -> list[Entry]:
    points: dict[str, _Point] = {}
    reasons: dict[str, str] = {c.name: _no_format(c) for c in ready}
    for formats in candidates(model, limits):
        usable, found = _shared(ready, formats)
        if found is None:
            continue
        for p in _settings(model, limits.chips):
            load = Load(np.array(BATCHES), limits.input_tokens, limits.output_tokens)
            try:
                cost = steady_cost(found, model, load, formats=formats, parallelism=p)
            except ParallelismError:
                continue
            _take(points, reasons, usable, cost, formats, p, limits)
    return [_entry(model, c, points.get(c.name), reasons[c.name], operation, limits) for c in ready]


def _take(
    points: dict[str, _Point], reasons: dict[str, str], usable: list[Chip], cost: SteadyCost, formats: Formats,
    p: Parallelism, limits: Limits,
) -> None:  # fmt: skip
    """Keep for each chip the setting that gives most tokens a second and chip, and why others do not qualify."""
    shape = (len(usable), len(BATCHES))

    def grid(values: Any) -> Floats:
        return np.broadcast_to(np.asarray(values, dtype=np.float64), shape)

    tpot, ttft = grid(cost.time_per_output_token_s), grid(cost.time_to_first_token_s)
    tokens, power, per_token = grid(cost.tokens_per_s), grid(cost.power_w), grid(cost.energy_j_per_token)
    fits = np.broadcast_to(np.asarray(cost.fits), shape)
    good = fits.copy()
    for value, bound in ((ttft, limits.ttft_s), (tpot, limits.tpot_s), (power, limits.max_power_w)):
        if bound is not None:
            good &= value <= bound
    best = np.argmax(good & (tokens >= NEARLY * np.max(np.where(good, tokens, -1.0), axis=1, keepdims=True)), axis=1)
    for row, c in enumerate(usable):
        if not _usable(c, formats, p):
            continue
        if not good[row].any():
            if c.name not in points:
                reasons[c.name] = _reason(c, cost, row, fits[row], ttft[row], tpot[row], power[row], limits, p, shape)
            continue
        at = int(best[row])
        point = _Point(
            BATCHES[at], p, formats, float(tokens[row, at]), float(ttft[row, at]), float(tpot[row, at]),
            float(power[row, at]), float(per_token[row, at]),
        )  # fmt: skip
        if c.name not in points or point.per_chip > points[c.name].per_chip:
            points[c.name] = point


def _reason(
    c: Chip, cost: SteadyCost, row: int, fits: NDArray[np.bool_], ttft: Floats, tpot: Floats, power: Floats,
    limits: Limits, p: Parallelism, shape: tuple[int, int],
) -> str:  # fmt: skip
    """One sentence, with both numbers, on why a chip does not qualify in a setting."""
    if not fits.any():
        needed = np.broadcast_to(np.asarray(cost.memory_bytes), shape)[row, 0]
        limit = np.broadcast_to(np.asarray(cost.memory_limit_bytes), shape)[row, 0]
        enough = int(np.ceil(p.chips * needed / limit))
        return f"needs {si(needed, 'B')} a chip of {p.chips}, usable {si(limit, 'B')}: about {enough} chips would hold it"
    ok = fits
    for name, values, bound, unit in (
        ("time to first token", ttft, limits.ttft_s, "s"),
        ("time per output token", tpot, limits.tpot_s, "s"),
        ("power", power, limits.max_power_w, "W"),
    ):
        if bound is not None and not (values[ok] <= bound).any():
            return f"{name} is {values[ok].min():.3g} {unit} at least, the limit is {bound:g} {unit}"
    return "no batch holds all limits at once"


def _entry(model: LanguageModel, c: Chip, point: _Point | None, reason: str, operation: Operation, limits: Limits) -> Entry:
    if c.memory.bytes is None if c.memory is not None else not c.on_chip_bytes:
        return Entry(chip=c.name, reason="not published: memory.bytes")
    if point is None:
        return Entry(chip=c.name, reason=reason, evidence=published(model.name, c.name))
    low, high = interval(c.family, "serving tpot")
    hourly, basis = usd_per_hour(c.price, point.power_w, point.parallelism.chips, operation)
    return Entry(
        chip=c.name, chips=point.parallelism.chips, fits=True, batch=point.batch, parallelism=str(point.parallelism),
        formats=str(point.formats), tokens_per_s_per_chip=point.per_chip, time_to_first_token_s=point.ttft_s,
        time_per_output_token_s=point.tpot_s, power_w=point.power_w, energy_j_per_token=point.energy_j_per_token,
        usd_per_million_tokens=None if hourly is None else float(usd_per_million_tokens(hourly, point.tokens_per_s)),
        price_basis=_basis(c, basis), low=point.per_chip / high, high=point.per_chip / low,
        evidence=published(model.name, c.name), terms=_terms(model, c, point, limits),
    )  # fmt: skip


def _basis(c: Chip, basis: str) -> str:
    field = {"purchase": "purchase_usd", "rent": "rent_usd_per_hour"}.get(basis)
    if field is None:
        return ""
    source = c.source_of(f"price.{field}")
    value = c.need(f"price.{field}")
    return f"{basis} {value:,.2f} USD{'/h' if basis == 'rent' else ''}" + (
        f" ({source.document}, {source.date})" if source else ""
    )


def _terms(model: LanguageModel, c: Chip, point: _Point, limits: Limits) -> Mapping[str, float]:
    """Seconds a token of one request takes, by kind of operator, at the chosen batch."""
    load = Load(point.batch, limits.input_tokens, limits.output_tokens)
    found = machine(c)
    cost = steady_cost(found, model, load, formats=point.formats, parallelism=point.parallelism)
    terms: dict[str, float] = {}
    for op, one in zip(cost.decode.graph.operators, cost.decode.costs, strict=True):
        terms[f"decode {op.kind}"] = terms.get(f"decode {op.kind}", 0.0) + op.count * float(one.latency_s)
    terms["host and stages"] = float(cost.step_s) - sum(terms.values())
    terms["others' prompts"] = float(cost.waiting_s)
    return terms


def _network_entry(model: Network, c: Chip, limits: Limits, operation: Operation, tokens: int | None) -> Entry:
    """One chip on a network without tokens: samples (of ``tokens``) stand for tokens, the batch's latency for the first one."""
    batch = np.array(BATCHES)
    best: Entry | None = None
    reason = "no number format of the chip is allowed"
    for name in limits.formats or ("int8", "fp8", "fp16", "bf16"):
        if name not in c.peak_ops_per_s:
            continue
        formats = Formats.parse(name)
        try:
            found = machine(c)
            cost = pass_cost(found, model.inference(batch=batch, formats=formats, tokens=tokens))
            latency = np.asarray(cost.latency_s) + found.constants.query_s
            energy = np.asarray(cost.energy_j(found))
        except WorkloadError:
            raise
        except PresiliconError as error:
            reason = str(error)
            continue
        rate, power = batch / latency, energy / latency
        needed = np.broadcast_to(np.asarray(cost.graph.weight_bytes + cost.graph.activation_bytes), batch.shape)
        good = needed <= found.memory_bytes * USABLE_MEMORY
        if not good.any():
            usable = float(found.memory_bytes) * USABLE_MEMORY
            reason = f"needs {si(float(needed[0]), 'B')} for one sample, usable {si(usable, 'B')}"
            continue
        for value, bound in ((latency, limits.ttft_s), (power, limits.max_power_w)):
            if bound is not None:
                good &= value <= bound
        if not good.any():
            reason = "no batch holds all limits"
            continue
        at = int(np.argmax(good & (rate >= NEARLY * np.max(np.where(good, rate, -1.0)))))
        hourly, basis = usd_per_hour(c.price, float(power[at]), 1, operation)
        low, high = interval(c.family, "mlperf Offline")
        entry = Entry(
            chip=c.name, chips=1, fits=True, batch=float(batch[at]), parallelism="1", formats=str(formats),
            tokens_per_s_per_chip=float(rate[at]), time_to_first_token_s=float(latency[at]), power_w=float(power[at]),
            energy_j_per_token=float(energy[at] / batch[at]),
            usd_per_million_tokens=None if hourly is None else float(usd_per_million_tokens(hourly, float(rate[at]))),
            price_basis=_basis(c, basis), low=float(rate[at]) * low, high=float(rate[at]) * high,
            evidence=published(model.name, c.name),
        )  # fmt: skip
        if best is None or (entry.tokens_per_s_per_chip or 0) > (best.tokens_per_s_per_chip or 0):
            best = entry
    return best or Entry(chip=c.name, reason=reason)
