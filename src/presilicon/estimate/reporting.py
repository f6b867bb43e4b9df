"""One model on one system: the estimate as a report, and the choice of parallelism where none was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from presilicon.chip import Chip
from presilicon.dtypes import Formats, number_format
from presilicon.errors import CapacityError, FormatError, ParallelismError, WorkloadError
from presilicon.estimate.energy import PARTS, cost_energy_j, cost_parts_j, static_w
from presilicon.estimate.intervals import interval
from presilicon.estimate.machine import Machine, machine
from presilicon.estimate.passes import PassCost, pass_cost
from presilicon.estimate.service import USABLE_MEMORY, Load, ServiceCost, service_cost
from presilicon.frontend.blocks import Experts
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.network import Network
from presilicon.mapping import Parallelism
from presilicon.report import EstimateReport, OperatorLine
from presilicon.units import si

DEFAULT_INPUT_TOKENS, DEFAULT_OUTPUT_TOKENS = 1024, 128


def formats_for(model: LanguageModel | Network, weights: str | None, activations: str | None, kv_cache: str | None) -> Formats:
    """Formats by name; those of the published checkpoint (bf16 for a network) where nothing is said."""
    if weights is None:
        base = model.default_formats if isinstance(model, LanguageModel) else Formats()
    else:
        base = Formats.parse(weights)
    return Formats(
        base.weights,
        number_format(activations) if activations else base.activations,
        number_format(kv_cache) if kv_cache else base.kv_cache,
    )


def ways(model: LanguageModel, chips: int, most_tensor: int = 64) -> Iterator[Parallelism]:
    """Ways to share a model among ``chips`` chips: tensor parallelism that divides them, then stages.

    A mixture's experts are also spread by expert, over tensor parallel chips or over replicas of everything else.
    """
    experts = any(isinstance(block.feed_forward, Experts) for block in model.blocks)
    for tensor in (t for t in range(1, min(chips, most_tensor) + 1) if chips % t == 0):
        stages = chips // tensor
        if model.layers % stages == 0:
            yield Parallelism(tensor=tensor, pipeline=stages)
            if experts and tensor > 1:
                yield Parallelism(tensor=tensor, pipeline=stages, expert=tensor)
        if experts and stages > 1:
            yield Parallelism(tensor=tensor, data=stages, expert=chips)


def best_way(found: Machine, model: LanguageModel, load: Load, formats: Formats, chips: int) -> Parallelism:
    """The way to share a model that answers soonest and fits; that which comes closest to fitting, where none does."""
    best: tuple[bool, float, Parallelism] | None = None
    for p in ways(model, chips):
        try:
            cost = service_cost(found, model, load, formats=formats, parallelism=p)
        except ParallelismError:
            continue
        fits = bool(np.all(cost.fits))
        value = (not fits, float(cost.latency_s if fits else cost.memory_bytes), p)
        if best is None or value[:2] < best[:2]:
            best = value
    if best is None:
        raise ParallelismError(
            f"{model.name} cannot be shared by {chips} chips",
            hint="a number whose factors divide its heads or its layers, or --data-parallel for replicas",
        )
    return best[2]


def require_length(model: LanguageModel, input_tokens: int, output_tokens: int) -> None:
    """WorkloadError where a prompt and its answer are longer than the model takes; no limit where none is published."""
    if model.max_tokens and input_tokens + output_tokens > model.max_tokens:
        raise WorkloadError(
            f"{input_tokens} input and {output_tokens} output tokens are more than {model.name} takes",
            hint=f"at most {model.max_tokens} together",
        )


def _checked(p: Parallelism | None, chips: int | None) -> Parallelism | None:
    if p is not None and chips is not None and p.chips != chips:
        raise ParallelismError(
            f"tensor {p.tensor} x pipeline {p.pipeline} x data {p.data} are {p.chips} chips, not {chips}",
            hint="leave --chips out, or make the product equal to it",
        )
    return p


def report_of(
    model: LanguageModel | Network,
    chip: Chip,
    *,
    chips: int | None = None,
    parallelism: Parallelism | None = None,
    batch: int = 1,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    beams: int = 1,
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
) -> EstimateReport:
    """The estimate of a model on chips of one kind.

    Without ``parallelism`` the way that answers soonest is taken. CapacityError where the model does not fit.
    """
    if chip.missing():
        chip.need(chip.missing()[0] if "." in chip.missing()[0] else f"{chip.missing()[0]}.bf16")
    found, formats = machine(chip), formats_for(model, weights, activations, kv_cache)
    given = _checked(parallelism, chips)
    try:
        if isinstance(model, Network):
            if output_tokens is not None or beams != 1:
                raise WorkloadError(f"{model.name} generates no tokens", hint="leave --output-tokens and --beams out")
            return _network_report(model, chip, found, formats, batch, given or Parallelism(data=chips or 1), input_tokens)
        return _served(model, chip, found, formats, batch, given, chips, input_tokens, output_tokens, beams)
    except FormatError as error:
        raise error.at(chip.name) from None


def _served(
    model: LanguageModel, chip: Chip, found: Machine, formats: Formats, batch: int, given: Parallelism | None,
    chips: int | None, input_tokens: int | None, output_tokens: int | None, beams: int,
) -> EstimateReport:  # fmt: skip
    load = Load(batch, input_tokens or DEFAULT_INPUT_TOKENS, output_tokens or DEFAULT_OUTPUT_TOKENS, beams)
    require_length(model, input_tokens or DEFAULT_INPUT_TOKENS, output_tokens or DEFAULT_OUTPUT_TOKENS)
    p = given or best_way(found, model, load, formats, chips or 1)
    cost = service_cost(found, model, load, formats=formats, parallelism=p)
    if (chip.memory is not None and chip.memory.bytes is None) or not np.isfinite(found.memory_bytes):
        chip.need("memory.bytes")
    cost.require_fit(chip.name)
    return _language_report(model, chip, found, formats, cost)


def _language_report(model: LanguageModel, chip: Chip, found: Machine, formats: Formats, cost: ServiceCost) -> EstimateReport:
    first, each = float(cost.time_to_first_token_s), float(cost.time_per_output_token_s)
    early, late = interval(chip.family, "serving ttft"), interval(chip.family, "serving tpot")
    steps = int(cost.load.output_tokens) - 1
    whole = float(cost.latency_s)
    spans = {
        "time_to_first_token_s": (first * early[0], first * early[1]),
        "time_per_output_token_s": (each * late[0], each * late[1]),
        "latency_s": (first * early[0] + steps * each * late[0], first * early[1] + steps * each * late[1]),
    }
    spans["throughput_per_s"] = _over(float(cost.load.batch), spans["latency_s"])
    spans["tokens_per_s"] = _over(float(cost.load.batch) * float(cost.load.output_tokens), spans["latency_s"])
    passes = cost.parallelism.tensor * cost.parallelism.data * float(cost.parts)
    lines = _lines(found, cost.prefill, "prefill.", 1, passes) + _lines(found, cost.decode, "decode.", steps, passes)
    return EstimateReport(
        model=model.name, chip=chip.name, chips=cost.parallelism.chips, parallelism=str(cost.parallelism), formats=str(formats),
        batch=int(cost.load.batch), latency_s=whole, time_to_first_token_s=first, time_per_output_token_s=each,
        throughput_per_s=float(cost.throughput_per_s), tokens_per_s=float(cost.tokens_per_s), energy_j=float(cost.energy_j),
        power_w=float(cost.power_w), memory_bytes=float(cost.memory_bytes), memory_limit_bytes=float(cost.memory_limit_bytes),
        intervals=spans, operators=lines,
        energy_parts=_parts(found, ((cost.prefill, passes), (cost.decode, passes * steps)), float(cost.energy_j)),
    )  # fmt: skip


def _network_report(
    model: Network, chip: Chip, found: Machine, formats: Formats, batch: int, p: Parallelism, tokens: int | None
) -> EstimateReport:
    if p.tensor > 1 or p.pipeline > 1 or p.expert > 1:
        raise ParallelismError("a network without tokens is shared by its samples only", hint="--data-parallel or --chips")
    share = -(-batch // p.data)
    cost = pass_cost(found, model.inference(batch=share, formats=formats, tokens=tokens))
    latency = float(cost.latency_s) + float(found.constants.query_s)
    energy = (float(cost.energy_j(found)) + float(static_w(found)) * float(found.constants.query_s)) * p.data
    low, high = interval(chip.family, "mlperf SingleStream")
    graph = cost.graph
    needed = float(graph.weight_bytes) + float(graph.activation_bytes)
    limit = float(found.memory_bytes) * USABLE_MEMORY
    if needed > limit:
        raise CapacityError(
            f"the network needs {si(needed, 'B')} a chip and {si(limit, 'B')} are usable (weights "
            f"{si(float(graph.weight_bytes), 'B')}, activations of {share} samples {si(float(graph.activation_bytes), 'B')})",
            where=chip.name,
            hint="a smaller batch, or more chips",
        )
    spans = {"latency_s": (latency * low, latency * high)}
    spans["throughput_per_s"] = _over(float(batch), spans["latency_s"])
    return EstimateReport(
        model=model.name, chip=chip.name, chips=p.chips, parallelism=str(p), formats=str(formats), batch=batch,
        latency_s=latency, time_to_first_token_s=None, time_per_output_token_s=None, throughput_per_s=batch / latency,
        tokens_per_s=None, energy_j=energy, power_w=energy / latency, memory_bytes=needed,
        memory_limit_bytes=limit, intervals=spans,
        operators=_lines(found, cost, "", 1, p.data), energy_parts=_parts(found, ((cost, p.data),), energy),
    )  # fmt: skip


def _over(amount: float, span: tuple[float, float]) -> tuple[float, float]:
    return amount / span[1], amount / span[0]


def _parts(found: Machine, passes: Iterable[tuple[PassCost, float]], whole_j: float) -> dict[str, float]:
    """What ``whole_j`` goes to: the parts of all operators, and static power while chips wait for the rest."""
    total = dict.fromkeys(PARTS, 0.0)
    for cost, times in passes:
        for op, one in zip(cost.graph.operators, cost.costs, strict=True):
            if op.count:
                for name, value in cost_parts_j(found, one).items():
                    total[name] += value * op.count * times
    total["static power"] += max(whole_j - sum(total.values()), 0.0)
    return total


def _lines(found: Machine, cost: PassCost, prefix: str, times: int, passes: float) -> tuple[OperatorLine, ...]:
    """Operators of a pass done ``times`` times; energy is that of ``passes`` at once (chips, parts of the batch)."""
    lines = []
    for op, one in zip(cost.graph.operators, cost.costs, strict=True):
        count = op.count * times
        latency = float(one.latency_s)
        if not count or (latency == 0.0 and not float(np.max(one.vector_ops))):
            continue
        peak = float(found.rate(one.multiplied)) if float(np.max(one.macs)) else np.inf
        lines.append(
            OperatorLine(
                name=f"{prefix}{op.name}", kind=op.kind, count=count, latency_s=latency * count,
                energy_j=float(cost_energy_j(found, one)) * count * passes, bound=one.bound,
                utilization=2.0 * float(np.max(one.macs)) / (latency * peak) if latency else 0.0,
                operations=(2.0 * float(np.max(one.macs)) + float(np.max(one.vector_ops))) * count,
                memory_bytes=float(np.max(one.dram_bytes)) * count,
                multiplied=found.native(one.multiplied) if float(np.max(one.macs)) else "",
            )
        )  # fmt: skip
    return tuple(lines)
