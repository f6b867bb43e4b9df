"""One replica of a served model: how its chips share it, in which formats, how many blocks of cache fit, what steps take."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from presilicon.chip import Chip
from presilicon.dtypes import Formats
from presilicon.errors import CapacityError, FormatError, WorkloadError
from presilicon.estimate.machine import Machine, machine
from presilicon.estimate.reporting import best_way, formats_for
from presilicon.estimate.service import Load, service_cost
from presilicon.frontend.language import LanguageModel
from presilicon.mapping import Parallelism
from presilicon.replay.blocks import Layout
from presilicon.replay.requests import Limits, Refusal, Request
from presilicon.replay.scheduler import Scheduler
from presilicon.replay.steps import StepTimes
from presilicon.replay.tables import Tables

# Requests in flight for which the way to share the model among the chips is chosen where none is given.
TYPICAL_BATCH = 32


@dataclass(frozen=True, slots=True)
class Speculation:
    """``tokens`` are proposed for each request and step and checked in one pass; each is right with chance ``acceptance``.

    ``draft`` is the model that proposes them, on the same chips; None: look-up in the text, which costs nothing.
    """

    tokens: int
    acceptance: float
    draft: LanguageModel | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.tokens <= 7:
            raise WorkloadError(f"{self.tokens} tokens are proposed", hint="from 1 to 7: a step checks 8 at most")
        if not 0.0 <= self.acceptance < 1.0:
            raise WorkloadError(f"the acceptance rate is {self.acceptance!r}", hint="from 0, below 1")

    @property
    def gain(self) -> float:
        """Tokens a step gives on the mean: those before the first wrong one, and one more (arXiv 2211.17192, eq. 1)."""
        a = self.acceptance
        return (1.0 - a ** (self.tokens + 1)) / (1.0 - a)


def _layout(tables: Tables, limits: Limits, chip: str) -> Layout:
    full, windows = tables.cache_layout()
    limit = float(tables.machine.memory_bytes) * limits.memory_share
    fixed = tables.fixed_bytes(limits.max_batched_tokens)
    room = limit - fixed
    per_token = full or sum(held for _, held in windows)
    block = per_token * limits.block_tokens
    # Chips whose maker publishes no memory: what runs must fit, its size never binds.
    rank = floor(min(room / block, 2.0**40)) if block else 2**40
    if room <= 0 or rank < 1:
        enough = max(2, ceil(tables.parallelism.chips * fixed / max(limit, 1.0)) + 1)
        raise CapacityError(
            f"weights and activations take {fixed / 1e9:.1f} GB a chip and {limit / 1e9:.1f} GB are usable",
            where=chip,
            hint=f"about {enough} chips, or a smaller weight format",
        )
    shares = tuple((window, held / block) for window, held in windows)
    return Layout(rank * tables.parallelism.data, rank, limits.block_tokens, full > 0.0, shares)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A replica as ``deploy`` makes it; schedulers of it share the tables."""

    model: LanguageModel
    chip: Chip
    parallelism: Parallelism
    formats: Formats
    limits: Limits
    times: StepTimes
    layout: Layout
    gain: float = 1.0

    @property
    def chips(self) -> int:
        """Chips of the replica."""
        return self.parallelism.chips

    @property
    def blocks(self) -> int:
        """Blocks of the KV cache."""
        return self.layout.total

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""
        return self.layout.block_tokens

    @property
    def max_tokens(self) -> int:
        """Longest context the model takes; 0 where none is published."""
        return self.model.max_tokens

    @property
    def machine(self) -> Machine:
        """The chip as the estimate sees it."""
        return self.times.tables.machine

    @property
    def token_bytes(self) -> float:
        """Bytes of cache of one token on all chips of a rank together, windows left out."""
        return self.times.tables.cache_layout()[0] * self.parallelism.tensor * self.parallelism.pipeline

    def refusal(self, request: Request) -> Refusal | None:
        """Why a request can never be served here; None where it can."""
        tokens = request.input_tokens + request.output_tokens
        if self.max_tokens and tokens > self.max_tokens:
            return Refusal("context", f"{tokens} tokens are more than the {self.max_tokens} that {self.model.name} takes")
        # The last token is never written to the cache.
        if self.layout.needed(tokens - 1) > self.layout.rank:
            most = self.layout.rank * self.layout.block_tokens
            return Refusal("memory", f"{tokens} tokens are more than the KV cache holds (about {most})")
        if not self.limits.chunked_prefill and request.input_tokens > self.limits.max_batched_tokens:
            return Refusal("memory", f"a prompt of {request.input_tokens} tokens is more than a step works on "
                           f"({self.limits.max_batched_tokens}) without chunked prefill")  # fmt: skip
        return None

    def scheduler(self) -> Scheduler:
        """A scheduler of this replica with nothing in flight."""
        return Scheduler(self.times, self.layout, self.limits, self.refusal, self.gain)


def deploy(
    model: LanguageModel,
    chip: Chip,
    *,
    chips: int | None = None,
    parallelism: Parallelism | None = None,
    formats: Formats | None = None,
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
    limits: Limits | None = None,
    speculation: Speculation | None = None,
    input_tokens: int = 1024,
    output_tokens: int = 128,
    found: Machine | None = None,
) -> Deployment:
    """A replica of ``chips`` chips; without ``parallelism`` the way to share the model that answers typical lengths soonest.

    ``found`` is used instead of the chip's own machine. Errors as those of the estimate: CapacityError where the weights do not
    fit, ParallelismError where the model does not divide, FormatError, ChipError.
    """
    if chip.missing():
        chip.need(chip.missing()[0] if "." in chip.missing()[0] else f"{chip.missing()[0]}.bf16")
    if chip.memory is not None and chip.memory.bytes is None:
        chip.need("memory.bytes")
    limits = limits or Limits()
    queries = 1 + (speculation.tokens if speculation else 0)
    if limits.max_batched_tokens < limits.max_running * queries:
        raise WorkloadError(
            f"{limits.max_running} requests in flight decode {limits.max_running * queries} tokens a step, "
            f"{limits.max_batched_tokens} are allowed",
            hint="fewer requests in flight, or more tokens a step",
        )
    found = found or machine(chip)
    try:
        used = formats or formats_for(model, weights, activations, kv_cache)
        load = Load(TYPICAL_BATCH, max(input_tokens, 1), max(output_tokens, 1))
        p = parallelism or best_way(found, model, load, used, chips or 1)
        service_cost(found, model, Load(p.data, 1, 1), formats=used, parallelism=p).require_fit(chip.name)
        tables = Tables(found, model, used, p, queries)
        draft = None
        if speculation and speculation.draft is not None:
            draft = StepTimes(Tables(found, speculation.draft, speculation.draft.default_formats, p))
        layout = _layout(tables, limits, chip.name)
    except FormatError as error:
        raise error.at(chip.name) from None
    return Deployment(
        model=model, chip=chip, parallelism=p, formats=used, limits=limits, times=StepTimes(tables, draft), layout=layout,
        gain=speculation.gain if speculation else 1.0,
    )  # fmt: skip
