"""Operators of the matrix units: matmul, matmul over experts, convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import BF16, NumberFormat
from presilicon.graph._operator import Operator, Size


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
