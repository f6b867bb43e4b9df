"""Work outside the matrix units: elementwise, normalization, embedding look-ups, sampling."""

from __future__ import annotations

import numpy as np

from presilicon.estimate.cost import NOTHING_KEPT, Cost, Kept, Real
from presilicon.estimate.machine import Machine
from presilicon.graph import Elementwise, Embedding, Operator, Sampling


def _streamed(machine: Machine, op: Operator, moved_bytes: Real) -> Cost:
    """A kernel that reads and writes once: launch, then memory or the vector unit, whichever is longer."""
    c = machine.constants
    memory_s = moved_bytes / (c.memory_share * machine.memory_bytes_per_s)
    compute_s = op.vector_ops / machine.vector_ops_per_s
    return Cost(
        latency_s=c.launch_s + np.maximum(memory_s, compute_s),
        compute_s=compute_s,
        memory_s=memory_s,
        overhead_s=c.launch_s,
        dram_bytes=moved_bytes,
        vector_ops=op.vector_ops,
    )


def elementwise_cost(machine: Machine, op: Elementwise, kept: Kept = NOTHING_KEPT) -> Cost:
    """Cost of an elementwise operator or a normalization; a fused one costs only its vector operations' energy."""
    if op.fused:
        return Cost(latency_s=0.0, vector_ops=op.vector_ops)
    return _streamed(machine, op, kept.moved(op.touched_weight_bytes, op.input_bytes + op.output_bytes))


def embedding_cost(machine: Machine, op: Embedding) -> Cost:
    """Cost of looking up rows of a table and writing them out."""
    return _streamed(machine, op, op.unique_bytes)


def sampling_cost(machine: Machine, op: Sampling) -> Cost:
    """Cost of choosing tokens: one pass over the logits."""
    return _streamed(machine, op, op.unique_bytes)
