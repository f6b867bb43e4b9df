"""The cost of one pass of a graph on a machine: each operator's cost, times, bytes and energy summed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        machine = machine.for_networks()
    return PassCost(graph, tuple(operator_cost(machine, op, kept) for op in graph.operators))
