"""Buy, partner or build: the chosen design beside the best existing chips, what each rests on, and when the own chip pays.

The error of the estimate is carried beside the spread of prices: both are sampled, and a lead that lies inside the interval is
no lead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon import chip as chips
from presilicon.economics import manufacture, owned_usd_per_hour, usd_per_million_tokens
from presilicon.economics.decide import BreakEven, Swing, break_even, tornado
from presilicon.economics.policy import PolicyClass, policy_class
from presilicon.economics.quantity import Quantity
from presilicon.economics.silicon import area_spread
from presilicon.errors import InputError
from presilicon.estimate.intervals import interval
from presilicon.frontend.language import LanguageModel
from presilicon.match import match
from presilicon.ranking import Entry
from presilicon.units import si

from ._archive import Candidate
from ._chip import first, one
from ._problem import Problem

Floats = NDArray[np.float64]
SAMPLES = 4096
SEED = 2026
# Existing chips shown at most, of those that can be bought and of those without a price.
SHOWN = 5
# From the start of a design until its chips are at work: architecture to volume takes two to three years (NVIDIA announced
# A100, H100 and B200 in May 2020, March 2022 and March 2024; RNGD was announced for 2024 after Warboy in 2021).
DEVELOPMENT_YEARS = Quantity(
    2.5, 2.0, 3.0, "years", "distance of generations: data/chips, years of A100, H100, B200 and of Warboy, RNGD", "2026", "low"
)
_TEN, _NINETY = 10.0, 90.0
# Standard deviations from the middle to the tenth percentile of a normal distribution.
_DECILE = 1.2815515655446004


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its tenth and ninetieth percentile."""

    value: float
    p10: float
    p90: float

    @classmethod
    def of(cls, value: float, samples: Floats) -> Interval:
        """From the central value and samples of it."""
        low, high = (float(p) for p in np.percentile(samples, (_TEN, _NINETY)))
        return cls(value=value, p10=low, p90=high)

    def to_json(self) -> dict[str, float]:
        """The figures by name."""
        return {"value": self.value, "p10": self.p10, "p90": self.p90}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """An existing chip on the same work under the same limits: to ``buy`` where it has a price, else of a ``partner``.

    ``lead``: its cost over the own design's; below 1 it is cheaper. ``inside``: whether 1 lies between p10 and p90 of the lead.
    ``equal_usd``: for a chip without a price, that of one at which it costs as much per token as the own design.
    """

    chip: str
    way: str
    entry: Entry
    usd_per_million_tokens: Interval | None
    lead: Interval | None
    inside: bool | None
    energy_ratio: float
    equal_usd: float | None
    policy: PolicyClass | None
    break_even: BreakEven | None

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {
            "chip": self.chip,
            "way": self.way,
            "usd_per_million_tokens": self.usd_per_million_tokens.to_json() if self.usd_per_million_tokens else None,
            "lead": self.lead.to_json() if self.lead else None,
            "inside_interval": self.inside,
            "energy_ratio": self.energy_ratio,
            "equal_usd": self.equal_usd,
            "policy": self.policy.to_json() if self.policy else None,
            "break_even": even_json(self.break_even) if self.break_even else None,
            "entry": self.entry.to_json(),
        }


