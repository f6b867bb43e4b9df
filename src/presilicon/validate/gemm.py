"""Measured linear operators (chip, dtype, m, n, k, latency) against the cost of a matmul."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from presilicon.dtypes import BF16, Formats, NumberFormat
from presilicon.estimate.matmul import matmul_cost
from presilicon.graph import Matmul
from presilicon.validate.bench import LIBRARY, Bench, Library, Rows, needs, plain_roofline, predict_rows
from presilicon.validate.facts import Table
from presilicon.validate.score import Floats, Mask, Predictions, held_back

NAMES = (
    "launch_s",
    "wave_s",
    "matmul_share",
    "operand_bytes_per_cycle",
    "split_s",
    "memory_share",
    "quantize_s",
    "quantize_passes",
)
# A kernel is timed in a burst of repeats that is short beside the time over which the power limit averages: it runs as with
# this many times the limit. Settled at the limit, the same bf16 shapes take 1.20 times as long on H200 (median of 115 shapes
# that stand in both tables). Fitted once; from 1.5 on the limit hardly binds.
BURST = 1.5


def formats_of(dtype: str) -> tuple[NumberFormat, NumberFormat, NumberFormat]:
    """Formats of weights, activations, and of what comes in and goes out (16 bits at least, as between two operators)."""
    formats = Formats.parse(dtype)
    wide = formats.activations if formats.activations.bits >= 16 else BF16
    return formats.weights, formats.activations, wide


def operator(rows: Table, dtype: str) -> Matmul:
    """All rows as one matmul of array-valued sizes, the activations arriving in 16 bits."""
    weights, activations, wide = formats_of(dtype)
    m, n, k = rows["m"], rows["n"], rows["k"]
    return Matmul(name=dtype, m=m, n=n, k=k, weights=weights, activations=activations, source=wide, output=wide)


def multiplied(dtype: str) -> str:
    """The format a chip must multiply for this dtype: the wider operand's (weights alone may be narrower)."""
    weights, activations, _ = formats_of(dtype)
    return (activations if activations.bits >= weights.bits else weights).name


def shapes_held_back(table: Table) -> Mask:
    """Rows whose n and k no fit may see."""
    pairs = zip(table["n"].astype(int).tolist(), table["k"].astype(int).tolist(), strict=True)
    return held_back(f"{n},{k}" for n, k in pairs)


def _one(rows: Rows) -> tuple[Floats, Floats]:
    name = multiplied(rows.label)
    needs(rows.machine, name)
    op = operator(rows.table, rows.label)
    burst = replace(rows.machine, tdp_w=rows.machine.tdp_w * BURST)
    moved = op.m * op.k * op.activations.bytes_per_element + op.weight_bytes + op.output_bytes
    plain = plain_roofline(rows.machine, op.macs, rows.machine.rate(name), moved)
    return np.asarray(matmul_cost(burst, op).latency_s, dtype=np.float64), plain


def predict(table: Table, library: Library = LIBRARY) -> Predictions:
    """Latency (s) of every row, grouped by dtype."""
    held = shapes_held_back(table)
    return predict_rows(table, library, label=table["dtype"], measured=table["latency_s"], held=held, one=_one)


# int8 was measured in one framework only, which takes 1.5 times what the others take for fp8.
# Where no power was measured, the slowest large matmuls tell what an operation may cost at most.
BENCH = Bench("gemm", NAMES, predict, unfitted=("int8",), unmeasured=("operation_j_per_bit",))
