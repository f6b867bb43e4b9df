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
            costs |= zip(group, _apart(operator_cost(machine, stacked, kept), len(group)), strict=True)
    return PassCost(graph, tuple(costs[i] for i in range(len(graph.operators))))


def _alike(operators: tuple[Operator, ...]) -> dict[tuple[Any, ...], list[int]]:
    """Indices of operators that differ in sizes only, so that one evaluation over arrays serves them all."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, op in enumerate(operators):
        values = ((name, getattr(op, name)) for name in _names(op))
        fixed = tuple(value for name, value in values if not _is_size(name, value))
        groups.setdefault((type(op), *fixed), []).append(index)
    return groups


def _names(value: Operator | Cost) -> list[str]:
    """Fields that tell two operators apart, or those of a cost."""
    return [f.name for f in fields(value) if f.name not in ("name", "count", "split")]


# Fields that the formulas branch on: never stacked.
_BRANCHES = ("name", "count", "split", "chips", "beams", "sharers")


def _is_size(name: str, value: Any) -> bool:
    return name not in _BRANCHES and isinstance(value, int | float | np.ndarray) and not isinstance(value, bool)


def _stacked(operators: list[Operator], axes: int) -> Operator:
    """One operator whose sizes carry a leading axis over ``operators``, before at least ``axes`` axes of machines."""
    first = operators[0]
    names = [name for name in _names(first) if _is_size(name, getattr(first, name))]
    sizes = {name: [getattr(op, name) for op in operators] for name in names}
    most = max(axes, max((np.ndim(v) for values in sizes.values() for v in values), default=0))
    joined: dict[str, Any] = {name: _joined(values, most) for name, values in sizes.items()}
    return replace(first, **joined)


def _joined(values: list[Any], axes: int) -> NDArray[np.float64]:
    """An array of (operators, ...) with ``axes`` axes behind the first, each value broadcast to the largest."""
    shape = np.broadcast_shapes((1,) * axes, *(np.shape(v) for v in values))
    result = np.empty((len(values), *shape))
    for place, value in enumerate(values):
        result[place] = value
    return result


def _apart(cost: Cost, number: int) -> list[Cost]:
    """The cost of each operator of a stack."""
    values = {name: getattr(cost, name) for name in _names(cost)}
    deepest = max(np.ndim(v) for v in values.values())
    stacked = {name for name, value in values.items() if deepest and np.ndim(value) == deepest}
    return [Cost(**{n: v[place] if n in stacked else v for n, v in values.items()}) for place in range(number)]
