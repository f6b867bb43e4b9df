"""From real numbers to the integers of the array: scales and zero points of activations, weights of 8 and 4 bits.

Activations are asymmetric per tensor, as ONNX Runtime's quantiser chooses them (zero is a level); weights symmetric per
output column. int4 weights are levels of -8 to 7 times a whole multiplier of their group: Dai and others, "VS-Quant", 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Stored = NDArray[np.float32] | NDArray[np.float16]
# Elements of a slice of columns: so many are in fp32 at a time.
SLICE = 1 << 21
LEVELS4, LARGEST_MULTIPLIER = 7, 15


@dataclass(frozen=True, slots=True)
class Scale:
    """int8 q stands for ``scale`` * (q - ``zero_point``)."""

    scale: float
    zero_point: int = 0


def asymmetric(low: float, high: float) -> Scale:
    """The scale whose 256 levels reach from ``low`` to ``high``, 0 one of them."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255.0)) or 1.0
    return Scale(scale, int(np.clip(round(-128.0 - low / scale), -128, 127)))


def symmetric(low: float, high: float) -> Scale:
    """The scale whose levels -127 to 127 reach both ends."""
    return Scale(float(np.float32(max(-low, high) / 127.0)) or 1.0)


@dataclass(frozen=True, slots=True)
class Quantised:
    """Integer weights (k, n): ``effective`` int8 is what the array multiplies with, ``scale`` (n,) fp32 of its columns.

    ``stored`` is ``effective``, or the int4 levels that times ``multipliers`` (k / ``group``, n) give it.
    """

    effective: NDArray[np.int8]
    scale: Floats
    stored: NDArray[np.int8]
    multipliers: NDArray[np.uint8] | None = None
    group: int = 0


def eight_bits(weights: Stored, steps: Floats | None = None, least: Floats | None = None) -> Quantised:
    """Weights (k, n) as int8 with a scale per column; with ``steps``, the file's own levels where the columns have one each.

    ``least`` (n,): the smallest scales that the columns may have (see ``least_scales``).
    """
    return _in_slices(
        weights,
        lambda part, at: _eight_bits(part, None if steps is None else steps[:, at], None if least is None else least[at]),
    )


def _in_slices(weights: Stored, quantise: Callable[[Floats, slice], Quantised]) -> Quantised:
    """Some columns after the other: of a large matrix only a slice is there in fp32."""
    k, n = weights.shape
    width = max(1, SLICE // max(1, k))
    parts = [
        quantise(np.asarray(weights[:, first : first + width], np.float32), slice(first, first + width))
        for first in range(0, n, width)
    ]
    if len(parts) == 1:
        return parts[0]
    effective = np.concatenate([part.effective for part in parts], axis=1)
    scale = np.concatenate([part.scale for part in parts])
    first = parts[0]
    if first.multipliers is None:
        return Quantised(effective, scale, effective)
    stored = np.concatenate([part.stored for part in parts], axis=1)
    multipliers = np.concatenate([part.multipliers for part in parts if part.multipliers is not None], axis=1)
    return Quantised(effective, scale, stored, multipliers, first.group)


def _eight_bits(weights: Floats, steps: Floats | None, least: Floats | None) -> Quantised:
    if steps is not None and bool((steps == steps[:1]).all()) and (least is None or bool((steps[0] >= least).all())):
        levels = np.rint(weights / steps)
        if levels.size and -128 <= levels.min() <= levels.max() <= 127:
            whole = levels.astype(np.int8)
            return Quantised(whole, np.array(steps[0], np.float32), whole)
    largest = np.abs(weights).max(axis=0, initial=0.0)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    if least is not None:
        scale = np.maximum(scale, least).astype(np.float32)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    whole = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    return Quantised(whole, scale, whole)


def least_scales(bias: Floats | None, x: Scale) -> Floats | None:
    """The smallest scales of columns with which their bias, in units of the sums, stays below 2^30."""
    return None if bias is None else (np.abs(bias) / (x.scale * 2.0**30)).astype(np.float32)


def four_bits(weights: Stored, group: int) -> Quantised:
    """Weights (k, n) as int4 levels in groups of ``group`` rows, each group of a column with a multiplier of 1 to 15.

    The column's scale is tried at several sizes; the one with the least square error is taken.
    """
    return _in_slices(weights, lambda part, at: _four_bits(part, group))


def _four_bits(weights: Floats, group: int) -> Quantised:
    k, n = weights.shape
    groups = -(-k // group)
    padded = np.zeros((groups * group, n), np.float32)
    padded[:k] = weights
    blocks = padded.reshape(groups, group, n)
    wanted = np.abs(blocks).max(axis=1) / np.float32(LEVELS4)
    largest = wanted.max(axis=0)
    unit = np.where(largest > 0, largest / np.float32(LARGEST_MULTIPLIER), np.float32(1)).astype(np.float32)
    best: tuple[NDArray[np.float64], Floats, NDArray[np.int8], NDArray[np.uint8]] | None = None
    for shrink in (1.0, 0.93, 0.86):
        scale = (unit * np.float32(shrink)).astype(np.float32)
        multipliers = np.clip(np.rint(wanted / scale * np.float32(shrink)), 1, LARGEST_MULTIPLIER).astype(np.uint8)
        step = scale * multipliers
        levels = np.clip(np.rint(blocks / step[:, None]), -8, 7).astype(np.int8)
        error = np.square(blocks - levels * step[:, None]).sum(axis=(0, 1), dtype=np.float64)
        if best is None:
            best = error, scale, levels, multipliers
        else:
            better = error < best[0]
            best = (np.where(better, error, best[0]), np.where(better, scale, best[1]),
                    np.where(better, levels, best[2]), np.where(better, multipliers, best[3]))  # fmt: skip
    assert best is not None
    _, scale, levels, multipliers = best
    effective = (levels * multipliers[:, None].astype(np.int16)).astype(np.int8).reshape(-1, n)[:k]
    return Quantised(effective, scale, levels.reshape(-1, n)[:k], multipliers, group)


def bias_of(weights: Quantised, x: Scale, bias: Floats | None) -> NDArray[np.int32] | None:
    """The int32 bias in units of the sums: the real bias less the zero point's share; None where it is beyond int32."""
    unit = weights.scale.astype(np.float64) * x.scale
    shift = x.zero_point * weights.effective.sum(axis=0, dtype=np.int64)
    real = np.zeros(weights.scale.shape) if bias is None else bias.astype(np.float64)
    whole = np.rint(real / unit) - shift
    return whole.astype(np.int32) if np.abs(whole).max(initial=0) < 2**31 - 1 else None
