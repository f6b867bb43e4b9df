"""Figures of designs: speed, energy, memory, area, price and cost of each, and by how much it breaks its limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import Formats
from presilicon.economics import manufacture, owned_usd_per_hour, usd_per_million_tokens
from presilicon.estimate import Load, pass_cost, steady_cost
from presilicon.estimate.energy import static_w
from presilicon.estimate.service import USABLE_MEMORY
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.network import Network
from presilicon.mapping import Parallelism

from ._designs import Designs, designs_of
from ._problem import Problem, parallelism
from ._space import Indices

Floats = NDArray[np.float64]
FIGURES = (
    "tokens_per_s",
    "time_to_first_token_s",
    "time_per_output_token_s",
    "latency_s",
    "chip_s_per_token",
    "energy_j_per_token",
    "power_w",
    "usd_per_million_tokens",
    "unit_usd",
    "area_mm2",
    "tdp_w",
    "system_tdp_w",
    "memory_bytes",
    "memory_limit_bytes",
    "edge_mm",
    "edge_limit_mm",
    "refused",
    "violation",
)
"""Columns of what ``evaluate`` returns. ``violation`` sums the shares by which limits are passed; 0 where all hold."""
PLACE = {name: at for at, name in enumerate(FIGURES)}
# Designs evaluated at once: arrays of this length stay in a core's caches.
BLOCK = 4096


def evaluate(problem: Problem, block: Indices) -> Floats:
    """All figures of designs of shape (n, axes), as (n, figures) in the order of ``FIGURES``; the same bits in any grouping."""
    found = np.empty((len(block), len(FIGURES)))
    for rows in pieces(problem, block):
        found[rows] = _of_alike(problem, block[rows])
    return found


def pieces(problem: Problem, block: Indices) -> Iterator[NDArray[np.intp]]:
    """Rows of a block that multiply the same formats and are shared the same way, at most ``BLOCK`` at a time."""
    formats, shared = problem.space.place("formats"), problem.space.place("parallelism")
    number = block[:, formats] * len(problem.space.axes[shared].values) + block[:, shared]
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order])) + 1
    for rows in np.split(order, starts):
        for start in range(0, len(rows), BLOCK):
            yield rows[start : start + BLOCK]


def _of_alike(problem: Problem, block: Indices) -> Floats:
    same = problem.space.values(block[0])
    multiplied = str(same["formats"])
    values = {axis.name: problem.space.column(axis.name, block) for axis in problem.space.axes}
    designs = designs_of(values, multiplied)
    formats = problem.formats(multiplied)
    assert formats is not None, "the space holds formats that run the model"
    p = parallelism(str(same["parallelism"]))
    measured = (_served if isinstance(problem.model, LanguageModel) else _run)(problem, designs, values["batch"], formats, p)
    return _with_cost(problem, designs, measured, p.chips)


def _served(problem: Problem, designs: Designs, batch: Floats, formats: Formats, p: Parallelism) -> dict[str, Any]:
    load = Load(batch, problem.limits.input_tokens, problem.limits.output_tokens)
    assert isinstance(problem.model, LanguageModel)
    cost = steady_cost(designs.machine, problem.model, load, formats=formats, parallelism=p)
    names = ("tokens_per_s", "time_to_first_token_s", "time_per_output_token_s", "latency_s", "energy_j_per_token", "power_w",
             "memory_bytes", "memory_limit_bytes")  # fmt: skip
    return {name: getattr(cost, name) for name in names}


def _run(problem: Problem, designs: Designs, batch: Floats, formats: Formats, p: Parallelism) -> dict[str, Any]:
    """A network without tokens: a sample stands for a token, a batch's latency for the first one."""
    m = designs.machine
    assert isinstance(problem.model, Network)
    cost = pass_cost(m, problem.model.inference(batch=batch, formats=formats, tokens=problem.tokens))
    latency = np.asarray(cost.latency_s) + m.constants.query_s
    energy = np.asarray(cost.energy_j(m)) + static_w(m) * m.constants.query_s
    return {
        "tokens_per_s": batch / latency,
        "time_to_first_token_s": latency,
        "time_per_output_token_s": np.zeros_like(latency),
        "latency_s": latency,
        "energy_j_per_token": energy / batch,
        "power_w": energy / latency,
        "memory_bytes": cost.graph.weight_bytes + cost.graph.activation_bytes,
        "memory_limit_bytes": m.memory_bytes * USABLE_MEMORY,
    }


def _with_cost(problem: Problem, designs: Designs, measured: dict[str, Any], chips: int) -> Floats:
    unit = designs.cost.unit_usd
    price = manufacture.volume_curve(unit, designs.nre_usd, problem.volume)
    hourly = owned_usd_per_hour(price, measured["power_w"], chips, problem.operation)
    found = np.empty((len(designs.area_mm2), len(FIGURES)))
    columns = measured | {
        "chip_s_per_token": chips / measured["tokens_per_s"],
        "usd_per_million_tokens": usd_per_million_tokens(hourly, measured["tokens_per_s"]),
        "unit_usd": unit,
        "area_mm2": designs.area_mm2,
        "tdp_w": designs.tdp_w,
        "system_tdp_w": designs.tdp_w * chips,
        "edge_mm": designs.hardware.edge_mm,
        "edge_limit_mm": designs.hardware.edge_limit_mm,
        "refused": designs.hardware.refused,
    }
    for name, values in columns.items():
        found[:, PLACE[name]] = values
    found[:, PLACE["violation"]] = violation(problem, found)
    return found


def violation(problem: Problem, found: Floats) -> Floats:
    """Sum over all limits of the share by which a design passes each."""
    total = 10.0 * found[:, PLACE["refused"]]
    total += np.maximum(found[:, PLACE["memory_bytes"]] / found[:, PLACE["memory_limit_bytes"]] - 1.0, 0.0)
    total += np.maximum(found[:, PLACE["edge_mm"]] / found[:, PLACE["edge_limit_mm"]] - 1.0, 0.0)
    for name, bound in problem.bounds.items():
        total += np.maximum(found[:, PLACE[name]] / bound - 1.0, 0.0)
    return total
