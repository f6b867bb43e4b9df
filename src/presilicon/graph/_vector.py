"""Operators outside the matrix units, and data exchanged among chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from presilicon.dtypes import BF16, FP32, NumberFormat
from presilicon.graph._operator import Operator, Size


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
