"""The operators of one pass, in order, and their sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from presilicon.graph._attention import Attention
from presilicon.graph._operator import Operator, Size


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
