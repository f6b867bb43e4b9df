"""Whether a chip of one's own pays: break-even, and which assumption that hangs on. Plain functions on values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from presilicon.economics.operation import HOURS_PER_YEAR
from presilicon.economics.quantity import Quantity, Real
from presilicon.errors import WorkloadError

_SECONDS_PER_YEAR = HOURS_PER_YEAR * 3600.0


@dataclass(frozen=True, slots=True)
class BreakEven:
    """When savings have paid for the design: infinite where the own chip saves nothing.

    ``tokens_m``: millions of tokens; ``chips``: those that serve them in their years of use; ``chips_at_work``: those that the
    traffic keeps busy; ``years``: from the start of the design.
    """

    saving_usd_per_m_tokens: Real
    tokens_m: Real
    chips: Real
    chips_at_work: Real
    years: Real


def break_even(
    *,
    nre_usd: Real,
    own_usd_per_m_tokens: Real,
    other_usd_per_m_tokens: Real,
    tokens_per_s_per_chip: Real,
    traffic_tokens_per_s: Real,
    years_of_use: Real,
    utilization: Real = 1.0,
    development_years: Real = 0.0,
    growth_per_year: Real = 0.0,
) -> BreakEven:
    """Volume and date at which a design's NRE is earned back against an alternative; arrays broadcast.

    Costs per million tokens hold chip, server, energy and building, without the NRE. The traffic begins when the chip is ready
    and grows by ``growth_per_year``. WorkloadError where traffic, rate or years are not above zero.
    """
    for name, value in (
        ("traffic", traffic_tokens_per_s),
        ("tokens a second of a chip", tokens_per_s_per_chip),
        ("years of use", years_of_use),
    ):
        if not np.all(np.asarray(value) > 0):
            raise WorkloadError(f"{name} is {value}", hint="above zero")
    saving = np.asarray(other_usd_per_m_tokens, dtype=np.float64) - own_usd_per_m_tokens
    with np.errstate(divide="ignore", invalid="ignore"):
        tokens = np.where(saving > 0, nre_usd / np.where(saving > 0, saving, 1.0), np.inf)
        life = tokens_per_s_per_chip * utilization * years_of_use * _SECONDS_PER_YEAR / 1e6
        yearly = traffic_tokens_per_s * _SECONDS_PER_YEAR / 1e6
        rate = np.log1p(growth_per_year)
        flat = tokens / yearly
        years = np.where(np.asarray(rate) > 0, np.log1p(flat * rate) / np.where(np.asarray(rate) > 0, rate, 1.0), flat)
    return BreakEven(
        saving_usd_per_m_tokens=saving,
        tokens_m=tokens,
        chips=np.ceil(tokens / life),
        chips_at_work=np.ceil(traffic_tokens_per_s / (tokens_per_s_per_chip * utilization)) * np.ones_like(saving),
        years=development_years + years,
    )


@dataclass(frozen=True, slots=True)
class Swing:
    """What a result becomes at the two ends of one assumption, all others at their values."""

    name: str
    low: float
    high: float
    at_low: float
    at_high: float

    @property
    def swing(self) -> float:
        """Distance of the two results; infinite where one of them is."""
        return abs(self.at_high - self.at_low) if self.at_high != self.at_low else 0.0


def tornado(function: Callable[..., float], assumed: Mapping[str, Quantity]) -> tuple[Swing, ...]:
    """``function(**values)`` with each assumption at its ends in turn, the widest swing first.

    Its arguments are the assumptions by name. Those that change nothing are left out.
    """
    central = {name: one.value for name, one in assumed.items()}
    found = [
        Swing(
            name,
            one.low,
            one.high,
            float(function(**(central | {name: one.low}))),
            float(function(**(central | {name: one.high}))),
        )
        for name, one in assumed.items()
    ]
    return tuple(sorted((one for one in found if one.swing > 0), key=lambda one: (-one.swing, one.name)))
