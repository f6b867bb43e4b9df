"""Axes: values to places on a picture, and the ticks a reader expects."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from presilicon.errors import InputError
from presilicon.units import si


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows: ``label`` in ``unit`` from ``low`` to ``high``, linear or in decades."""

    label: str
    unit: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"an axis cannot go from {self.low:g} to {self.high:g}", where=self.label)
        if self.log and self.low <= 0:
            raise InputError(f"an axis in decades cannot begin at {self.low:g}", where=self.label)

    @classmethod
    def around(cls, label: str, unit: str, values: Iterable[float], *, log: bool = False, zero: bool = False) -> Axis:
        """An axis with room around ``values``; those that it cannot show are left out. ``zero``: it begins there."""
        known = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low, high = min(known), max(known)
        if log:
            return cls(label, unit, low / _ROOM_LOG, high * _ROOM_LOG, log=True)
        if zero:
            return cls(label, unit, min(low, 0.0) * 1.05, max(high, 0.0) * 1.05 or 1.0)
        room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
        return cls(label, unit, low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end, outside it beyond these."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low) if value > 0 else -1.0
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 7) -> list[tuple[float, str]]:
        """Places of ticks with their texts: decades (with 2 and 5 between them where they are few), or round steps."""
        return [(value, self.text(value)) for value in (self._decades(most) if self.log else self._steps(most))]

    def text(self, value: float) -> str:
        """A value with its unit; money, areas and shares without SI prefixes."""
        if self.unit == "%":
            return f"{100 * value:.3g} %"
        if not self.unit and abs(value) < 1.0:
            return f"{value:.3g}"
        return f"{value:,.4g} {self.unit}" if self.unit in ("USD", "mm2") else si(value, self.unit)

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for steps in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
            found = [s * 10.0**e for e in range(first, last + 1) for s in steps if self.low <= s * 10.0**e <= self.high]
            if len(found) <= most:
                return found
        stride = math.ceil(len(found) / most)
        return found[::stride]

    def _steps(self, most: int) -> list[float]:
        raw = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * s for s in (1.0, 2.0, 2.5, 5.0, 10.0) if unit * s >= raw * 0.999999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


_ROOM_LOG = 1.6
