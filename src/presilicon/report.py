"""Results as values: an estimate with its operators, and a ranking; no producers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLine:
    """One operator of an estimate: all its repeats together over the whole batch; ``bound`` is what takes longest.

    ``operations`` (2 a MAC, one an element outside the matrix units) and ``memory_bytes`` (to and from the off-chip memory)
    are one chip's; ``multiplied`` is the format its matrix units work in, empty for an operator without MACs.
    """

    name: str
    kind: str
    count: int
    latency_s: float
    energy_j: float
    bound: str
    utilization: float
    operations: float = 0.0
    memory_bytes: float = 0.0
    multiplied: str = ""

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateReport:
    """What a model costs on a system: times (s), rates, energy (J), power (W), bytes of the fullest chip, operators.

    Times that a network without tokens does not have are None. ``intervals``: low and high of each time, from residuals.
    ``energy_parts`` is what ``energy_j`` goes to, by name.
    """

    model: str
    chip: str
    chips: int
    parallelism: str
    formats: str
    batch: int
    latency_s: float
    time_to_first_token_s: float | None
    time_per_output_token_s: float | None
    throughput_per_s: float
    tokens_per_s: float | None
    energy_j: float
    power_w: float
    memory_bytes: float
    memory_limit_bytes: float
    intervals: Mapping[str, tuple[float, float]]
    operators: tuple[OperatorLine, ...]
    energy_parts: Mapping[str, float]
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The object that ``estimate --json`` prints."""
        names = [n for n in self.__dataclass_fields__ if n not in ("operators", "intervals", "energy_parts", "notes")]
        return {n: getattr(self, n) for n in names} | {
            "intervals": {key: {"low": low, "high": high} for key, (low, high) in self.intervals.items()},
            "energy_parts": dict(self.energy_parts),
            "operators": [line.to_json() for line in self.operators],
            "notes": list(self.notes),
        }
