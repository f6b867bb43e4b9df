"""A decoder-only language model, and its prefill and decode as graphs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from presilicon.dtypes import BF16, FP32, Formats, NumberFormat
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend.blocks import Block, Experts
from presilicon.frontend.step import NormKind, Quantized, Step, check_sizes
from presilicon.graph import Attention, Embedding, Graph, Operator, Sampling, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """A decoder-only transformer: ``blocks`` in groups of equal ones, a table of ``vocabulary`` tokens before, a head behind.

    ``max_tokens`` is 0 where it is not published. ``tied``: the output head is the embedding table. ``learned_positions``
    rows of a position table (0: rotary or none).
    ``embedding_width`` differs from ``hidden`` where two more projections lie between (OPT-350m); 0: it does not.
    ``embedding_norm``, ``final_norm``: a norm before and behind the blocks. ``head_bias``: one value a token of the
    vocabulary. ``quantized``: which linear operators take a weight format below 16 bits; embeddings, routers, norms and
    the output head never do. ``published`` are the formats of the published checkpoint, ``source`` where the sizes are from.
    """

    name: str
    hidden: int
    vocabulary: int
    blocks: tuple[Block, ...]
    max_tokens: int
    tied: bool = False
    learned_positions: int = 0
    embedding_width: int = 0
    embedding_norm: bool = False
    final_norm: bool = True
    head_bias: bool = False
    norm: NormKind = "rms"
    quantized: Quantized = "all"
    published: Formats = field(default=Formats())
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_sizes(self, self.name, ("learned_positions", "embedding_width", "max_tokens"))
        if not self.blocks:
            raise ModelError("a language model without blocks", where=self.name)

    @property
    def layers(self) -> int:
        """Number of blocks, repeats counted."""
        return sum(block.repeat for block in self.blocks)

    @property
    def default_formats(self) -> Formats:
        """The formats of the published checkpoint."""
        return self.published

    @property
    def parameters(self) -> int:
        """All stored parameters; what is shared (a tied head) counts once."""
        return _parameters(self)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of look-up tables only: the token table unless it is the head too, and learned positions."""
        width = self.embedding_width or self.hidden
        return (0 if self.tied else self.vocabulary * width) + self.learned_positions * self.hidden

    @property
    def active_parameters(self) -> int:
        """Parameters that one token's arithmetic uses: no look-up tables, and only the experts it is sent to."""
        idle = 0
        for block in self.blocks:
            part = block.feed_forward
            if isinstance(part, Experts):
                matrices = (2 + part.gated) * part.hidden * self.hidden
                biases = (1 + part.gated) * part.hidden + self.hidden if part.bias else 0
                idle += block.repeat * (part.experts - part.experts_per_token) * (matrices + biases)
        return self.parameters - idle - self.embedding_parameters

    def flops_per_token(self, context: Size) -> Size:
        """Operations of the matmuls (2 a MAC, attention over ``context`` positions included) for one new token."""
        return 2 * self.decode(batch=1, context=context, formats=Formats()).macs

    def kv_bytes_per_token(self, format: NumberFormat) -> float:
        """Bytes one more position adds to the cache of a sequence, as long as no window is full."""
        return sum(b.repeat * b.kv_elements_per_token for b in self.blocks) * format.bytes_per_element

    def weight_bytes(self, formats: Formats) -> float:
        """Bytes of all stored parameters in ``formats``."""
        return float(self.decode(batch=1, context=1, formats=formats).weight_bytes)

    def prefill(self, *, batch: Size, tokens: Size, formats: Formats) -> Graph:
        """The pass over ``batch`` prompts of ``tokens`` tokens, giving the first new token of each.

        Both may be arrays that broadcast. WorkloadError where one is not a whole number from 1.
        """
        sequences, queries = _whole("batch", batch), _whole("tokens", tokens)
        return self._graph("prefill", sequences, queries, queries, sequences, 1, formats)

    def decode(self, *, batch: Size, context: Size, formats: Formats, beams: int = 1) -> Graph:
        """One more token for each of ``batch`` sequences (``beams`` of each) with ``context`` positions, itself included.

        ``batch`` and ``context`` may be arrays that broadcast. WorkloadError where one is not a whole number from 1.
        """
        kept = _whole("beams", beams)
        sequences, positions = _whole("batch", batch) * kept, _whole("context", context)
        return self._graph("decode", sequences, 1.0, positions, sequences, int(kept), formats)

    def _graph(
        self,
        phase: Literal["prefill", "decode"],
        sequences: Size,
        queries: Size,
        context: Size,
        last_rows: Size,
        beams: int,
        formats: Formats,
    ) -> Graph:
        """The graph of one pass; ``last_rows`` go through the output head."""

        def step(name: str = "", count: int = 1) -> Step:
            return Step(
                name=name,
                count=count,
                hidden=self.hidden,
                sequences=sequences,
                queries=queries,
                context=context,
                decode=phase == "decode",
                formats=formats,
                quantized=self.quantized,
                norm=self.norm,
            )

        once = step()
        width = self.embedding_width or self.hidden
        found: list[Operator] = [
            Embedding(
                name="embedding", rows=once.rows, width=width, table_rows=self.vocabulary, held=not self.tied, weights=once.wide
            )
        ]
        if self.learned_positions:
            found.append(
                Embedding(
                    name="positions", rows=once.rows, width=self.hidden, table_rows=self.learned_positions, weights=once.wide
                )
            )
        if width != self.hidden:
            found.append(once.linear("embedding_up", width, self.hidden, split="output", scope="none"))
        if self.embedding_norm:
            found.append(once.normalize("embedding_norm", self.hidden))
        for label, block in zip(_labels(self.blocks), self.blocks, strict=True):
            found += block.operators(step(label, block.repeat))
        if self.final_norm:
            found.append(once.normalize("final_norm", self.hidden, reads=2))
        if width != self.hidden:
            found.append(once.linear("head_down", self.hidden, width, split="output", scope="none", m=last_rows))
        found.append(
            once.linear(
                "head", width, self.vocabulary, split="output", scope="none", m=last_rows, output=FP32, bias=self.head_bias
            )
        )
        found.append(Sampling(name="sampling", rows=last_rows, vocabulary=self.vocabulary, beams=beams))
        held = once.rows * self.hidden * once.stream.bytes_per_element  # the residual stream, beside the largest operator
        return Graph(self.name, phase, tuple(found), samples=sequences / beams, activation_bytes=held + _working_bytes(found))


