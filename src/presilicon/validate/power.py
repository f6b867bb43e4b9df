"""Measured power of matmul kernels against energy: the kernel's measured latency is given, its energy predicted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from presilicon.estimate.cost import Cost
from presilicon.estimate.energy import LIMIT_SHARE, cost_energy_j, power_limited_s, static_w
from presilicon.estimate.machine import Machine
from presilicon.estimate.matmul import matmul_cost
from presilicon.validate.bench import LIBRARY, Bench, Library, Rows, needs, predict_rows
from presilicon.validate.facts import Table
from presilicon.validate.gemm import multiplied, operator, shapes_held_back
from presilicon.validate.score import Floats, Predictions

NAMES = ("operation_j_per_bit", "dram_j_per_byte")
# Operations past which a matmul is large: its energy per operation is quoted.
LARGE_FLOP = 2e12
# Some readings of the H200 table were averaged over a window that the kernel's repeats filled only in part: their power above
# idle grows in proportion to the latency of one repeat, up to these (s). A fit takes such rows for what they are, at a price.
WINDOW_S = {"bf16": 65e-6, "fp8": 0.7e-3}
WINDOW_SLACK = 0.12
# Errors (logarithms) of energy, and of the time that the limit demands of large matmuls, count no more than these; and the
# weight of the second.
WORST_ENERGY, WORST_LIMIT, LIMIT_WEIGHT = 0.3, 0.25, 0.3
# The comparison in place of a roofline, nothing fitted: power at this share of the TDP, whatever runs.
PLAIN_SHARE = 0.75


def _one(rows: Rows) -> tuple[Floats, Floats]:
    needs(rows.machine, multiplied(rows.label))
    cost = matmul_cost(rows.machine, operator(rows.table, rows.label))
    measured_s = rows.table["latency_s"]
    energy = cost_energy_j(rows.machine, replace(cost, latency_s=measured_s))
    plain = PLAIN_SHARE * np.minimum(rows.machine.tdp_w, 1e9) * measured_s
    return np.asarray(energy, dtype=np.float64), np.asarray(plain, dtype=np.float64)


def predict(table: Table, library: Library = LIBRARY) -> Predictions:
    """Energy (J) of every row, measured as power times latency, grouped by dtype; groups of n and k are held back."""
    energy = table["power_w"] * table["latency_s"]
    held = shapes_held_back(table)
    return predict_rows(table, library, label=table["dtype"], measured=energy, held=held, one=_one)


def large_j_per_flop(found: Predictions) -> list[dict[str, Any]]:
    """Energy per operation (J/FLOP) of large matmuls, measured and predicted: medians of each chip and format."""
    flop = 2.0 * found.table["m"] * found.table["n"] * found.table["k"]
    large = found.scored & (flop > LARGE_FLOP)
    return [
        {
            "chip": chip,
            "format": label,
            "rows": int(rows.sum()),
            "measured_j_per_flop": float(np.median(found.measured[rows] / flop[rows])),
            "predicted_j_per_flop": float(np.median(found.predicted[rows] / flop[rows])),
        }
        for chip, label, rows in found.groups(large)
    ]


def _logs(machine: Machine, cost: Cost, rows: Table, dtype: str) -> tuple[Floats, Floats]:
    """Sizes of the errors of energy, and of the time at the limit."""
    idle = static_w(machine)
    measured_s, measured_w = rows["latency_s"], rows["power_w"]
    power = np.asarray(cost_energy_j(machine, replace(cost, latency_s=measured_s))) / measured_s
    in_part = idle + (power - idle) * np.minimum(1.0, measured_s / WINDOW_S.get(dtype, 1e-12))
    energy = np.minimum(np.abs(np.log(power / measured_w)), np.abs(np.log(in_part / measured_w)) + WINDOW_SLACK)
    least_s = power_limited_s(machine, multiplied=cost.multiplied, macs=cost.macs, dram_bytes=cost.dram_bytes)
    full = (2.0 * np.asarray(cost.macs) > LARGE_FLOP) & (measured_w > 0.985 * LIMIT_SHARE * machine.tdp_w)
    return np.minimum(energy, WORST_ENERGY), np.minimum(
        np.abs(np.log(np.asarray(least_s)[full] / measured_s[full])), WORST_LIMIT
    )


def loss(table: Table, library: Library) -> float:
    """What the fit makes least: mean error of energy, and of the time that large kernels at the limit took.

    Energy alone does not tell the energy of an operation from the limit, which caps it at most rows.
    """
    energy, limited = [], []
    for chip in np.unique(table["chip"]).tolist():
        machine = library.machine(library.chip(chip))
        for dtype in np.unique(table["dtype"][table["chip"] == chip]).tolist():
            rows = table.take((table["chip"] == chip) & (table["dtype"] == dtype))
            ours, theirs = _logs(machine, matmul_cost(machine, operator(rows, dtype)), rows, dtype)
            energy.append(ours)
            limited.append(theirs)
    at_limit = np.concatenate(limited)
    return float(np.mean(np.concatenate(energy)) + (LIMIT_WEIGHT * np.mean(at_limit) if len(at_limit) else 0.0))


BENCH = Bench("power", NAMES, predict, loss=loss, most_rows=2000)