def even_json(even: BreakEven) -> dict[str, float]:
    """A break-even's figures by name."""
    return {name: float(getattr(even, name)) for name in even.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The own design's cost, what else there is, and the assumptions on which the answer hangs."""

    usd_per_million_tokens: Interval
    without_nre: Interval
    unit_usd: Interval
    nre_usd: Interval
    alternatives: tuple[Alternative, ...]
    swings: tuple[Swing, ...]
    policy: PolicyClass
    has_rtl: bool
    formats: str

    def best(self, way: str) -> Alternative | None:
        """The cheapest alternative of a way ("buy", "partner"); of partners the one that needs least energy."""
        return next((a for a in self.alternatives if a.way == way), None)


def _factors(family: str, what: str, rng: np.random.Generator) -> Floats:
    """Samples of measured over estimated time: a normal in the logarithm on each side of 1, through the interval's ends."""
    low, high = interval(family, what)
    drawn = rng.standard_normal(SAMPLES)
    factors: Floats = np.exp(np.where(drawn < 0, drawn / _DECILE * -np.log(low), drawn / _DECILE * np.log(high)))
    return factors


def verdict(problem: Problem, chosen: Candidate) -> Verdict:
    """Lay the chosen design beside the library's chips, at the same lengths, bounds and numbers of chips."""
    rng = np.random.default_rng(SEED)
    what = "serving tpot" if isinstance(problem.model, LanguageModel) else "mlperf Offline"
    designs, rate = one(chosen.fields), chosen.figures["tokens_per_s"]
    node, kind = str(chosen.fields["node"]), str(chosen.fields["memory"])
    area, held = first(designs.area_mm2), first(designs.machine.memory_bytes)
    sampled = manufacture.sampled_prices(node, kind, SAMPLES, SEED)
    areas = area * np.exp(area_spread() * rng.standard_normal(SAMPLES))
    unit = np.asarray(manufacture.unit_cost(areas, held, sampled).unit_usd)
    nre = np.asarray(manufacture.nre_usd(sampled))
    slower = _factors(designs.hardware.family, what, rng)

    def per_million(price: Any, power_w: float = chosen.figures["power_w"], factor: Any = 1.0) -> Any:
        hourly = owned_usd_per_hour(price, power_w, chosen.chips, problem.operation)
        return usd_per_million_tokens(hourly, rate / factor)

    central_unit, central_nre = chosen.figures["unit_usd"], first(designs.nre_usd)
    own = per_million(manufacture.volume_curve(unit, nre, problem.volume), factor=slower)
    bare = float(per_million(central_unit))
    chip = chosen.chip()
    found = [
        _alternative(problem, chosen, entry, own, bare, central_nre, rng, what)
        for entry in _existing(problem)
        if entry.fits and entry.energy_j_per_token
    ]
    buy = [a for a in found if a.way == "buy"][:SHOWN]
    partner = sorted((a for a in found if a.way == "partner"), key=lambda a: a.energy_ratio)[:SHOWN]
    assumed = manufacture.assumptions(node, kind)

    def cost(**values: float) -> float:
        at = manufacture.Prices(**{name: values[name] for name in assumed})
        price = manufacture.volume_curve(
            manufacture.unit_cost(values["area_mm2"], held, at).unit_usd, manufacture.nre_usd(at), problem.volume
        )
        operation = replace(problem.operation, utilization=values["utilization"])
        hourly = owned_usd_per_hour(price, chosen.figures["power_w"], chosen.chips, operation)
        return float(usd_per_million_tokens(hourly, rate / values["time_over_estimate"]))

    return Verdict(
        usd_per_million_tokens=Interval.of(chosen.figures["usd_per_million_tokens"], own),
        without_nre=Interval.of(bare, per_million(unit, factor=slower)),
        unit_usd=Interval.of(central_unit, unit),
        nre_usd=Interval.of(central_nre, nre),
        alternatives=(*buy, *partner),
        swings=tornado(cost, assumed | _of_the_estimate(problem, designs.hardware.family, area, what)),
        policy=policy_class(chip),
        has_rtl=chip.template is not None,
        formats=str(chosen.fields["formats"]),
    )


def _of_the_estimate(problem: Problem, family: str, area: float, what: str) -> dict[str, Quantity]:
    """Assumptions beside the prices: the area, the estimate's time, and how busy the chips are."""
    low, high = interval(family, what)
    spread = float(np.exp(area_spread() * _DECILE))
    busy = float(problem.operation.utilization)
    return {
        "area_mm2": Quantity(area, area / spread, area * spread, "mm2", "silicon.toml, left_out", "2026", "low"),
        "time_over_estimate": Quantity(1.0, low, high, "", "data/validation/intervals.toml", "2026", "medium"),
        "utilization": Quantity(busy, busy / 2, min(1.0, busy * 1.5), "", "half and one and a half times it", "2026", "low"),
    }


def _existing(problem: Problem) -> tuple[Entry, ...]:
    limits = {name: getattr(problem.limits, name) for name in problem.limits.__dataclass_fields__}
    if not isinstance(problem.model, LanguageModel):
        limits = {k: v for k, v in limits.items() if k not in ("output_tokens", "tpot_s", "input_tokens")}
    o = problem.operation
    return match(problem.model, **limits, years=o.years, usd_per_kwh=o.usd_per_kwh, pue=o.pue).entries


def _alternative(
    problem: Problem, chosen: Candidate, entry: Entry, own: Floats, bare: float, nre: float, rng: np.random.Generator,
    what: str,
) -> Alternative:  # fmt: skip
    found = chips.load(entry.chip)
    cost, own_cost = entry.usd_per_million_tokens, chosen.figures["usd_per_million_tokens"]
    energy = (entry.energy_j_per_token or 0.0) / chosen.figures["energy_j_per_token"]
    try:
        policy = policy_class(found)
    except InputError:
        policy = None
    if cost is None:
        return Alternative(
            chip=entry.chip, way="partner", entry=entry, usd_per_million_tokens=None, lead=None, inside=None,
            energy_ratio=energy, equal_usd=_equal_usd(problem, entry, own_cost), policy=policy, break_even=None,
        )  # fmt: skip
    samples = cost * _factors(found.family, what, rng)
    lead = Interval.of(cost / own_cost, samples / own)
    per_chip = chosen.figures["tokens_per_s"] / chosen.chips
    even = break_even(
        nre_usd=nre, own_usd_per_m_tokens=bare, other_usd_per_m_tokens=cost, tokens_per_s_per_chip=per_chip,
        traffic_tokens_per_s=per_chip * problem.volume * problem.operation.utilization,
        years_of_use=problem.operation.years, utilization=problem.operation.utilization,
        development_years=DEVELOPMENT_YEARS.value,
    )  # fmt: skip
    return Alternative(
        chip=entry.chip, way="buy", entry=entry, usd_per_million_tokens=Interval.of(cost, samples), lead=lead,
        inside=lead.p10 < 1.0 < lead.p90, energy_ratio=energy, equal_usd=None, policy=policy, break_even=even,
    )  # fmt: skip


def _equal_usd(problem: Problem, entry: Entry, own_cost: float) -> float | None:
    """Price of one chip at which it costs as much per token as the own design; None where its energy alone costs more."""
    chips, power_w = entry.chips or 1, entry.power_w or 0.0
    rate = (entry.tokens_per_s_per_chip or 0.0) * chips

    def cost(price: float) -> float:
        hourly = owned_usd_per_hour(price, power_w, chips, problem.operation)
        return float(usd_per_million_tokens(hourly, rate))

    if cost(0.0) >= own_cost:
        return None
    low, high = 0.0, 1e7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) < own_cost else (low, middle)
    return low


