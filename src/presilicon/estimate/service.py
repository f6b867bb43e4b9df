"""A language model served by a system of chips: prefill, decode, memory and energy of a batch in flight.

Everything broadcasts: a machine of many chips, an array of batches, both at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import Formats
from presilicon.errors import CapacityError, ParallelismError, WorkloadError
from presilicon.estimate.cost import Real
from presilicon.estimate.energy import static_w
from presilicon.estimate.machine import Machine
from presilicon.estimate.passes import PassCost, pass_cost
from presilicon.frontend.language import LanguageModel
from presilicon.graph import Attention, Graph, Size
from presilicon.mapping import Parallelism, partition
from presilicon.units import si

# Share of the memory that serving software fills with weights, KV cache and activations: vLLM's default of
# gpu_memory_utilization (vllm.config.CacheConfig, docs.vllm.ai, "Engine Arguments", read 2026-11-22).
USABLE_MEMORY = 0.9
# Tokens of prompts that are worked on at once: vLLM's and TensorRT-LLM's usual max_num_batched_tokens
# (docs.vllm.ai, "Optimization and Tuning", chunked prefill, read 2026-11-22).
PREFILL_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in flight on the whole system, with their lengths; each may be an array."""

    batch: Size = 1
    input_tokens: Size = 1024
    output_tokens: Size = 128
    beams: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "input_tokens", "output_tokens", "beams"):
            value = np.asarray(getattr(self, name))
            if value.dtype.kind not in "iuf" or not np.all((value >= 1) & (value <= 2**31) & (value == np.floor(value))):
                raise WorkloadError(f"{name} is {getattr(self, name)!r}", hint="a whole number from 1")


@dataclass(frozen=True, slots=True)
class ServiceCost:
    """One batch from its prompts to its last tokens, on the whole system; ``parts`` of it are in a pipeline at once."""

    load: Load
    parallelism: Parallelism
    prefill: PassCost
    decode: PassCost
    prefill_s: Real
    time_per_output_token_s: Real
    weight_bytes: Real
    kv_cache_bytes: Real
    activation_bytes: Real
    memory_limit_bytes: Real
    parts: Real
    prefill_j: Real
    decode_j: Real

    @property
    def time_to_first_token_s(self) -> Real:
        """From the prompts' arrival to the first token of each: the prefill of the whole batch."""
        return self.prefill_s

    @property
    def latency_s(self) -> Real:
        """From the prompts' arrival to the last token."""
        return self.prefill_s + (self.load.output_tokens - 1) * self.time_per_output_token_s

    @property
    def throughput_per_s(self) -> Real:
        """Requests finished a second."""
        return self.load.batch / self.latency_s

    @property
    def tokens_per_s(self) -> Real:
        """Output tokens a second, the system as a whole."""
        return self.throughput_per_s * self.load.output_tokens

    @property
    def energy_j(self) -> Real:
        """Energy of the whole batch on all chips."""
        return self.prefill_j + (self.load.output_tokens - 1) * self.decode_j

    @property
    def power_w(self) -> Real:
        """Mean power of all chips together."""
        return self.energy_j / self.latency_s

    @property
    def memory_bytes(self) -> Real:
        """Bytes one chip holds at the end of the batch."""
        return self.weight_bytes + self.kv_cache_bytes + self.activation_bytes

    @property
    def fits(self) -> bool | NDArray[np.bool_]:
        """Whether the fullest chip's bytes are within its usable memory."""
        return np.less_equal(self.memory_bytes, self.memory_limit_bytes)

    def require_fit(self, chip: str) -> None:
        """CapacityError with both numbers, and what would fit, where a chip's memory is too small."""
        if bool(np.all(self.fits)):
            return
        needed, limit = float(np.max(self.memory_bytes)), float(np.max(self.memory_limit_bytes))
        fixed, batch = float(np.max(self.weight_bytes)), float(np.max(self.load.batch))
        room = limit - fixed - float(np.max(self.activation_bytes))
        most = int(batch * room / max(float(np.max(self.kv_cache_bytes)), 1.0))
        if room > 0 and most >= 1:
            hint = f"a batch of {most} fits"
        else:
            chips = int(np.ceil(self.parallelism.chips * needed / limit))
            hint = f"about {chips} chips, or a smaller weight format, would fit"
        raise CapacityError(
            f"the model needs {_size(needed)} a chip and {_size(limit)} are usable "
            f"(weights {_size(fixed)}, KV cache {_size(float(np.max(self.kv_cache_bytes)))})",
            where=chip,
            hint=hint,
        )


