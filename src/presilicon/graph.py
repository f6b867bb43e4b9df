"""Operators with shapes and number formats, and graphs of them; no hardware.

A size is an integer, or an array of them: one graph then stands for a whole grid of batches and contexts, and everything
computed from it broadcasts. Repeated blocks are kept as repeats (``Operator.count``), never unrolled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import BF16, FP32, NumberFormat
from presilicon.errors import ModelError

Size = int | float | NDArray[Any]
Split = Literal["none", "output", "input", "heads", "experts"]


def _law(condition: bool, name: str, text: str, hint: str = "") -> None:
    if not condition:
        raise ModelError(text, where=name, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operator:
    """One operation on tensors, done ``count`` times in the graph.

    ``split`` says along which of its axes several chips may share it: its outputs, its inputs (a sum over the chips
    follows), its heads, its experts, or none (each chip does all of it).
    """

    kind: ClassVar[str] = "operator"
    name: str
    count: int = 1
    split: Split = "none"

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("name", "split") or isinstance(value, NumberFormat | bool | str):
                continue
            array = np.asarray(value)
            lowest = float(array.min()) if array.size else 0.0
            _law(bool(np.all(np.isfinite(array))) and lowest >= 0, self.name, f"{f.name} is {lowest:g}, not a size")

    @property
    def macs(self) -> Size:
        """Multiply-accumulates of one repeat."""
        return 0

    @property
    def vector_ops(self) -> Size:
        """Scalar operations outside the matrix units, one repeat."""
        return 0

    @property
    def weight_elements(self) -> Size:
        """Elements of stored parameters one repeat uses."""
        return 0

    @property
    def weight_bytes(self) -> Size:
        """Bytes of the parameters one repeat holds."""
        return 0

    @property
    def input_bytes(self) -> Size:
        """Unique bytes read besides the parameters, one repeat."""
        return 0

    @property
    def output_bytes(self) -> Size:
        """Unique bytes written, one repeat."""
        return 0

    @property
    def touched_weight_bytes(self) -> Size:
        """Unique bytes of parameters that one repeat reads."""
        return self.weight_bytes

    @property
    def unique_bytes(self) -> Size:
        """Bytes that must move if nothing stays on the chip between operators."""
        return self.touched_weight_bytes + self.input_bytes + self.output_bytes

    @property
    def flops(self) -> Size:
        """Operations of one repeat: 2 a MAC, and those outside the matrix units."""
        return 2 * self.macs + self.vector_ops


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matmul(Operator):
    """(m, k) x (k, n) -> (m, n), ``groups`` of them side by side.

    ``source`` is the format the left operand arrives in; where it is not ``activations``, it must be converted first.
    ``has_weights`` is False when both operands are activations. ``bias`` adds n parameters.
    """

    kind: ClassVar[str] = "matmul"
    m: Size
    k: Size
    n: Size
    groups: Size = 1
    weights: NumberFormat = BF16
    activations: NumberFormat = BF16
    source: NumberFormat = BF16
    output: NumberFormat = BF16
    has_weights: bool = True
    bias: bool = False

    @property
    def macs(self) -> Size:
        return self.groups * self.m * self.k * self.n

    @property
    def weight_elements(self) -> Size:
        return self.groups * (self.k * self.n + (self.n if self.bias else 0)) if self.has_weights else 0

    @property
    def weight_bytes(self) -> Size:
        return self.weight_elements * self.weights.bytes_per_element

    @property
    def input_bytes(self) -> Size:
        right = 0 if self.has_weights else self.groups * self.k * self.n * self.weights.bytes_per_element
        return self.groups * self.m * self.k * self.source.bytes_per_element + right

    @property
    def output_bytes(self) -> Size:
        return self.groups * self.m * self.n * self.output.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertMatmul(Operator):
    """A mixture-of-experts matmul: each of ``tokens`` rows goes through ``experts_per_token`` of ``experts`` (k, n) matrices.

    ``tokens`` counts rows before routing. ``experts`` may be the share of one chip, with ``routed_share`` of all routes.
    """

    kind: ClassVar[str] = "expert_matmul"
    tokens: Size
    k: Size
    n: Size
    experts: Size
    experts_per_token: Size
    routed_share: Size = 1.0
    weights: NumberFormat = BF16
    activations: NumberFormat = BF16
    source: NumberFormat = BF16
    output: NumberFormat = BF16
    bias: bool = False

    @property
    def routes(self) -> Size:
        """Rows multiplied, over all experts here."""
        return self.tokens * self.experts_per_token * self.routed_share

    @property
    def active_experts(self) -> Size:
        """Expected number of different experts hit, each route uniform and independent over tokens.

        E (1 - (1 - k/E)^T) with E all experts, k per token, T tokens; here scaled to the experts of this chip.
        """
        share = np.minimum(1.0, self.experts_per_token * self.routed_share / np.asarray(self.experts, dtype=np.float64))
        hit = self.experts * (1.0 - _power(1.0 - share, self.tokens))
        return np.minimum(hit, self.routes)

    @property
    def macs(self) -> Size:
        return self.routes * self.k * self.n

    @property
    def weight_elements(self) -> Size:
        return self.experts * (self.k * self.n + (self.n if self.bias else 0))

    @property
    def weight_bytes(self) -> Size:
        return self.weight_elements * self.weights.bytes_per_element

    @property
    def touched_weight_bytes(self) -> Size:
        return self.active_experts * self.k * self.n * self.weights.bytes_per_element

    @property
    def input_bytes(self) -> Size:
        return np.minimum(self.tokens, self.routes) * self.k * self.source.bytes_per_element

    @property
    def output_bytes(self) -> Size:
        return self.routes * self.n * self.output.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attention(Operator):
    """softmax(Q K^T) V for ``batch`` sequences, fused: scores never leave the chip.

    ``query_tokens`` new positions attend to ``kv_tokens`` (those included); ``causal`` drops the future; ``window`` of 0
    is full attention. ``shared_kv`` (MLA): V is the first ``value_dim`` elements of K, stored once.
    """

    kind: ClassVar[str] = "attention"
    batch: Size
    query_tokens: Size
    kv_tokens: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    value_dim: Size
    window: Size = 0
    causal: bool = True
    shared_kv: bool = False
    cached: bool = True
    activations: NumberFormat = BF16
    kv_cache: NumberFormat = BF16

    @property
    def reach(self) -> Size:
        """Positions of the cache that are read, per sequence."""
        window = np.where(np.asarray(self.window) == 0, self.kv_tokens, self.window)
        return np.minimum(self.kv_tokens, window + self.query_tokens - 1)

    @property
    def pairs(self) -> Size:
        """Query-key pairs of one head and sequence: w(w+1)/2 + (q-w)w from scratch, w = min(window, q)."""
        q, kv = np.asarray(self.query_tokens, dtype=np.float64), np.asarray(self.kv_tokens, dtype=np.float64)
        limit = np.where(np.asarray(self.window) == 0, kv, np.minimum(self.window, kv))
        if not self.causal:
            return q * limit
        # query i (1..q) sees kv - q + i positions, at most `limit`
        rising = np.clip(limit - (kv - q), 0.0, q)  # how many queries see less than or just the limit
        return rising * (kv - q) + rising * (rising + 1) / 2 + (q - rising) * limit

    @property
    def macs(self) -> Size:
        return self.batch * self.heads * self.pairs * (self.head_dim + self.value_dim)

    @property
    def vector_ops(self) -> Size:
        return 5 * self.batch * self.heads * self.pairs  # scale, max, subtract, exponential, sum

    @property
    def kv_elements_per_token(self) -> Size:
        """Elements of K and V stored a token."""
        return self.kv_heads * (self.head_dim if self.shared_kv else self.head_dim + self.value_dim)

    @property
    def kv_cache_bytes(self) -> Size:
        """Bytes of the cache that must be kept, one repeat."""
        if not self.cached:
            return 0
        kept = np.where(np.asarray(self.window) == 0, self.kv_tokens, np.minimum(self.kv_tokens, self.window))
        return self.batch * kept * self.kv_elements_per_token * self.kv_cache.bytes_per_element

    @property
    def kv_read_bytes(self) -> Size:
        """Unique bytes of K and V read, one repeat."""
        return self.batch * self.reach * self.kv_elements_per_token * self.kv_cache.bytes_per_element

    @property
    def input_bytes(self) -> Size:
        q = self.batch * self.query_tokens * self.heads * self.head_dim * BF16.bytes_per_element
        return q + self.kv_read_bytes

    @property
    def output_bytes(self) -> Size:
        return self.batch * self.query_tokens * self.heads * self.value_dim * BF16.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution(Operator):
    """A 2-D convolution (1-D with height 1) of ``batch`` images; ``groups`` divide the channels (depthwise: all of them)."""

    kind: ClassVar[str] = "convolution"
    batch: Size
    in_channels: Size
    out_channels: Size
    in_height: Size
    in_width: Size
    out_height: Size
    out_width: Size
    kernel_height: Size = 1
    kernel_width: Size = 1
    groups: Size = 1
    weights: NumberFormat = BF16
    activations: NumberFormat = BF16
    source: NumberFormat = BF16
    output: NumberFormat = BF16
    bias: bool = True

    @property
    def macs(self) -> Size:
        taps = (self.in_channels / np.asarray(self.groups)) * self.kernel_height * self.kernel_width
        return self.batch * self.out_height * self.out_width * self.out_channels * taps

    @property
    def weight_elements(self) -> Size:
        taps = (self.in_channels / np.asarray(self.groups)) * self.kernel_height * self.kernel_width
        return self.out_channels * (taps + (1 if self.bias else 0))

    @property
    def weight_bytes(self) -> Size:
        return self.weight_elements * self.weights.bytes_per_element

    @property
    def input_bytes(self) -> Size:
        return self.batch * self.in_channels * self.in_height * self.in_width * self.source.bytes_per_element

    @property
    def output_bytes(self) -> Size:
        return self.batch * self.out_channels * self.out_height * self.out_width * self.output.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elementwise(Operator):
    """Work outside the matrix units on ``elements``: activation, residual, normalization, pooling, rotation, softmax.

    ``reads`` and ``writes`` count elements moved per element; ``ops`` scalar operations per element. ``fused``: done
    in the epilogue of the operator before it, so nothing moves. ``parameters`` are held (scales of a norm).
    """

    kind: ClassVar[str] = "elementwise"
    elements: Size
    reads: float = 1.0
    writes: float = 1.0
    ops: float = 1.0
    parameters: Size = 0
    fused: bool = False
    activations: NumberFormat = BF16

    @property
    def vector_ops(self) -> Size:
        return self.ops * self.elements

    @property
    def weight_elements(self) -> Size:
        return self.parameters

    @property
    def weight_bytes(self) -> Size:
        return self.parameters * FP32.bytes_per_element if self.activations.bits < 16 else self.parameters * 2.0

    @property
    def input_bytes(self) -> Size:
        return 0 if self.fused else self.reads * self.elements * self.activations.bytes_per_element

    @property
    def output_bytes(self) -> Size:
        return 0 if self.fused else self.writes * self.elements * self.activations.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Normalization(Elementwise):
    """Layer norm or RMS norm over rows of ``elements`` in all (residual added on the way in where ``reads`` is 2)."""

    kind: ClassVar[str] = "normalization"
    ops: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding(Operator):
    """``rows`` look-ups of ``width`` elements in a table of ``table_rows``."""

    kind: ClassVar[str] = "embedding"
    rows: Size
    width: Size
    table_rows: Size
    held: bool = True  # False where the table is shared with the output projection
    weights: NumberFormat = BF16

    @property
    def weight_elements(self) -> Size:
        return self.table_rows * self.width if self.held else 0

    @property
    def weight_bytes(self) -> Size:
        return self.weight_elements * self.weights.bytes_per_element

    @property
    def touched_weight_bytes(self) -> Size:
        return self.rows * self.width * self.weights.bytes_per_element

    @property
    def output_bytes(self) -> Size:
        return self.rows * self.width * BF16.bytes_per_element


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampling(Operator):
    """Choice of a token in each of ``rows`` of ``vocabulary`` logits (arg-max, top-k; ``beams`` kept of each request)."""

    kind: ClassVar[str] = "sampling"
    rows: Size
    vocabulary: Size
    beams: int = 1

    @property
    def vector_ops(self) -> Size:
        return 4 * self.rows * self.vocabulary

    @property
    def input_bytes(self) -> Size:
        return self.rows * self.vocabulary * FP32.bytes_per_element

    @property
    def output_bytes(self) -> Size:
        return self.rows * 4


CollectiveKind = Literal["all_reduce", "all_gather", "reduce_scatter", "alltoall", "send"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collective(Operator):
    """Data exchanged among ``chips``; ``message_bytes`` is the whole buffer, as nccl-tests counts it."""

    kind: ClassVar[str] = "collective"
    collective: CollectiveKind
    message_bytes: Size
    chips: int


def _power(base: NDArray[np.float64], exponent: Size) -> NDArray[np.float64]:
    """``base`` to a non-negative ``exponent`` (its whole part) by squaring: the same bits whatever the array's layout."""
    result = np.ones(np.broadcast_shapes(np.shape(base), np.shape(exponent)))
    left = np.broadcast_to(np.asarray(exponent, dtype=np.int64), result.shape).copy()
    square = np.broadcast_to(np.asarray(base, dtype=np.float64), result.shape).copy()
    while np.any(left):
        result = np.where(left & 1, result * square, result)
        square = square * square
        left >>= 1
    return result


