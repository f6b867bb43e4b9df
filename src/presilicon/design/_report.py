"""The answer of a search as a value, and as files: design.json, the chosen chip's TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from presilicon.economics.decide import Swing
from presilicon.errors import CapacityError
from presilicon.files import write_whole

from ._archive import Archive, Candidate
from ._chip import parts
from ._problem import Problem
from ._search import Snapshot
from ._verdict import Verdict, even_json, sentences, verdict
from ._why import (
    LIMITS,
    Decision,
    NearWinner,
    ShadowPrice,
    bottleneck,
    broken_limits,
    decisions,
    near_winners,
    shadow_prices,
)

SCHEMA = "presilicon/design/1"
_NEAR = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignReport:
    """What a search found and what it rests on; ``to_json`` is what ``design --json`` prints and design.json holds."""

    problem: Problem
    snapshot: Snapshot
    chosen: Candidate
    bottleneck: Mapping[str, float]
    decisions: tuple[Decision, ...]
    shadow_prices: tuple[ShadowPrice, ...]
    near: tuple[NearWinner, ...]
    verdict: Verdict
    recommendation: tuple[str, str, str]
    command: str

    def to_json(self) -> dict[str, Any]:
        """Everything by name."""
        blocks, price = parts(self.chosen.fields)
        chip, v = self.chosen.chip(), self.verdict
        best = v.best("buy")
        return {
            "problem": self.problem.told(),
            "designs_evaluated": self.snapshot.evaluated,
            "designs_feasible": self.snapshot.feasible,
            "designs_per_s": self.snapshot.designs_per_s,
            "seconds": self.snapshot.seconds,
            "chosen": self.chosen.to_json()
            | {
                "area": blocks,
                "price": price,
                "usd_per_million_tokens": v.usd_per_million_tokens.to_json(),
                "usd_per_million_tokens_without_nre": v.without_nre.to_json(),
                "unit_usd": v.unit_usd.to_json(),
                "nre_usd": v.nre_usd.to_json(),
                "bottleneck": dict(self.bottleneck),
                "policy": v.policy.to_json(),
                "family": chip.family,
                "has_rtl": v.has_rtl,
                "chip_toml": f"{chip.name}.toml",
            },
            "pareto": [candidate.to_json() for candidate in self.snapshot.front],
            "decisions": [decision.to_json() for decision in self.decisions],
            "shadow_prices": [price.to_json() for price in self.shadow_prices],
            "near": [near.to_json() for near in self.near],
            "alternatives": [alternative.to_json() for alternative in v.alternatives],
            "sensitivity": [swing_json(swing) for swing in v.swings],
            "break_even": None
            if best is None or best.break_even is None
            else {"against": best.chip} | even_json(best.break_even),
            "recommendation": list(self.recommendation),
            "command": self.command,
        }


def swing_json(swing: Swing) -> dict[str, Any]:
    """One bar of a tornado plot."""
    return {name: getattr(swing, name) for name in ("name", "low", "high", "at_low", "at_high")}


def report(problem: Problem, found: Archive, snapshot: Snapshot, *, command: str = "") -> DesignReport:
    """The answer of a finished search; CapacityError with the nearest miss where no design holds all limits."""
    chosen = found.best()
    if chosen is None:
        raise no_design(problem, found)
    told = verdict(problem, chosen)
    return DesignReport(
        problem=problem,
        snapshot=snapshot,
        chosen=chosen,
        bottleneck=bottleneck(problem, chosen.fields),
        decisions=decisions(problem, chosen),
        shadow_prices=shadow_prices(problem, found, chosen),
        near=near_winners(problem, found, chosen)[:_NEAR],
        verdict=told,
        recommendation=sentences(problem, chosen, told),
        command=command,
    )


def no_design(problem: Problem, found: Archive) -> CapacityError:
    """The error that says which limit no design holds, and the nearest value that one reaches."""
    nearest = found.nearest()
    assert nearest is not None, "a search evaluates at least one design"
    broken = broken_limits(problem, nearest.figures)
    told = [f"{LIMITS[name][0]} is {value:.3g} {LIMITS[name][1]} of {bound:.3g} allowed" for name, value, bound in broken]
    name, value, _ = broken[0]
    return CapacityError(
        f"none of {found.evaluated:,} designs holds all limits; of the nearest one, " + " and ".join(told),
        where=problem.model.name,
        hint=f"a limit of {value * 1.01:.3g} {LIMITS[name][1]} on {LIMITS[name][0]}, or a wider space",
    )


def write(folder: str | Path, found: DesignReport) -> list[str]:
    """Write design.json and the chosen chip's TOML into a folder; their names."""
    chip = found.chosen.chip()
    whole = {"schema": SCHEMA, **_clean(found.to_json())}
    write_whole(Path(folder) / f"{chip.name}.toml", chip.to_toml())
    write_whole(Path(folder) / "design.json", json.dumps(whole, indent=2, allow_nan=False) + "\n")
    return [f"{chip.name}.toml", "design.json"]


def _clean(value: Any) -> Any:
    """JSON has no infinity: what is never reached is null."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _clean(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one) for one in value]
    return value
