"""What happened: spans of work in time, and the activity they add up to.

Estimate, simulator and RTL all reduce to an `Activity`, so that one model of energy and one comparison serves all three.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NOTHING: Mapping[str, int] = MappingProxyType({})


def _sum(a: Mapping[str, int], b: Mapping[str, int]) -> Mapping[str, int]:
    if not a or not b:
        return a or b
    return {name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Actions of a run or a part of one: additive, but for ``cycles``, which is the time from its begin to its end.

    ``busy`` is the cycles in which each unit worked; ``macs`` counts multiply-accumulates that the result needs (padding is
    not among them); ``fp_operations`` fp32 additions, multiplications, table look-ups and the like; ``reads`` and ``writes``
    are bytes by memory: dram, scratchpad, accumulator, registers, tables, kernels, indices, instructions.
    """

    cycles: int = 0
    busy: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    macs: int = 0
    fp_operations: int = 0
    reads: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    writes: Mapping[str, int] = field(default_factory=lambda: _NOTHING)

    def __add__(self, other: Activity) -> Activity:
        return Activity(
            cycles=self.cycles + other.cycles,
            busy=_sum(self.busy, other.busy),
            macs=self.macs + other.macs,
            fp_operations=self.fp_operations + other.fp_operations,
            reads=_sum(self.reads, other.reads),
            writes=_sum(self.writes, other.writes),
        )

    def utilization(self, unit: str) -> float:
        """Share of the cycles in which a unit worked; 0 for a run without cycles."""
        return self.busy.get(unit, 0) / self.cycles if self.cycles else 0.0

    @staticmethod
    def total(parts: Iterable[Activity]) -> Activity:
        """The sum of parts."""
        whole = Activity()
        for part in parts:
            whole = whole + part
        return whole


@dataclass(frozen=True, slots=True)
class Span:
    """One unit busy with one thing from cycle ``start`` up to, not with, ``end``; ``detail`` is for a reader."""

    unit: str
    start: int
    end: int
    name: str
    detail: Mapping[str, object] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Trace:
    """A whole run: its cycles, its spans in order of their starts, and its activity."""

    cycles: int
    spans: tuple[Span, ...]
    activity: Activity
