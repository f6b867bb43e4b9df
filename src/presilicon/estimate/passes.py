"""The cost of one pass of a graph on a machine: each operator's cost, times, bytes and energy summed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.estimate.attention import attention_cost
from presilicon.estimate.collective import collective_cost
from presilicon.estimate.cost import NOTHING_KEPT, Cost, Kept, Real
from presilicon.estimate.energy import cost_energy_j
from presilicon.estimate.machine import Machine
from presilicon.estimate.matmul import convolution_cost, expert_cost, matmul_cost
from presilicon.estimate.vector import elementwise_cost, embedding_cost, sampling_cost
from presilicon.graph import (
    Attention,
    Collective,
    Convolution,
    Elementwise,
    Embedding,
    ExpertMatmul,
    Graph,
    Matmul,
    Operator,
    Sampling,
)


def operator_cost(machine: Machine, op: Operator, kept: Kept = NOTHING_KEPT) -> Cost:
    """Cost of one repeat of an operator."""
    match op:
        case Matmul():
            return matmul_cost(machine, op, kept)
        case ExpertMatmul():
            return expert_cost(machine, op)
        case Attention():
            return attention_cost(machine, op)
        case Convolution():
            return convolution_cost(machine, op, kept)
        case Elementwise():
            return elementwise_cost(machine, op, kept)
        case Embedding():
            return embedding_cost(machine, op)
        case Sampling():
            return sampling_cost(machine, op)
        case Collective():
            return collective_cost(machine, op)
        case _:
            raise TypeError(f"no cost for {op.kind}")


@dataclass(frozen=True, slots=True)
class PassCost:
    """One pass of a graph on one chip: its operators with their costs, in order."""

    graph: Graph
    costs: tuple[Cost, ...]

    def total(self, attribute: str) -> Real:
        """Sum over operators and repeats of one attribute of their costs."""
        total: Real = 0.0
        for op, cost in zip(self.graph.operators, self.costs, strict=True):
            total = total + op.count * getattr(cost, attribute)
        return total

    @property
    def latency_s(self) -> Real:
        """Time of the pass: operators one after the other."""
        return self.total("latency_s")

    def energy_j(self, machine: Machine) -> Real:
        """Energy of the pass on one chip, static power included."""
        total: Real = 0.0
        for op, cost in zip(self.graph.operators, self.costs, strict=True):
            total = total + op.count * cost_energy_j(machine, cost)
        return total


def kept_on_chip(machine: Machine, graph: Graph) -> Kept:
    """What a network without a cache keeps in on-chip memory: half of the usable room for weights, half for activations."""
    if graph.phase != "inference":
        return NOTHING_KEPT
    room = machine.constants.resident_share * machine.shared_sram_bytes / 2.0
    weights = np.maximum(graph.weight_bytes, 1.0)
    return Kept(weights_share=np.minimum(1.0, room / weights), activation_bytes=room)


def pass_cost(machine: Machine, graph: Graph) -> PassCost:
    """Costs of every operator of a (partitioned) graph on a machine."""
    kept = kept_on_chip(machine, graph)
    if graph.phase == "inference":
        machine = machine.for_networks(graph.samples)
    costs: dict[int, Cost] = {}
    for group in _alike(graph.operators).values():
        if len(group) == 1:
            costs[group[0]] = operator_cost(machine, graph.operators[group[0]], kept)
        else:
            stacked = _stacked([graph.operators[i] for i in group], np.ndim(machine.cores))
            together = operator_cost(machine, stacked, kept)
            costs |= {index: _taken(together, place) for place, index in enumerate(group)}
    return PassCost(graph, tuple(costs[i] for i in range(len(graph.operators))))


def _alike(operators: tuple[Operator, ...]) -> dict[tuple[Any, ...], list[int]]:
    """Indices of operators that differ in sizes only, so that one evaluation over arrays serves them all."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, op in enumerate(operators):
        rest = (f.name for f in fields(op) if f.name not in ("name", "count", "split"))
        fixed = tuple(getattr(op, name) for name in rest if not _is_size(name, getattr(op, name)))
        groups.setdefault((type(op), *fixed), []).append(index)
    return groups


# Fields that the formulas branch on: never stacked.
_BRANCHES = ("name", "count", "split", "chips", "beams", "sharers")


def _is_size(name: str, value: Any) -> bool:
    return name not in _BRANCHES and isinstance(value, int | float | np.ndarray) and not isinstance(value, bool)


def _stacked(operators: list[Operator], axes: int) -> Operator:
    """One operator whose sizes carry a leading axis over ``operators``, before at least ``axes`` axes of machines."""
    first = operators[0]
    names = [f.name for f in fields(first) if _is_size(f.name, getattr(first, f.name))]
    sizes = {n: [np.asarray(getattr(op, n), dtype=np.float64) for op in operators] for n in names}
    most = max(axes, max((a.ndim for values in sizes.values() for a in values), default=0))
    joined: dict[str, Any] = {n: _joined(values, most) for n, values in sizes.items()}
    return replace(first, **joined)


def _joined(values: list[NDArray[np.float64]], axes: int) -> NDArray[np.float64]:
    padded = [v.reshape((1,) * (axes - v.ndim) + v.shape) for v in values]
    shape = np.broadcast_shapes(*(v.shape for v in padded))
    return np.stack([np.broadcast_to(v, shape) for v in padded])


def _taken(cost: Cost, place: int) -> Cost:
    """The cost of one operator of a stack."""
    values = {f.name: getattr(cost, f.name) for f in fields(cost)}
    deepest = max(np.ndim(v) for v in values.values())
    return Cost(**{n: v[place] if np.ndim(v) == deepest and deepest else v for n, v in values.items()})