@dataclass(frozen=True, slots=True)
class Graph:
    """The operators of one pass: a prefill, one decode step, or one inference of a model without a cache."""

    name: str
    phase: Literal["prefill", "decode", "inference"]
    operators: tuple[Operator, ...]
    samples: Size = 1
    activation_bytes: Size = field(default=0)

    def __iter__(self) -> Iterator[Operator]:
        return iter(self.operators)

    def _sum(self, attribute: str) -> Size:
        total: Size = 0
        for operator in self.operators:
            total = total + operator.count * getattr(operator, attribute)
        return total

    @property
    def macs(self) -> Size:
        """Multiply-accumulates of the whole pass."""
        return self._sum("macs")

    @property
    def parameters(self) -> Size:
        """Stored parameters."""
        return self._sum("weight_elements")

    @property
    def weight_bytes(self) -> Size:
        """Bytes of all stored parameters."""
        return self._sum("weight_bytes")

    @property
    def unique_bytes(self) -> Size:
        """Bytes that must move if nothing stays on the chip between operators."""
        return self._sum("unique_bytes")

    @property
    def kv_cache_bytes(self) -> Size:
        """Bytes of KV cache kept after the pass."""
        total: Size = 0
        for operator in self.operators:
            if isinstance(operator, Attention):
                total = total + operator.count * operator.kv_cache_bytes
        return total

    def with_operators(self, operators: tuple[Operator, ...]) -> Graph:
        """The same pass with other operators."""
        return replace(self, operators=operators)

    def __str__(self) -> str:
        lines = [f"graph {self.name} {self.phase}"]
        lines += [f"  {o.count:4d} x {o.kind:14s} {o.name}" for o in self.operators]
        return "\n".join(lines)
