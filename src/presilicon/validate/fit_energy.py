"""Fits the constants of energy to kernels whose power was measured, and says how far held-back shapes are met.

Not every reading is the energy of its kernel. Some were averaged over a window that the repeats filled only in part:
their power above idle grows in proportion to the latency. The fit takes such rows for what they are and leaves no constant
to them; errors are given over all rows, and over those whose window was full.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import load
from presilicon.dtypes import number_format
from presilicon.errors import FactsError
from presilicon.estimate.energy import LIMIT_SHARE, energy_j, power_limited_s
from presilicon.estimate.machine import Machine, machine
from presilicon.validate.facts import Table
from presilicon.validate.fit_collective import search

NAMES = ("operation_j_per_bit", "dram_j_per_byte")
START = (3.2e-14, 7.9e-11)
# Windows that a kernel's repeats filled only in part, in time of one repeat (s), as the readings show by format.
WINDOW_S = {"bf16": 65e-6, "fp8": 0.7e-3}
# A row counts as such where that explains it within this much and a full window does not; being one costs as much in the fit.
WINDOW_SLACK = 0.12
# Work (FLOP) past which a matmul at the limit takes as long as the limit demands.
LARGE_FLOP = 2e12


@dataclass(frozen=True, slots=True)
class Measured:
    """Matmul kernels of one format on one chip: shapes, what each took, and the power that was read."""

    dtype: str
    m: NDArray[np.float64]
    n: NDArray[np.float64]
    k: NDArray[np.float64]
    latency_s: NDArray[np.float64]
    power_w: NDArray[np.float64]

    @property
    def macs(self) -> NDArray[np.float64]:
        """Multiply-accumulates of each."""
        return self.m * self.n * self.k

    @property
    def dram_bytes(self) -> NDArray[np.float64]:
        """Bytes moved once: operands and a 16-bit output; 8-bit activations are made from 16-bit ones first."""
        width = number_format(self.dtype).bytes_per_element
        made = self.m * self.k * (2.0 + width) if width < 2.0 else 0.0
        return (self.m + self.n) * self.k * width + 2.0 * self.m * self.n + made

    @property
    def held_back(self) -> NDArray[np.bool_]:
        """Half of the (n, k) pairs, by hash."""
        return np.array([zlib.crc32(f"{n:.0f},{k:.0f}".encode()) % 2 == 1 for n, k in zip(self.n, self.k, strict=True)])

    def rows(self, chosen: NDArray[np.bool_]) -> Measured:
        """Some of the kernels."""
        arrays = (self.m, self.n, self.k, self.latency_s, self.power_w)
        return Measured(self.dtype, *(a[chosen] for a in arrays))


@dataclass(frozen=True, slots=True)
class EnergyFit:
    """Fitted constants; errors by (format, part): median absolute relative error, number of rows.

    Parts: "fitted", "held back", each also "(full window)", "(full window, below the limit)"; "naive, held back"; "latency
    at the limit" of large matmuls, whose time the power limit sets. A part without rows is left out.
    """

    constants: dict[str, float]
    errors: dict[tuple[str, str], tuple[float, int]]


def kernels_of(table: Table, chip: str) -> dict[str, Measured]:
    """Kernels of one chip by format; FactsError where the table has none of it."""
    own = table.take(table["chip"] == chip)
    if not len(own):
        raise FactsError(f"no rows of {chip}", where=table.path)
    power = "power_w" if "power_w" in own.columns else "latency_s"
    found = {}
    for dtype in sorted({str(d) for d in own["dtype"]}):
        rows = own.take(own["dtype"] == dtype)
        found[dtype] = Measured(dtype, *(rows[c] for c in ("m", "n", "k", "latency_s", power)))
    return found


def _power(m: Machine, d: Measured) -> NDArray[np.float64]:
    energy = energy_j(m, d.latency_s, multiplied=d.dtype, macs=d.macs, dram_bytes=d.dram_bytes)
    return np.asarray(energy / d.latency_s)


def _in_part(m: Machine, d: Measured) -> NDArray[np.float64]:
    """The reading where the window was filled only in part."""
    idle = m.constants.static_share * m.tdp_w
    return idle + (_power(m, d) - idle) * np.minimum(1.0, d.latency_s / WINDOW_S[d.dtype])


def _at_limit(m: Machine, d: Measured) -> Measured:
    return d.rows((2.0 * d.macs > LARGE_FLOP) & (d.power_w > 0.985 * LIMIT_SHARE * m.tdp_w))


def _limit_ratio(m: Machine, d: Measured) -> NDArray[np.float64]:
    large = _at_limit(m, d)
    return np.asarray(power_limited_s(m, multiplied=d.dtype, macs=large.macs, dram_bytes=large.dram_bytes) / large.latency_s)


def _loss(m: Machine, tables: dict[str, Measured]) -> float:
    """Mean absolute logarithm of energy, each row as what explains it better; and that of the latency at the limit."""
    rows, limits = [], []
    for d in tables.values():
        whole = np.abs(np.log(_power(m, d) / d.power_w))
        part = np.abs(np.log(_in_part(m, d) / d.power_w)) + WINDOW_SLACK
        rows.append(np.minimum(np.minimum(whole, part), 0.3))
        limits.append(np.minimum(np.abs(np.log(_limit_ratio(m, d))), 0.25))
    return float(np.mean(np.concatenate(rows)) + 0.3 * np.mean(np.concatenate(limits)))


def _naive(train: Measured, test: Measured) -> NDArray[np.float64]:
    """Ratios of the plain fit of energy to work, bytes and time (least relative squares, none negative)."""
    from scipy.optimize import nnls

    def terms(d: Measured) -> NDArray[np.float64]:
        scale = 1.0 / (d.latency_s * d.power_w)
        return np.stack([2e-12 * d.macs * scale, 1e-12 * d.dram_bytes * scale, 1e2 * d.latency_s * scale], axis=1)

    weights, _ = nnls(terms(train), np.ones(len(train.m)))
    return np.asarray(terms(test) @ weights)


def _median(ratios: NDArray[np.float64]) -> tuple[float, int]:
    return (float(np.median(np.abs(ratios - 1.0))), len(ratios)) if len(ratios) else (float("nan"), 0)


def _errors(m: Machine, d: Measured) -> dict[tuple[str, str], tuple[float, int]]:
    found = {}
    train, test = d.rows(~d.held_back), d.rows(d.held_back)
    for name, part in (("fitted", train), ("held back", test)):
        ratio = _power(m, part) / part.power_w
        explained = np.abs(_in_part(m, part) / part.power_w - 1.0) < WINDOW_SLACK
        full = ~(explained & (np.abs(ratio - 1.0) > WINDOW_SLACK) & (part.latency_s < WINDOW_S[d.dtype]))
        below = full & (part.power_w < 0.95 * LIMIT_SHARE * m.tdp_w)
        found[d.dtype, name] = _median(ratio)
        found[d.dtype, f"{name} (full window)"] = _median(ratio[full])
        found[d.dtype, f"{name} (full window, below the limit)"] = _median(ratio[below])
    found[d.dtype, "naive, held back"] = _median(_naive(train, test))
    found[d.dtype, "latency at the limit"] = _median(_limit_ratio(m, d))
    return {part: error for part, error in found.items() if error[1]}


def fit_energy(table: Table, chip: str = "nvidia-h200-sxm-141gb") -> EnergyFit:
    """Energy constants of a family, fitted on half of the shapes of one chip's kernels, all formats together."""
    tables = kernels_of(table, chip)
    train = {dtype: d.rows(~d.held_back) for dtype, d in tables.items()}
    plain = machine(load(chip))

    def with_values(values: NDArray[np.float64]) -> Machine:
        new = dict(zip(NAMES, map(float, values), strict=True))
        return replace(plain, constants=replace(plain.constants, **new))

    values = search(lambda x: _loss(with_values(x), train), START)
    fitted = with_values(values)
    errors: dict[tuple[str, str], tuple[float, int]] = {}
    for d in tables.values():
        errors |= _errors(fitted, d)
    return EnergyFit(dict(zip(NAMES, map(float, values), strict=True)), errors)


def operation_upper_bound(table: Table, chip: str = "nvidia-a100-sxm-80gb", dtype: str = "bf16") -> float:
    """Highest energy (J) per operation and bit with which the power limit allows the large matmuls measured on a chip.

    For chips whose power was not measured. A tenth of the rows may lie beyond: timers and clocks differ by a few per cent.
    """
    d = kernels_of(table, chip)[dtype]
    large = d.rows(2.0 * d.macs > 0.2 * LARGE_FLOP)
    plain = machine(load(chip))
    low, high = 0.0, 1e-12
    for _ in range(60):
        middle = 0.5 * (low + high)
        tried = replace(plain, constants=replace(plain.constants, operation_j_per_bit=middle))
        least = power_limited_s(tried, multiplied=dtype, macs=large.macs, dram_bytes=large.dram_bytes)
        low, high = (middle, high) if float(np.quantile(least / large.latency_s, 0.9)) <= 1.0 else (low, middle)
    return low