def _size(amount: float) -> str:
    """Bytes for a message: tenths of GB, or three digits where that would not tell two small memories apart."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e10 else si(amount, "B")


def _latency(machine: Machine, cost: PassCost, pipeline: int, rows: Size, hidden: int) -> Real:
    """One pass through all stages: the operators, the host's work, and sending activations between stages."""
    send: Real = 0.0
    if pipeline > 1:
        send = (pipeline - 1) * (machine.constants.launch_s + rows * hidden * 2.0 / machine.link_bytes_per_s)
    return cost.latency_s * machine.constants.serving_slowdown + machine.constants.step_s + send


def service_cost(
    machine: Machine, model: LanguageModel, load: Load, *, formats: Formats, parallelism: Parallelism | None = None
) -> ServiceCost:
    """Cost of serving ``load`` on chips of one kind.

    A pipeline works on as many parts of the batch as it has stages, or as there are requests. ParallelismError where the model
    does not divide.
    """
    p = parallelism or Parallelism()
    _require_stages(model, p)
    mean_context = load.input_tokens + (load.output_tokens + 1) // 2
    replica = np.ceil(np.asarray(load.batch, dtype=np.float64) / p.data)
    micro = np.ceil(replica / p.pipeline)
    parts = np.ceil(replica / micro)
    longest = load.input_tokens + load.output_tokens
    prompts = partition(model.prefill(batch=micro, tokens=load.input_tokens, formats=formats), p)
    step = partition(model.decode(batch=micro, context=mean_context, formats=formats, beams=load.beams), p)
    prefill, decode = pass_cost(machine, prompts), pass_cost(machine, step)
    # The last part of the batch enters the pipeline when the others have left its first stage. A batch that does not divide has
    # fewer parts and is given as much time: one request more is never faster.
    filled = (p.pipeline + np.minimum(replica, p.pipeline) - 1.0) / p.pipeline
    prefill_s = _latency(machine, prefill, p.pipeline, micro * load.input_tokens, model.hidden) * filled
    decode_s = _latency(machine, decode, p.pipeline, micro * load.beams, model.hidden)
    # Pipelines working at the same time: every chip of a stage, every replica.
    together = p.tensor * p.data
    full = _cache_bytes(step, replica * load.beams, longest, p.pipeline)
    working = np.minimum(micro * load.input_tokens, PREFILL_TOKENS) / (micro * load.input_tokens)
    return ServiceCost(
        load=load,
        parallelism=p,
        prefill=prefill,
        decode=decode,
        prefill_s=prefill_s,
        time_per_output_token_s=decode_s,
        weight_bytes=step.weight_bytes / p.pipeline,
        kv_cache_bytes=full,
        activation_bytes=prompts.activation_bytes * working,
        memory_limit_bytes=machine.memory_bytes * USABLE_MEMORY,
        parts=parts,
        prefill_j=_energy_j(machine, prefill, prefill_s, p.pipeline, parts) * together,
        decode_j=_energy_j(machine, decode, decode_s, p.pipeline, parts) * together,
    )


@dataclass(frozen=True, slots=True)
class SteadyCost:
    """A system that always has ``load.batch`` requests in flight; prompts of newcomers are worked on between the steps.

    ``step_s`` is one step of decode, ``waiting_s`` what each of its tokens waits for the prompts of others besides.
    """

    load: Load
    parallelism: Parallelism
    prefill: PassCost
    decode: PassCost
    time_to_first_token_s: Real
    step_s: Real
    waiting_s: Real
    energy_j_per_token: Real
    weight_bytes: Real
    memory_bytes: Real
    memory_limit_bytes: Real

    @property
    def time_per_output_token_s(self) -> Real:
        """Of one request, waiting included."""
        return self.step_s + self.waiting_s

    @property
    def latency_s(self) -> Real:
        """From a prompt's arrival to its last token."""
        return self.time_to_first_token_s + (self.load.output_tokens - 1) * self.time_per_output_token_s

    @property
    def tokens_per_s(self) -> Real:
        """Output tokens a second, the system as a whole."""
        return self.load.batch / self.time_per_output_token_s

    @property
    def power_w(self) -> Real:
        """Mean power of all chips together."""
        return self.tokens_per_s * self.energy_j_per_token

    @property
    def fits(self) -> bool | NDArray[np.bool_]:
        """Whether the fullest chip's bytes are within its usable memory."""
        return np.less_equal(self.memory_bytes, self.memory_limit_bytes)


