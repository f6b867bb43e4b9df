"""What is benchmarked: a network on chips, as the times of its batches, with what MLPerf's rules say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from presilicon import frontend
from presilicon.chip import Chip
from presilicon.dtypes import Formats
from presilicon.errors import CapacityError, FormatError, ModelError, WorkloadError
from presilicon.estimate.machine import Machine, machine
from presilicon.estimate.passes import pass_cost
from presilicon.estimate.reporting import formats_for
from presilicon.estimate.service import USABLE_MEMORY
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.network import Network
from presilicon.scenario import BatchTimes
from presilicon.scenario.benchmarks import Benchmark, benchmarks, network_formats
from presilicon.scenario.times import BATCHES, benchmark_times
from presilicon.units import si


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A network on ``chips`` chips of one kind: seconds of its batches on one chip, by how a scenario meets them.

    ``alone``: one query at a time, judged at the 90th percentile of lengths. ``stream``: batches without a pause.
    ``queued``: batches of what waits. ``bound_s``: MLPerf's latency bound of the server, where it is a benchmark.
    """

    model: str
    chip: str
    family: str
    chips: int
    formats: str
    alone: BatchTimes
    stream: BatchTimes
    queued: BatchTimes
    benchmark: str = ""
    bound_s: float | None = None
    samples: int = 0

    def times(self, scenario: str) -> BatchTimes:
        """The times that a scenario meets."""
        return {"single-stream": self.alone, "multi-stream": self.alone, "offline": self.stream}.get(scenario, self.queued)


def loaded(model: str, dims: Mapping[str, int] | None = None) -> tuple[LanguageModel | Network, Benchmark | None]:
    """A model by its name, file or folder, or by MLPerf's name of a benchmark; and the benchmark whose model it is."""
    known = benchmarks().get(model.strip().lower())
    if known is not None:
        return frontend.load(known.network or known.language_model), known
    try:
        found = frontend.load(model, dict(dims) if dims else None)
    except ModelError as error:
        close = [name for name in benchmarks() if name.startswith(model.strip().lower())]
        raise ModelError(error.message, where=error.where, hint=error.hint or " or ".join(close)) from None
    for one in benchmarks().values():
        if _short(frontend.load(one.network or one.language_model).name) == _short(found.name):
            return found, one
    return found, None


def _short(name: str) -> str:
    """A model's name without its owner, in small letters."""
    return name.rpartition("/")[2].lower()


def network_system(
    model: Network,
    benchmark: Benchmark | None,
    chip: Chip,
    chips: int = 1,
    *,
    input_tokens: int | None = None,
    weights: str | None = None,
    activations: str | None = None,
) -> System:
    """The system of a network; errors are those of ``estimate``.

    A benchmark's network runs as MLPerf's rules have it, in the fastest format of the chip that its accuracy allows;
    another network in the formats that ``estimate`` takes.
    """
    rules = benchmark if input_tokens is None else None  # lengths of one's own: not the benchmark's data
    formats = formats_for(model, weights, activations, None)
    if rules is not None and weights is activations is None:
        formats = next(iter(network_formats(rules, chip, "")), formats)
    for path in chip.missing():
        chip.need(path if "." in path else f"{path}.{formats.weights}")
    found = machine(chip)
    kept = _fitting(found, model, formats, input_tokens, chip)

    def times(**how: Any) -> BatchTimes:
        if rules is None:
            return _plain_times(found, model, formats, input_tokens, kept)
        whole = benchmark_times(found, rules, formats, **how)
        return BatchTimes(whole.batches[:kept], whole.latency_s[:kept])

    try:
        alone, stream, queued = times(longest=True), times(overlapped=True), times()
    except FormatError as error:
        raise error.at(chip.name) from None
    return System(
        model=model.name,
        chip=chip.name,
        family=chip.family,
        chips=chips,
        formats=str(formats),
        alone=alone,
        stream=stream,
        queued=queued,
        benchmark=rules.name if rules else "",
        bound_s=rules.bound_s("server", "latency") if rules else None,
        samples=int((rules.fact("samples") if rules else None) or 0),
    )


def _fitting(found: Machine, model: Network, formats: Formats, tokens: int | None, chip: Chip) -> int:
    """How many of ``BATCHES`` fit the memory of a chip; CapacityError where not even one sample does."""
    unknown = chip.memory is not None and chip.memory.bytes is None
    graph = model.inference(batch=np.array(BATCHES), formats=formats, tokens=tokens)
    needed = np.broadcast_to(np.asarray(graph.weight_bytes) + np.asarray(graph.activation_bytes), len(BATCHES))
    # A maker that publishes no size of the memory says that what runs must fit.
    limit = float("inf") if unknown else float(found.memory_bytes) * USABLE_MEMORY
    kept = int(np.sum(needed <= limit))
    if not kept:
        raise CapacityError(
            f"the network needs {si(float(needed[0]), 'B')} and {si(limit, 'B')} are usable",
            where=chip.name,
            hint="a larger chip",
        )
    return kept


def _plain_times(found: Machine, model: Network, formats: Formats, tokens: int | None, kept: int) -> BatchTimes:
    graph = model.inference(batch=np.array(BATCHES[:kept]), formats=formats, tokens=tokens)
    latency = np.broadcast_to(np.asarray(pass_cost(found, graph).latency_s) + found.constants.query_s, kept)
    return BatchTimes(BATCHES[:kept], tuple(float(v) for v in latency))


def require_positive(name: str, value: float | None) -> None:
    """WorkloadError where a bound, rate or time is given and is no finite number above zero."""
    if value is not None and not 0 < value < 1e30:
        raise WorkloadError(f"{name} is {value!r}", hint="a finite number above zero")