def sentences(problem: Problem, chosen: Candidate, found: Verdict) -> tuple[str, str, str]:
    """The recommendation, its other side and its conditions, in three sentences."""
    return _first(problem, chosen, found), _second(found), _third(problem, found)


def _usd(interval: Interval) -> str:
    value, p10, p90 = (si(x) if x >= 1e6 else f"{x:.3g}" for x in (interval.value, interval.p10, interval.p90))
    return f"{value} USD ({p10} to {p90})"


def _what(problem: Problem) -> str:
    return "a million tokens" if isinstance(problem.model, LanguageModel) else "a million samples"


def _first(problem: Problem, chosen: Candidate, found: Verdict) -> str:
    best, what = found.best("buy"), _what(problem)
    own = f"{chosen.name} makes {what} for {_usd(found.usd_per_million_tokens)} at a volume of {problem.volume:,}"
    if best is None or best.lead is None or best.usd_per_million_tokens is None:
        return f"Build only if nothing can be bought: {own}, and no chip with a known price holds the same limits."
    other = f"the best part to buy, {best.chip}, for {_usd(best.usd_per_million_tokens)}"
    if best.inside:
        return f"Do not build for this alone: {own}, {other}, and the difference lies inside the interval of both."
    if best.lead.value > 1.0:
        return f"Build: {own}, {other}."
    return f"Buy {best.chip}: it makes {what} for {_usd(best.usd_per_million_tokens)}; {own}."


def _second(found: Verdict) -> str:
    best, partner = found.best("buy"), found.best("partner")
    told = []
    if best is not None and best.break_even is not None and np.isfinite(best.break_even.chips):
        even = best.break_even
        told.append(
            f"the engineering of {_usd(found.nre_usd)} is earned back after {float(even.chips):,.0f} chips, "
            f"{float(even.years):.1f} years from the start at this volume, below which {best.chip} is the cheaper one"
        )
    elif best is not None:
        told.append(f"the engineering of {_usd(found.nre_usd)} is never earned back against {best.chip}")
    if partner is not None and partner.equal_usd is not None:
        told.append(
            f"{partner.chip}, whose price is not published, is as cheap where a partner asks {partner.equal_usd:,.0f} USD"
        )
    if not told:
        told.append(f"nothing in the library compares; the engineering costs {_usd(found.nre_usd)}")
    text = "; ".join(told)
    return text[0].upper() + text[1:] + "."


def _third(problem: Problem, found: Verdict) -> str:
    conditions = []
    if found.swings:
        widest = found.swings[0]
        conditions.append(
            f"it hangs most on {widest.name.replace('_', ' ')} ({min(widest.at_low, widest.at_high):.3g} to "
            f"{max(widest.at_low, widest.at_high):.3g} USD over its range)"
        )
    if not found.has_rtl:
        conditions.append(f"no RTL exists for a chip of {found.formats.replace('+', ' and ')} yet")
    under = f"falls under ECCN {found.policy.eccn}" if found.policy.eccn else "needs no licence under ECCN 3A090"
    conditions.append(f"it {under} (TPP {found.policy.tpp:,.0f})")
    text = ", ".join(conditions)
    return f"Conditions: {text}; the software's constants are those of no maker, as nothing was measured on a chip like it."