def steady_cost(
    machine: Machine, model: LanguageModel, load: Load, *, formats: Formats, parallelism: Parallelism | None = None
) -> SteadyCost:
    """Cost of a system kept full of ``load.batch`` requests.

    As in the validation of serving: a request's tokens wait for the prompts of the others in flight on its replica, which
    follow one another through its stages. ParallelismError where the model does not divide.
    """
    p = parallelism or Parallelism()
    _require_stages(model, p)
    mean_context = load.input_tokens + (load.output_tokens + 1) // 2
    replica = np.ceil(np.asarray(load.batch, dtype=np.float64) / p.data)
    micro = np.ceil(replica / p.pipeline)
    prompt = partition(model.prefill(batch=1, tokens=load.input_tokens, formats=formats), p)
    step = partition(model.decode(batch=micro, context=mean_context, formats=formats, beams=load.beams), p)
    prefill, decode = pass_cost(machine, prompt), pass_cost(machine, step)
    prompt_s = _latency(machine, prefill, p.pipeline, load.input_tokens, model.hidden)
    step_s = _latency(machine, decode, p.pipeline, micro * load.beams, model.hidden)
    # As many prompts as there are stages and replicas are worked on at once.
    full_s = prompt_s * ((2.0 * p.pipeline - 1.0) / p.pipeline)
    prompt_j = _energy_j(machine, prefill, full_s, p.pipeline, p.pipeline) * (p.tensor / p.pipeline)
    parts = np.ceil(replica / micro)
    step_j = _energy_j(machine, decode, step_s, p.pipeline, parts) * (p.tensor * p.data)
    others = np.maximum(load.batch / p.data - 1.0, 0.0) / p.pipeline
    kept = _cache_bytes(step, replica * load.beams, load.input_tokens + load.output_tokens, p.pipeline)
    weights = step.weight_bytes / p.pipeline
    working = np.minimum(micro * load.input_tokens, PREFILL_TOKENS) / load.input_tokens
    return SteadyCost(
        load=load,
        parallelism=p,
        prefill=prefill,
        decode=decode,
        time_to_first_token_s=prompt_s + step_s,
        step_s=step_s,
        waiting_s=others * prompt_s / load.output_tokens,
        energy_j_per_token=(prompt_j + (load.output_tokens - 1) * step_j / load.batch) / load.output_tokens,
        weight_bytes=weights,
        memory_bytes=weights + kept + prompt.activation_bytes * working,
        memory_limit_bytes=machine.memory_bytes * USABLE_MEMORY,
    )


def _require_stages(model: LanguageModel, p: Parallelism) -> None:
    if model.layers % p.pipeline:
        raise ParallelismError(f"{model.layers} layers are not divided by {p.pipeline} stages", where=model.name)


def _energy_j(machine: Machine, cost: PassCost, latency_s: Real, stages: int, parts: Real) -> Real:
    """Energy of one chip of each stage while ``parts`` parts of the batch pass through all stages.

    Each part costs its operators wherever they run; chips draw static power besides while they wait for the host, for their
    neighbours, or for a part that does not exist.
    """
    idle_s = np.maximum(stages * latency_s - parts * cost.latency_s, 0.0)
    return parts * cost.energy_j(machine) + static_w(machine) * idle_s


def _cache_bytes(step: Graph, batch: Size, tokens: Size, stages: int) -> Real:
    """Bytes of cache that a chip holds for ``batch`` sequences of ``tokens`` tokens, from its part of a decode step."""
    kept = (replace(op, batch=batch, kv_tokens=tokens) for op in step if isinstance(op, Attention))
    return step.with_operators(tuple(kept)).kv_cache_bytes / stages
