"""What one operator costs on one chip: its time, what that time goes to, and the bytes it moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = float | NDArray[np.float64]

BOUNDS = ("compute", "memory", "power", "link", "overhead")


@dataclass(frozen=True, slots=True)
class Cost:
    """One repeat of an operator; every field is a float or an array over chips and sizes.

    ``latency_s`` is the whole time; ``compute_s``, ``memory_s``, ``power_s`` and ``link_s`` are the times each resource
    alone would take (they overlap), ``overhead_s`` what no resource explains: launches, filling, conversion. ``macs``
    are those of ``multiplied`` format, for the energy; bytes are what really moves.
    """

    latency_s: Real
    compute_s: Real = 0.0
    memory_s: Real = 0.0
    power_s: Real = 0.0
    link_s: Real = 0.0
    overhead_s: Real = 0.0
    dram_bytes: Real = 0.0
    sram_bytes: Real = 0.0
    link_bytes: Real = 0.0
    macs: Real = 0.0
    vector_ops: Real = 0.0
    multiplied: str = "bf16"

    @property
    def bound(self) -> str:
        """The resource that takes longest, for a single chip and size."""
        parts = (self.compute_s, self.memory_s, self.power_s, self.link_s, self.overhead_s)
        return BOUNDS[int(np.argmax([float(np.max(p)) for p in parts]))]


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays on the chip between operators and inferences: a share of the weights, and room for activations."""

    weights_share: Real = 0.0
    activation_bytes: Real = 0.0

    def moved(self, weight_bytes: Real, activation_bytes: Real) -> Real:
        """Bytes that still move from and to memory."""
        return weight_bytes * (1.0 - self.weights_share) + np.maximum(activation_bytes - self.activation_bytes, 0.0)


NOTHING_KEPT = Kept()
