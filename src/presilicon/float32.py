"""The fp32 arithmetic of the vector unit on arrays of bits: what reference, simulator and RTL mean by each operation.

Values are ``uint32`` arrays of IEEE 754 binary32 bits, any shape, broadcast like numpy; results are new arrays. All operations
round once, to nearest even. Subnormal operands and results are zero with their sign, where a result is subnormal when the
rounded result is; every NaN that is computed is 0x7FC00000. No operation warns or raises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint32]
Int32 = NDArray[np.int32]
Int8 = NDArray[np.int8]

NAN = 0x7FC00000
INFINITY = 0x7F800000
_SIGN = np.uint32(0x80000000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INF = np.uint32(INFINITY)
_NAN = np.uint32(NAN)
_ZERO = np.uint32(0)


def bits(values: object) -> Bits:
    """The bits of numbers, rounded to fp32 first; subnormals and NaN payloads stay as they are."""
    return np.asarray(values, np.float32).view(np.uint32)


def numbers(a: Bits) -> NDArray[np.float32]:
    """The numbers of bits, a view."""
    return np.asarray(a, np.uint32).view(np.float32)


def _flush(a: Bits) -> Bits:
    return np.where(a & _INF, a, a & _SIGN)


def canonical(a: Bits) -> Bits:
    """Subnormals to zero with their sign, every NaN to 0x7FC00000."""
    return np.where((a & _MAGNITUDE) > _INF, _NAN, _flush(a))


def negate(a: Bits) -> Bits:
    """The sign changed, of a NaN too."""
    return a ^ _SIGN


def add(a: Bits, b: Bits) -> Bits:
    """The sum."""
    with np.errstate(all="ignore"):
        return canonical(np.asarray(numbers(_flush(a)) + numbers(_flush(b))).view(np.uint32))


def multiply(a: Bits, b: Bits) -> Bits:
    """The product."""
    with np.errstate(all="ignore"):
        return canonical(np.asarray(numbers(_flush(a)) * numbers(_flush(b))).view(np.uint32))


def maximum(a: Bits, b: Bits) -> Bits:
    """The larger one; NaN where either is, and +0 of -0 and +0."""
    a, b = _flush(a), _flush(b)
    with np.errstate(all="ignore"):
        larger = np.where(numbers(a) > numbers(b), a, b)
        equal = numbers(a) == numbers(b)
        unordered = np.isnan(numbers(a)) | np.isnan(numbers(b))
    return np.where(unordered, _NAN, np.where(equal, a & b, larger))


def select(a: Bits, b: Bits, c: Bits) -> Bits:
    """``b`` where ``a`` >= 0, else ``c``, both canonical; -0 counts as >= 0, NaN does not."""
    with np.errstate(all="ignore"):
        return canonical(np.where(numbers(_flush(a)) >= 0, b, c))


def round_even(a: Bits) -> Bits:
    """The nearest whole number, ties to even; the sign of zero stays."""
    with np.errstate(all="ignore"):
        return canonical(np.asarray(np.rint(numbers(_flush(a)))).view(np.uint32))


def from_int32(values: Int32) -> Bits:
    """An integer as fp32, rounded."""
    return np.asarray(np.asarray(values, np.int32).astype(np.float32)).view(np.uint32)


def to_int32(a: Bits) -> Int32:
    """The nearest integer, ties to even, saturated; NaN gives 0."""
    with np.errstate(all="ignore"):
        whole = np.rint(numbers(a).astype(np.float64))
    return np.clip(np.where(np.isnan(whole), 0.0, whole), -(2.0**31), 2.0**31 - 1).astype(np.int32)


def to_int8(a: Bits, zero_point: int = 0) -> Int8:
    """The nearest integer, ties to even, plus ``zero_point``, saturated; NaN gives ``zero_point``."""
    with np.errstate(all="ignore"):
        whole = np.rint(numbers(a))
    return np.clip(np.where(np.isnan(whole), np.float32(0), whole) + np.float32(zero_point), -128, 127).astype(np.int8)


@cache
def reciprocal_table() -> tuple[int, ...]:
    """Fraction bits of 1 / a by the upper 7 fraction bits of ``a``: ``vfrec7`` of RISC-V "V" version 1.0.

    Each entry has the least largest relative error over its interval, as the specification defines its table.
    """
    return tuple(_least_error(1 + i / 128, 1 + (i + 1) / 128, lambda x: 1 / x) for i in range(128))


@cache
def reciprocal_root_table() -> tuple[int, ...]:
    """Fraction bits of 1 / sqrt(a) by the lowest bit of the exponent and the upper 6 fraction bits: ``vfrsqrt7``."""
    return tuple(
        _least_error(scale * (1 + i / 64), scale * (1 + (i + 1) / 64), lambda x: x**-0.5) for scale in (2, 1) for i in range(64)
    )


def _least_error(low: float, high: float, function: Callable[[float], float]) -> int:
    def error(entry: int) -> float:
        value = (1 + entry / 128) / 2
        return max(abs(value / function(low) - 1), abs(value / function(high) - 1))

    return min(range(128), key=error)


def reciprocal_seed(a: Bits) -> Bits:
    """1 / a to 7 bits; of zero infinity, of infinity zero, with the sign; zero where it would be subnormal."""
    a = np.asarray(a, np.uint32)
    exponent = (a >> 23).astype(np.int32) & 0xFF
    table = np.array(reciprocal_table(), np.uint32)
    value = table[(a >> 16) & 0x7F] << 16 | (np.maximum(253 - exponent, 0) << 23).astype(np.uint32)
    value = np.where(exponent == 0, _INF, np.where(exponent >= 253, _ZERO, value)) | (a & _SIGN)
    return np.where((a & _MAGNITUDE) > _INF, _NAN, value)


def reciprocal_root_seed(a: Bits) -> Bits:
    """1 / sqrt(a) to 7 bits; of zero infinity with its sign, of infinity zero, below zero NaN."""
    a = np.asarray(a, np.uint32)
    exponent = (a >> 23).astype(np.int32) & 0xFF
    table = np.array(reciprocal_root_table(), np.uint32)
    value = table[(a >> 17) & 0x7F] << 16 | ((380 - exponent) // 2 << 23).astype(np.uint32)
    value = np.where(exponent == 0, _INF | (a & _SIGN), np.where(exponent == 255, _ZERO, value))
    bad = ((a & _MAGNITUDE) > _INF) | ((a & _SIGN != 0) & (exponent != 0))
    return np.where(bad, _NAN, value)
