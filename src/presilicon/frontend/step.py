"""One pass through a block as its parts see it: who goes through, in which formats, and the operators they become.

Beside it, what all parts share: the largest size there is, and the choices of norms and of quantized operators.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from presilicon.dtypes import BF16, Formats, NumberFormat
from presilicon.errors import ModelError
from presilicon.graph import Attention, Elementwise, Matmul, Normalization, Size, Split

LARGEST = 2**24
"""No size of one part of a model reaches this; larger ones are typing errors."""

Quantized = Literal["all", "feed_forward", "experts"]
"""Which linear operators take a weight format below 16 bits: all, those of feed-forward parts, or the routed experts'."""
Scope = Literal["attention", "feed_forward", "none"]
NormKind = Literal["rms", "layer", "plain"]
QKNorm = Literal["none", "plain", "head", "full"]
SCALES = {"rms": 1, "layer": 2, "plain": 0}
"""Parameters of a norm per element of its width."""


def check_sizes(part: object, where: str, zero_allowed: tuple[str, ...] = ()) -> None:
    """Every integer field of ``part`` is a whole number from 1 (0 where allowed) to ``LARGEST``; ModelError otherwise."""
    for f in fields(part):  # type: ignore[arg-type]
        value = getattr(part, f.name)
        if f.type not in ("int", int):
            continue
        lowest = 0 if f.name in zero_allowed else 1
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= LARGEST:
            raise ModelError(f"{f.name} is {value!r}", where=where, hint=f"a whole number from {lowest}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpandedAttention(Attention):
    """Attention over K and V expanded from a latent (MLA prefill): what stays in the cache is the latent.

    ``latent_elements`` are kept a token, once for all heads; the expanded K and V are read but not kept.
    """

    latent_elements: Size

    @property
    def kv_cache_bytes(self) -> Size:
        return self.batch * self.kv_tokens * self.latent_elements * self.kv_cache.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pass through a block: who goes through it, in which formats, under which name.

    ``sequences`` of ``queries`` new tokens each attend to ``context`` positions, the new ones included.
    """

    name: str
    count: int
    hidden: int
    sequences: Size
    queries: Size
    context: Size
    decode: bool
    formats: Formats
    quantized: Quantized = "all"
    norm: NormKind = "rms"

    @property
    def rows(self) -> Size:
        """New tokens over all sequences."""
        return self.sequences * self.queries

    @property
    def stream(self) -> NumberFormat:
        """The format between operators: the activations' where it has 16 bits or more, else bf16."""
        return self.formats.activations if self.formats.activations.bits >= 16 else BF16

    @property
    def wide(self) -> NumberFormat:
        """The format of weights that stay unquantized."""
        return self.formats.weights if self.formats.weights.bits >= 16 else BF16

    def linear(
        self,
        name: str,
        k: Size,
        n: Size,
        *,
        split: Split = "none",
        bias: bool = False,
        m: Size | None = None,
        groups: Size = 1,
        scope: Scope = "attention",
        output: NumberFormat | None = None,
    ) -> Matmul:
        """A linear operator (m, k) x (k, n); ``m`` is all rows unless given. ``scope`` none: never below 16 bits."""
        low = scope != "none" and self.quantized in ("all", scope)
        return Matmul(
            name=f"{self.name}{name}",
            count=self.count,
            split=split,
            m=self.rows if m is None else m,
            k=k,
            n=n,
            groups=groups,
            weights=self.formats.weights if low else self.wide,
            activations=self.formats.activations if low else self.stream,
            source=self.stream,
            output=output or self.stream,
            bias=bias,
        )

    def pointwise(
        self, name: str, elements: Size, *, reads: float, writes: float, ops: float, split: Split = "none", parameters: Size = 0
    ) -> Elementwise:
        """Work on ``elements`` outside the matrix units."""
        return Elementwise(
            name=f"{self.name}{name}",
            count=self.count,
            split=split,
            elements=elements,
            reads=reads,
            writes=writes,
            ops=ops,
            parameters=parameters,
            activations=self.stream,
        )

    def normalize(
        self,
        name: str,
        width: int,
        *,
        parameters: int | None = None,
        reads: float = 1,
        writes: float = 1,
        split: Split = "none",
    ) -> Normalization:
        """A norm over all rows of ``width``; its scales (and biases of a layer norm) are counted unless given."""
        held = SCALES[self.norm] * width if parameters is None else parameters
        return Normalization(
            name=f"{self.name}{name}",
            count=self.count,
            split=split,
            elements=self.rows * width,
            reads=reads,
            writes=writes,
            parameters=held,
            activations=self.stream,
        )

    def attention_format(self) -> NumberFormat:
        """What Q K^T and P V multiply in: the cache's format where the activations have it too, else the stream's."""
        return self.formats.kv_cache if self.formats.kv_cache == self.formats.activations else self.stream
