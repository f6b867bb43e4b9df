"""Number formats: bits, range, rounding, and their numpy twin.

The minifloats follow the Open Compute Project's "OCP 8-bit Floating Point Specification (OFP8)", revision 1.0, 2023,
and "OCP Microscaling Formats (MX) Specification", version 1.0, 2023; nvfp4 (blocks of 16 with an fp8 scale) follows
NVIDIA's "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference", 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import FormatError, nearest


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """One way to store a number.

    ``exponent_bits`` of 0 means a two's complement integer. ``block`` elements share one scale of ``scale_bits``.
    ``finite`` formats have no infinity (values saturate at ``max``).
    """

    name: str
    bits: int
    exponent_bits: int = 0
    mantissa_bits: int = 0
    max: float = 0.0
    block: int = 0
    scale_bits: int = 0
    finite: bool = True

    @property
    def is_integer(self) -> bool:
        """Whether this is a two's complement integer."""
        return self.exponent_bits == 0

    @property
    def bytes_per_element(self) -> float:
        """Bytes one element takes, its share of the block's scale included."""
        scale = self.scale_bits / self.block if self.block else 0.0
        return (self.bits + scale) / 8.0

    @property
    def min(self) -> float:
        """The lowest finite value."""
        return -self.max - 1 if self.is_integer else -self.max

    @property
    def smallest_normal(self) -> float:
        """The smallest positive normal value (1 for integers)."""
        return 1.0 if self.is_integer else float(2.0 ** (2 - 2 ** (self.exponent_bits - 1)))

    def round(self, values: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """``values`` rounded to this format (nearest, ties to even) and saturated, as float64, any shape.

        Blocks are taken along the last axis; their scale is a power of two for mxfp4, an fp8 number for nvfp4.
        """
        data = np.asarray(values, dtype=np.float64)
        if self.block:
            return self._round_blocks(data)
        return self._round_elements(data)

    def _round_elements(self, data: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.is_integer:
            return np.clip(np.rint(data), self.min, self.max)
        _, exponent = np.frexp(np.abs(data))
        lowest = int(np.log2(self.smallest_normal))
        step = np.ldexp(1.0, np.maximum(exponent - 1, lowest) - self.mantissa_bits)
        rounded = np.where(np.isfinite(data), np.rint(data / step) * step, data)
        if self.finite:
            return np.clip(rounded, -self.max, self.max)
        return np.where(np.abs(rounded) > self.max, np.copysign(np.inf, rounded), rounded)

    def _round_blocks(self, data: NDArray[np.float64]) -> NDArray[np.float64]:
        length = data.shape[-1] if data.ndim else 1
        if length % self.block:
            raise FormatError(f"the last axis has {length} elements, not a multiple of {self.name}'s block of {self.block}")
        blocks = data.reshape(*data.shape[:-1], length // self.block, self.block)
        peak = np.max(np.abs(blocks), axis=-1, keepdims=True)
        if self.scale_bits == 8 and self.block == 32:  # MX: a power of two from the largest element's exponent
            _, exponent = np.frexp(peak)
            _, own = np.frexp(self.max)
            scale = np.ldexp(1.0, np.clip(exponent - own, -127, 127))
        else:
            scale = FP8._round_elements(peak / self.max)
        scale = np.where(scale > 0, scale, 1.0)
        return (self._round_elements(blocks / scale) * scale).reshape(data.shape)

    def __str__(self) -> str:
        return self.name


INT4 = NumberFormat("int4", 4, max=7)
INT8 = NumberFormat("int8", 8, max=127)
INT32 = NumberFormat("int32", 32, max=2**31 - 1)
FP8 = NumberFormat("fp8", 8, 4, 3, max=448.0)
FP8_E5M2 = NumberFormat("fp8_e5m2", 8, 5, 2, max=57344.0, finite=False)
FP16 = NumberFormat("fp16", 16, 5, 10, max=65504.0, finite=False)
BF16 = NumberFormat("bf16", 16, 8, 7, max=float.fromhex("0x1.fep127"), finite=False)
FP32 = NumberFormat("fp32", 32, 8, 23, max=float.fromhex("0x1.fffffep127"), finite=False)
MXFP4 = NumberFormat("mxfp4", 4, 2, 1, max=6.0, block=32, scale_bits=8)
NVFP4 = NumberFormat("nvfp4", 4, 2, 1, max=6.0, block=16, scale_bits=8)

FORMATS: dict[str, NumberFormat] = {f.name: f for f in (INT4, INT8, INT32, FP8, FP8_E5M2, FP16, BF16, FP32, MXFP4, NVFP4)}
_ALIASES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "fp8_e4m3": "fp8",
    "e4m3": "fp8",
    "e5m2": "fp8_e5m2",
    "fp4": "nvfp4",
    "w4": "int4",
    "half": "fp16",
    "float": "fp32",
}


def number_format(name: str) -> NumberFormat:
    """The format called ``name`` (or a usual other name of it); FormatError names the nearest ones."""
    key = name.strip().lower()
    found = FORMATS.get(_ALIASES.get(key, key))
    if found is None:
        raise FormatError(
            f"unknown number format {name!r}", hint=nearest(name, list(FORMATS)) or "one of " + ", ".join(FORMATS)
        )
    return found


@dataclass(frozen=True, slots=True)
class Formats:
    """The number formats a model runs in: its weights, the activations it multiplies them by, and its KV cache."""

    weights: NumberFormat = BF16
    activations: NumberFormat = BF16
    kv_cache: NumberFormat = BF16

    @classmethod
    def parse(cls, weights: str, activations: str | None = None, kv_cache: str | None = None) -> Formats:
        """Formats by name; activations default to the weights' format where a matrix unit multiplies it, else bf16."""
        w = number_format(weights)
        wide = w if w in (FP8, INT8, NVFP4, FP16, FP32) else BF16
        a = number_format(activations) if activations else wide
        kv = number_format(kv_cache) if kv_cache else (a if a.bits >= 16 else BF16)
        return cls(w, a, kv)

    def __str__(self) -> str:
        return f"{self.weights}/{self.activations}/{self.kv_cache}"
