"""Fused attention over a KV cache, or over what was just computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from presilicon.dtypes import BF16, NumberFormat
from presilicon.graph._operator import Operator, Size


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
