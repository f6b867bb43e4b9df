"""A chip under the sliders: which of its figures can be moved, how far, and the chip that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from presilicon.chip import Chip, Memory, Price, Source
from presilicon.errors import ChipError, WorkloadError, nearest
from presilicon.template import Core


@dataclass(frozen=True, slots=True)
class Control:
    """One slider: the figure it moves, its name and unit, its ends, whether it moves in decades, its stops if it has some."""

    key: str
    label: str
    unit: str
    value: float
    low: float
    high: float
    log: bool = True
    stops: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


MEASURED_SPAN = 8.0
"""A slider of a chip's figure goes this many times below and above it."""
_FIGURES = (
    ("cores", "Cores", ""),
    ("macs_per_core", "MACs a cycle and core", ""),
    ("clock_hz", "Clock", "Hz"),
    ("scratchpad_bytes", "Scratchpad of a core", "B"),
    ("shared_sram_bytes", "Shared SRAM", "B"),
    ("memory.bytes", "Memory", "B"),
    ("memory.bytes_per_s", "Memory bandwidth", "B/s"),
    ("link.bytes_per_s", "Links to other chips", "B/s"),
    ("tdp_w", "Power limit", "W"),
)
_TEMPLATE = (
    ("array_rows", "Array rows", (4, 8, 16, 32, 64, 128)),
    ("array_cols", "Array columns", (4, 8, 16, 32, 64, 128)),
    ("vector_lanes", "Vector lanes", (4, 8, 16, 32)),
    ("cores", "Cores", (1, 2, 4, 8, 16)),
    ("scratchpad_bytes", "Scratchpad of a core", tuple(1 << n for n in range(12, 25))),
    ("template.bus_bytes", "Memory bus, bytes a cycle", (16, 32, 64)),
    ("template.weight_rows_per_cycle", "Weight rows a cycle", (1, 2, 4, 8, 16, 32)),
    ("template.accumulator_rows", "Accumulator rows", tuple(1 << n for n in range(4, 12))),
)


def macs_per_core(chip: Chip) -> float | None:
    """MACs of the fastest format that one core does a cycle; None where that is not published."""
    if not chip.peak_ops_per_s or not chip.clock_hz:
        return None
    return max(chip.peak_ops_per_s.values()) / (2.0 * chip.clock_hz * (chip.cores or 1))


def controls(chip: Chip) -> tuple[Control, ...]:
    """The sliders of a chip, each standing at the chip's own figure; figures that are not published have none."""
    found = []
    if chip.template is not None:
        for key, label, stops in _TEMPLATE:
            value = chip.need(key)
            found.append(Control(key, label, "B" if key == "scratchpad_bytes" else "", value, stops[0], stops[-1], stops=stops))
        rest: tuple[str, ...] = ("clock_hz", "memory.bytes", "memory.bytes_per_s")
    else:
        rest = tuple(key for key, _, _ in _FIGURES)
    for key, label, unit in _FIGURES:
        figure = macs_per_core(chip) if key == "macs_per_core" else chip.get(key)
        if key in rest and figure:
            low = max(1.0, figure / MEASURED_SPAN) if key in ("cores", "macs_per_core") else figure / MEASURED_SPAN
            found.append(Control(key, label, unit, figure, low, figure * MEASURED_SPAN))
    return tuple(found)


def varied(base: Chip, changes: Mapping[str, float]) -> Chip:
    """``base`` with figures changed; what follows from them is changed along.

    Rates follow cores, clock and MACs; idle power and the host's share follow the power limit; a changed chip has no price.
    ChipError where the law of a chip, or of a core of the template, refuses the figures.
    """
    known = {control.key: control for control in controls(base)}
    for key, value in changes.items():
        if key not in known:
            raise ChipError(f"no slider moves {key[:60]!r}", where=base.name, hint=nearest(key, list(known)))
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise ChipError(f"{key} is {value!r}", where=base.name, hint="a finite number above zero")
    moved = {key: value for key, value in changes.items() if value != known[key].value}
    if not moved:
        return base
    values: dict[str, Any] = {k: v for k, v in moved.items() if "." not in k and k != "macs_per_core"}
    for key in ("cores", "array_rows", "array_cols", "vector_lanes"):
        if key in values:
            values[key] = round(values[key])
    parts = {
        name: {k.split(".")[1]: v for k, v in moved.items() if k.startswith(f"{name}.")}
        for name in ("memory", "link", "template")
    }
    for name, given in parts.items():
        if given:
            whole = {k: round(v) for k, v in given.items()} if name == "template" else given
            values[name] = replace(getattr(base, name) or Memory(), **whole)
    faster = _times_faster(base, values, moved)
    values["peak_ops_per_s"] = {name: rate * faster for name, rate in base.peak_ops_per_s.items()}
    if base.vector_ops_per_s:
        values["vector_ops_per_s"] = base.vector_ops_per_s * _vector_faster(base, values)
    if "tdp_w" in values and base.idle_w and base.tdp_w:
        values["idle_w"] = base.idle_w * values["tdp_w"] / base.tdp_w
    if not {"memory", "link"} >= set(values) - {"peak_ops_per_s", "vector_ops_per_s"}:
        values |= {"die_area_mm2": None, "transistors": None}
    told = "; ".join(
        f"{known[key].label.lower()} {value:,.6g}{known[key].unit and ' ' + known[key].unit}" for key, value in moved.items()
    )
    note = f"Not a product: {base.title or base.name} with {told}."
    source = Source(("*",), f"made in presilicon's studio from {base.name}: {told}", confidence="low")
    chip = replace(
        base,
        name=f"{base.name}-changed",
        title=f"{base.title or base.name}, changed",
        aliases=(),
        note=note,
        price=Price(),
        sources=(source, *base.sources),
        **values,
    )
    if chip.template is not None:
        Core.of(chip)
    return chip


def _times_faster(base: Chip, values: Mapping[str, Any], moved: Mapping[str, float]) -> float:
    """Rate of the matrix units over the base's."""
    ratio = values.get("clock_hz", base.clock_hz or 1.0) / (base.clock_hz or 1.0)
    for key in ("cores", "array_rows", "array_cols"):
        if key in values:
            ratio *= values[key] / base.need(key)
    if "macs_per_core" in moved:
        ratio *= moved["macs_per_core"] / (macs_per_core(base) or 1.0)
    return float(ratio)


def _vector_faster(base: Chip, values: Mapping[str, Any]) -> float:
    ratio = values.get("clock_hz", base.clock_hz or 1.0) / (base.clock_hz or 1.0)
    for key in ("cores", "vector_lanes"):
        if key in values:
            ratio *= values[key] / base.need(key)
    return float(ratio)


def numbers(table: object, where: str) -> dict[str, float]:
    """A table of numbers by name, as a request carries it; WorkloadError for anything else."""
    if not isinstance(table, Mapping):
        raise WorkloadError("not a table of numbers", where=where)
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WorkloadError(f"{str(key)[:60]} is {value!r:.40}", where=where, hint="a number")
    return {str(key): float(value) for key, value in table.items()}
