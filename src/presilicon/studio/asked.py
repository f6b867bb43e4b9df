"""What a page asks for: a model of the library on a chip, its load and limits; and the estimate of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any

from presilicon import chip as chips
from presilicon.chip import Chip
from presilicon.errors import ModelError, PresiliconError, WorkloadError, nearest
from presilicon.estimate import Load, machine, report_of
from presilicon.estimate.reporting import best_way, formats_for
from presilicon.frontend import Listed, catalogue, load
from presilicon.frontend.language import LanguageModel
from presilicon.frontend.network import Network
from presilicon.mapping import Parallelism
from presilicon.report import EstimateReport
from presilicon.studio import blank
from presilicon.studio.variant import numbers, varied

TYPICAL = Load(8, 1024, 128)
"""For this load the way to share a model among chips is chosen, once: it stays while sliders move."""
MOST_CHIPS = 64
WIDTHS = (320.0, 1200.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A state of the page: model, chip and its changes, load, formats (empty: as published), limits, width of pictures."""

    model: str = "llama-3.1-8b"
    chip: str = "nvidia-h100-sxm-80gb"
    changes: Mapping[str, float]
    choices: Mapping[str, str]
    chips: int = 1
    batch: int = 8
    input_tokens: int = 1024
    output_tokens: int = 128
    weights: str = ""
    activations: str = ""
    kv_cache: str = ""
    limits: Mapping[str, float]
    width: float = 640.0

    @classmethod
    def of(cls, table: object) -> Asked:
        """From the JSON of a request; WorkloadError names what cannot be used."""
        if not isinstance(table, Mapping):
            raise WorkloadError("not a state of the page", hint="a JSON object")
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {"changes": {}, "choices": {}, "limits": {}}
        for key, value in table.items():
            if key not in known:
                raise WorkloadError(f"unknown key {str(key)[:60]!r}", hint=nearest(str(key)[:60], list(known)))
            kind = str(known[key].type)
            if key == "choices":
                if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
                    raise WorkloadError("choices are not texts by name")
                values[key] = {str(k): v for k, v in value.items()}
            elif "Mapping" in kind:
                values[key] = numbers(value, key)
            elif kind == "str":
                if not isinstance(value, str) or len(value) > 200:
                    raise WorkloadError(f"{key} is {value!r:.40}", hint="a text")
                values[key] = value
            else:
                if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 1e9:
                    raise WorkloadError(f"{key} is {value!r:.40}", hint="a number from 1")
                if kind == "int" and value != int(value):
                    raise WorkloadError(f"{key} is {value:g}", hint="a whole number")
                values[key] = int(value) if kind == "int" else float(value)
        if values.get("chips", 1) > MOST_CHIPS:
            raise WorkloadError(
                f"chips is {values['chips']}", hint=f"at most {MOST_CHIPS} here; `presilicon estimate` takes more"
            )
        return cls(**values)


@cache
def listed() -> tuple[Listed, ...]:
    """Every model of the library that can be estimated."""
    return tuple(one for one in catalogue() if not one.reason)


@cache
def _by_name() -> Mapping[str, str]:
    return {name.lower(): one.name for one in listed() for name in (one.name, *one.aliases)}


@lru_cache(maxsize=64)
def model(name: str) -> LanguageModel | Network:
    """A model of the library, and never a path."""
    known = _by_name().get(name.strip().lower())
    if known is None:
        raise ModelError(
            f"no model of the library is called {name[:80]!r}", hint=nearest(name[:80], [one.name for one in listed()])
        )
    return load(known)


def library_chip(name: str) -> Chip:
    """A chip of the library by its name or an alias, and never a path."""
    if name.strip().lower().endswith(".toml"):
        raise WorkloadError(f"{name[:80]!r} is not a chip of the library", hint="drop the file onto the page instead")
    return chips.load(name)


@lru_cache(maxsize=256)
def _way(model_name: str, base: str, count: int, formats: tuple[str, str, str], find: Callable[[str], Chip]) -> Parallelism:
    found = model(model_name)
    if count == 1 or isinstance(found, Network):
        return Parallelism(data=count)
    given = formats_for(found, *(f or None for f in formats))
    return best_way(machine(blank.chip({}, {}) if base == blank.NAME else find(base)), found, TYPICAL, given, count)


def chip_of(asked: Asked, find: Callable[[str], Chip]) -> Chip:
    """The chip of a state, its changes applied; ChipError where a law refuses it."""
    if asked.chip == blank.NAME:
        return blank.chip(asked.changes, asked.choices)
    return varied(find(asked.chip), asked.changes)


def base_of(asked: Asked, one: Chip, find: Callable[[str], Chip]) -> Chip:
    """The chip that ``one`` is a change of: a design from nothing is its own."""
    return one if asked.chip == blank.NAME else find(asked.chip)


def way_of(asked: Asked, find: Callable[[str], Chip]) -> Parallelism:
    """How a state's chips share its model."""
    return _way(asked.model, asked.chip, asked.chips, (asked.weights, asked.activations, asked.kv_cache), find)


def report_for(asked: Asked, find: Callable[[str], Chip]) -> tuple[EstimateReport, Chip]:
    """The estimate of a state, and its chip; errors say which law or limit refuses it. ``find`` gives chips by name."""
    one = chip_of(asked, find)
    found = model(asked.model)
    language = isinstance(found, LanguageModel)
    report = report_of(
        found,
        one,
        parallelism=way_of(asked, find),
        batch=asked.batch,
        input_tokens=asked.input_tokens if language else None,
        output_tokens=asked.output_tokens if language else None,
        weights=asked.weights or None,
        activations=asked.activations or None,
        kv_cache=asked.kv_cache or None,
    )
    return report, one


def fitting(width: float) -> float:
    """A width that pictures can have."""
    return min(max(width, WIDTHS[0]), WIDTHS[1])


def told(error: PresiliconError) -> dict[str, str]:
    """An error as a page shows it."""
    return {"message": error.message, "where": error.where, "hint": error.hint}


def setting(report: EstimateReport) -> str:
    """What an estimate is of, as the source of a picture."""
    shared = "" if report.parallelism == "1" else f", {report.parallelism}"
    return f"estimate of {report.model} on {report.chips} x {report.chip}, {report.formats}{shared}"
