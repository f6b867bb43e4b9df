"""What is asked of a served model: one request, why one is refused, and the limits of the scheduler that takes it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from presilicon.errors import WorkloadError

LONGEST = 10**9
"""No request holds more tokens; a larger number is a typing error."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt of ``input_tokens`` and the ``output_tokens`` that will be generated for it.

    ``prefix`` names the prompt's leading blocks of ``prefix_tokens`` tokens each; an entry stands for the whole prefix up to
    and with its block, so two requests share a prefix as far as their entries are equal. WorkloadError where a length is no
    whole number from 1 or the time is negative.
    """

    id: int | str
    arrival_s: float
    input_tokens: int
    output_tokens: int
    prefix: tuple[Hashable, ...] = ()
    prefix_tokens: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.input_tokens <= LONGEST or not 1 <= self.output_tokens <= LONGEST or self.prefix_tokens < 1:
            raise WorkloadError(
                f"{self.input_tokens} input and {self.output_tokens} output tokens",
                where=f"request {self.id}",
                hint="whole numbers from 1",
            )
        if not (self.arrival_s >= 0.0 and isfinite(self.arrival_s)):
            raise WorkloadError(f"arrival at {self.arrival_s} s", where=f"request {self.id}", hint="seconds from 0")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken: longer than the model's ``context``, than the ``memory``, or the ``queue`` is full."""

    reason: Literal["context", "memory", "queue"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How one replica schedules.

    ``max_running`` requests in flight and ``max_batched_tokens`` of them worked on in a step: vLLM's max_num_seqs and
    max_num_batched_tokens of an API server on chips of 70 GiB and more (vllm/engine/arg_utils.py, v0.10). Both hold for each
    data-parallel rank. ``max_waiting`` requests queue at most (None: any number). ``block_tokens`` is the KV cache's page.
    Without ``chunked_prefill`` a prompt is worked on whole. A request that must give up its memory has its tokens
    ``recompute``-d later, or they ``swap`` to the host over the host link. ``watermark`` of the blocks stay free when a
    request is admitted, so that those in flight can grow (vLLM's value). ``memory_share`` of the memory is used at all.
    """

    max_running: int = 1024
    max_batched_tokens: int = 8192
    max_waiting: int | None = None
    block_tokens: int = 16
    chunked_prefill: bool = True
    prefix_caching: bool = True
    preemption: Literal["recompute", "swap"] = "recompute"
    watermark: float = 0.01
    memory_share: float = 0.9

    def __post_init__(self) -> None:
        for name, most in (("max_running", 10**6), ("max_batched_tokens", 2**20), ("block_tokens", 65536)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise WorkloadError(f"{name} is {value!r}", hint=f"a whole number from 1 to {most}")
        if self.max_waiting is not None and self.max_waiting < 0:
            raise WorkloadError(f"max_waiting is {self.max_waiting}", hint="a whole number from 0")
        if self.preemption not in ("recompute", "swap"):
            raise WorkloadError(f"preemption is {self.preemption!r}", hint="recompute or swap")
        for name in ("watermark", "memory_share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise WorkloadError(f"{name} is {value!r}", hint="a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class Slo:
    """Longest time to the first token and per output token that a request may see (s); None: any."""

    ttft_s: float | None = None
    tpot_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("ttft_s", "tpot_s"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < 1e30:
                raise WorkloadError(f"{name} is {value!r}", hint="a finite number above zero")