@lru_cache(maxsize=512)
def _parameters(model: LanguageModel) -> int:
    return int(model.decode(batch=1, context=1, formats=Formats(BF16, BF16, BF16)).parameters)


def _working_bytes(operators: list[Operator]) -> Size:
    """Inputs and outputs of the operator with the most of them, the KV cache left out."""
    most: Size = 0.0
    for operator in operators:
        moved = operator.input_bytes + operator.output_bytes
        if isinstance(operator, Attention) and operator.cached:
            moved = moved - operator.kv_read_bytes
        most = np.maximum(most, moved)
    return most if np.ndim(most) else float(most)


def _labels(blocks: tuple[Block, ...]) -> list[str]:
    """A prefix for the operators of each group of blocks, of what tells it from the others; none where there is one group."""
    if len(blocks) == 1:
        return [""]
    traits = [(_reach(block), _kind(block)) for block in blocks]
    telling = [i for i in (0, 1) if len({trait[i] for trait in traits}) > 1]
    labels = ["_".join(trait[i] for i in telling) or "block" for trait in traits]
    return [f"{label}{labels[:n].count(label) + 1 if labels.count(label) > 1 else ''}." for n, label in enumerate(labels)]


def _reach(block: Block) -> str:
    if block.attention is None:
        return "no_attention"
    return "window" if getattr(block.attention, "window", 0) else "full"


def _kind(block: Block) -> str:
    if block.feed_forward is None:
        return "no_feed_forward"
    return "experts" if isinstance(block.feed_forward, Experts) else "dense"


def _whole(name: str, value: Any) -> Size:
    """``value`` as float64 (exact up to 2**53, the same for scalars and arrays), each a whole number from 1."""
    try:
        array = np.asarray(value)
        usable = (
            array.dtype.kind in "iuf"
            and array.size > 0
            and bool(
                np.all(np.isfinite(array))
                and np.all(array >= 1)
                and np.all(array == np.floor(array))
                and np.all(array <= 2**53)
            )
        )
    except (TypeError, ValueError):
        usable = False
    if not usable:
        shown = repr(value)
        raise WorkloadError(f"{name} is {shown if len(shown) < 60 else shown[:57] + '...'}", hint="a whole number from 1")
    return array.astype(np.float64) if array.ndim else float(array)


def merged(blocks: list[Block]) -> tuple[Block, ...]:
    """Equal blocks (whatever their place) as one with their repeats added, in order of first appearance."""
    counts: dict[Block, int] = {}
    for block in blocks:
        key = replace(block, repeat=1)
        counts[key] = counts.get(key, 0) + block.repeat
    return tuple(replace(block, repeat=count) for block, count in counts.items())
