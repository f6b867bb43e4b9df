"""What is searched: a model under limits, a space of designs, an objective, and how the chips will be run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from presilicon.dtypes import FORMATS, Formats, NumberFormat
from presilicon.economics import Operation, defaults
from presilicon.errors import WorkloadError, nearest
from presilicon.estimate.reporting import require_length, ways
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.network import Network
from presilicon.mapping import Parallelism
from presilicon.match import Limits, candidates, workload

from . import _space
from ._space import Axis, Space

OBJECTIVES = {
    "tokens-per-dollar": "usd_per_million_tokens",
    "tokens-per-joule": "energy_j_per_token",
    "tokens-per-second": "chip_s_per_token",
    "latency": "latency_s",
}
"""Objectives by name, and the figure of a design that is made as small as can be."""

# The largest field of a lithography scanner, 26 mm x 33 mm (ASML, TWINSCAN NXE:3600D product page, "26 x 33 mm field size").
RETICLE_MM2 = 858.0
# Chips that the engineering of a design is spread over, where nothing is said.
DEFAULT_VOLUME = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A search: everything that a design's figures depend on. ``problem`` makes one from what a user gives.

    ``bounds`` are hard limits by the figure they bound. A network's samples stand for tokens, as in the ranking; ``tokens`` are
    those of one of its samples, None for its usual number.
    """

    model: LanguageModel | Network
    space: Space
    objective: str
    limits: Limits
    operation: Operation
    volume: int = DEFAULT_VOLUME
    max_area_mm2: float = RETICLE_MM2
    max_unit_usd: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise WorkloadError(f"no objective is called {self.objective!r}", hint=_choice(self.objective, list(OBJECTIVES)))
        for name in ("max_area_mm2", "max_unit_usd"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e30:
                raise WorkloadError(f"{name} is {value!r}", hint="a finite number above zero")
        if not 1 <= self.volume <= 10**9:
            raise WorkloadError(f"volume is {self.volume!r}", hint="chips made in all, from 1")

    @property
    def figure(self) -> str:
        """The figure that is made as small as can be."""
        return OBJECTIVES[self.objective]

    @property
    def bounds(self) -> Mapping[str, float]:
        """Hard limits on figures, those of memory and die edge left out (they differ from design to design)."""
        limits = {
            "time_to_first_token_s": self.limits.ttft_s,
            "time_per_output_token_s": self.limits.tpot_s if isinstance(self.model, LanguageModel) else None,
            "system_tdp_w": self.limits.max_power_w,
            "area_mm2": self.max_area_mm2,
            "unit_usd": self.max_unit_usd,
        }
        return {name: value for name, value in limits.items() if value is not None}

    def formats(self, multiplied: str) -> Formats | None:
        """What the model runs in on a chip whose matrix units multiply these formats ("bf16+fp8"); None where it cannot."""
        return _formats(self, tuple(multiplied.split("+")))

    def digest(self) -> str:
        """Sixteen hex digits that name the search: two of the same digest give every design the same figures."""
        told = {
            "model": repr(self.model),
            "space": self.space.digest(),
            "objective": self.objective,
            "limits": [repr(getattr(self.limits, f.name)) for f in fields(self.limits)],
            "operation": [repr(getattr(self.operation, f.name)) for f in fields(self.operation)],
            "rest": [self.volume, self.max_area_mm2, self.max_unit_usd, self.tokens],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def told(self) -> dict[str, Any]:
        """What was asked, for reports."""
        return {
            "model": self.model.name,
            "space": self.space.name,
            "designs_in_space": self.space.size,
            "objective": self.objective,
            "limits": {f.name: getattr(self.limits, f.name) for f in fields(self.limits)},
            "max_area_mm2": self.max_area_mm2,
            "max_unit_usd": self.max_unit_usd,
            "volume": self.volume,
            "operation": {f.name: getattr(self.operation, f.name) for f in fields(self.operation)},
        }


def _choice(name: str, known: list[str]) -> str:
    return nearest(name, known) or "one of " + ", ".join(known)


def _formats(asked: Problem, has: tuple[str, ...]) -> Formats | None:
    if isinstance(asked.model, LanguageModel):
        # As in the ranking: attention's probabilities need 16 bits.
        usable = [f for f in candidates(asked.model, asked.limits) if _multiplied(f.activations, has)]
        return min(usable, key=_bits) if usable and {"bf16", "fp16"} & set(has) else None
    allowed = [FORMATS[name] for name in has if not asked.limits.formats or name in asked.limits.formats]
    if not allowed:
        return None
    # The template multiplies int4 weights, by int8 activations, and no faster.
    narrow = FORMATS["int8"] if asked.space.template else min(allowed, key=lambda f: f.bits)
    wide = max((FORMATS[name] for name in has), key=lambda f: f.bits)
    return Formats(narrow, narrow, wide)


def _multiplied(activations: NumberFormat, has: tuple[str, ...]) -> bool:
    return activations.name in has or (activations.name in ("bf16", "fp16") and bool({"bf16", "fp16"} & set(has)))


def _bits(formats: Formats) -> tuple[int, int, int]:
    return formats.activations.bits, formats.weights.bits, formats.kv_cache.bits


def problem(
    model: LanguageModel | Network,
    *,
    objective: str = "tokens-per-dollar",
    space: str = "accelerator",
    node: str | None = None,
    memory: str | None = None,
    chips: int | None = None,
    max_area_mm2: float | None = None,
    max_unit_usd: float | None = None,
    volume: int | None = None,
    workload_file: str | None = None,
    years: float | None = None,
    usd_per_kwh: float | None = None,
    pue: float | None = None,
    **limits: Any,
) -> Problem:
    """The search a user asks for; ``limits`` are fields of ``match.Limits``.

    WorkloadError where options clash or nothing in the space can run the model at all.
    """
    asked = _space.load(space)
    for name, value in (("node", node), ("memory", memory)):
        if value is not None:
            asked = asked.only(name, (_known(asked, name, value),))
    given = (workload(workload_file) if workload_file else {}) | {k: v for k, v in limits.items() if v is not None}
    most = chips or given.get("chips")
    given.pop("chips", None)
    counts = [int(v) for v in asked.axis("chips").values if most is None or float(v) <= most]
    if not counts:
        raise WorkloadError(f"the space {asked.name} has no system of {most} chips or fewer", hint="a larger --chips")
    bounds = Limits(chips=counts[-1], **given)
    if isinstance(model, LanguageModel):
        require_length(model, bounds.input_tokens, bounds.output_tokens)
        shared = [p for count in counts for p in ways(model, count)]
    else:
        for name in ("output_tokens", "tpot_s"):
            if given.get(name) is not None:
                raise WorkloadError(f"{model.name} generates no tokens", hint=f"leave {name} out")
        shared = [Parallelism()]
    axes = tuple(Axis("parallelism", tuple(str(p) for p in shared)) if axis.name == "chips" else axis for axis in asked.axes)
    found = Problem(
        model=model,
        space=replace(asked, axes=axes),
        objective=objective,
        limits=bounds,
        operation=defaults(years, usd_per_kwh, pue),
        volume=volume or DEFAULT_VOLUME,
        max_area_mm2=min(max_area_mm2 or RETICLE_MM2, RETICLE_MM2),
        max_unit_usd=max_unit_usd,
        tokens=None if isinstance(model, LanguageModel) else given.get("input_tokens"),
    )
    usable = [str(v) for v in found.space.axis("formats").values if found.formats(str(v)) is not None]
    if not usable:
        raise WorkloadError(
            f"no number format of the space {asked.name} runs {model.name}",
            hint="it has " + ", ".join(str(v) for v in found.space.axis("formats").values) + "; attention needs a 16-bit one",
        )
    return replace(found, space=found.space.only("formats", usable))


def _known(space: Space, name: str, value: str) -> str:
    known = [str(v) for v in space.axis(name).values]
    by_lower = {k.lower(): k for k in known}
    if value.lower() not in by_lower:
        raise WorkloadError(f"{name} {value!r} is not in the space {space.name}", hint=_choice(value, known))
    return by_lower[value.lower()]


def parallelism(text: str) -> Parallelism:
    """What ``str(Parallelism)`` says, read back."""
    letters = {"T": "tensor", "P": "pipeline", "E": "expert", "D": "data"}
    if text == "1":
        return Parallelism()
    return Parallelism(**{letters[part[0]]: int(part[2:]) for part in text.split("x")})
