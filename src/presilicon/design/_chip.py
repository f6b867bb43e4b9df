"""One design as a Chip, with the figures that the search saw, in the form that every command reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from presilicon.chip import Chip, Link, Memory, Price, Source, Template
from presilicon.economics import silicon
from presilicon.errors import ChipError, WorkloadError, nearest

from ._designs import Designs, designs_of
from ._hardware import CORE_AXES, HOST_BYTES_PER_S, core_of
from ._space import Value

ACCELERATOR_AXES = (
    "node", "formats", "cores", "array", "vector_lanes", "scratchpad_bytes", "shared_sram_bytes", "clock_hz", "memory",
    "stacks", "link_bytes_per_s", "power_share",
)  # fmt: skip
TEMPLATE_AXES = ("node", "formats", "clock_hz", "memory", *CORE_AXES)
USE_AXES = ("parallelism", "chips", "batch")
"""Axes that say how the chip is used; the others describe it."""


def one(values: Mapping[str, Value]) -> Designs:
    """The figures of a single design, arrays of length 1; WorkloadError names an axis that is missing or unknown."""
    needed = TEMPLATE_AXES if "array_rows" in values else ACCELERATOR_AXES
    for name in needed:
        if name not in values:
            raise WorkloadError(f"a design needs a value of {name}", hint="one of each axis of the space")
    if unknown := [axis for axis in values if axis not in (*needed, *USE_AXES)]:
        raise WorkloadError(f"a design has no axis {unknown[0]!r}", hint=nearest(unknown[0], list(needed)))
    arrays = {
        name: np.array([value], dtype=np.str_ if isinstance(value, str) else np.float64) for name, value in values.items()
    }
    return designs_of(arrays, str(values["formats"]))


def first(value: Any) -> float:
    """The only element of a figure of a single design."""
    return float(np.broadcast_to(value, 1)[0])


def parts(values: Mapping[str, Value]) -> tuple[dict[str, float], dict[str, float]]:
    """Area of a design's blocks in mm2, and price of its parts in USD."""
    found = one(values)
    price = {f.name: first(getattr(found.cost, f.name)) for f in fields(found.cost) if f.name.endswith("_usd")}
    return {name: first(block) for name, block in found.hardware.blocks.items()}, price


def chip_of(values: Mapping[str, Value], *, name: str = "design", volume: float | None = None) -> Chip:
    """The chip of one value an axis; ChipError where a law refuses it: reticle, edge of the die, the template's.

    Its price is what it costs to make, with its share of the engineering where ``volume`` chips bear it.
    """
    found = one(values)
    _require_laws(found, values, name)
    h, m = found.hardware, found.machine
    price = first(found.cost.unit_usd) + (first(found.nre_usd) / volume if volume else 0.0)
    common: dict[str, Any] = {
        "name": name,
        "vendor": "presilicon",
        "family": h.family,
        "cores": int(values["cores"]),
        "clock_hz": float(values["clock_hz"]),
        "vector_lanes": int(values["vector_lanes"]),
        "vector_ops_per_s": first(m.vector_ops_per_s),
        "scratchpad_bytes": float(values["scratchpad_bytes"]),
        "process_node": str(values["node"]),
        "die_area_mm2": first(found.area_mm2),
        "tdp_w": first(found.tdp_w),
        "idle_w": first(found.idle_w),
        "peak_ops_per_s": {key: first(rate) for key, rate in m.peak.items()},
        "memory": Memory(str(values["memory"]), first(m.memory_bytes), first(m.memory_bytes_per_s)),
        "price": Price(purchase_usd=price),
        "constants": {
            key: first(getattr(m.constants, key))
            for key in ("operation_j_per_bit", "dram_j_per_byte", "sram_j_per_byte", "link_j_per_byte")
        },
        "sources": (Source(("*",), "presilicon design: area, energy and price by data/technology", confidence="low"),),
    }
    return _template_chip(values, common) if "array_rows" in values else _accelerator_chip(values, common)


def _require_laws(found: Designs, values: Mapping[str, Value], name: str) -> None:
    h = found.hardware
    if first(h.refused):
        core = core_of(tuple(int(values[axis]) for axis in CORE_AXES))
        raise ChipError(str(core), where=name)
    area, edge, limit = first(found.area_mm2), first(h.edge_mm), first(h.edge_limit_mm)
    if area > silicon.reticle_mm2():
        raise ChipError(
            f"the die is {area:.0f} mm2 and a reticle holds {silicon.reticle_mm2():.0f} mm2", where=name,
            hint="fewer cores, smaller arrays or less SRAM",
        )  # fmt: skip
    if edge > limit:
        raise ChipError(
            f"memory and links need {edge:.0f} mm of the die's edge and {area:.0f} mm2 have {limit:.0f} mm", where=name,
            hint="fewer memory devices, slower links or a larger die",
        )  # fmt: skip


def _accelerator_chip(values: Mapping[str, Value], common: Mapping[str, Any]) -> Chip:
    side, kind = int(values["array"]), str(values["memory"])
    return Chip(
        **common,
        title=f"Design: {int(values['cores'])} cores of {side} x {side}, {values['stacks']:.0f} {kind}, {values['node']}",
        note=(
            "A design of a search, not a product; no RTL of it exists, as the template multiplies int8 and int4 only. Rated at "
            f"{100 * float(values['power_share']):.0f} % of what arrays and memory draw at their peak, and what idles. What "
            "its software reaches is not known: the constants are those of no maker (family generic)."
        ),
        array_rows=side,
        array_cols=side,
        shared_sram_bytes=float(values["shared_sram_bytes"]),
        link=Link(kind="serial", bytes_per_s=float(values["link_bytes_per_s"])),
        host=Link(kind="PCIe 5.0 x16", bytes_per_s=HOST_BYTES_PER_S),
    )


def _template_chip(values: Mapping[str, Value], common: Mapping[str, Any]) -> Chip:
    rows, cols = int(values["array_rows"]), int(values["array_cols"])
    return Chip(
        **common,
        title=f"Design: template, {int(values['cores'])} cores of {rows} x {cols} int8 PEs, {values['node']}",
        note="A design of a search, not a product. It is of this project's template: RTL, simulator and compiler exist.",
        array_rows=rows,
        array_cols=cols,
        template=Template(
            bus_bytes=int(values["bus_bytes"]),
            weight_rows_per_cycle=int(values["weight_rows_per_cycle"]),
            accumulator_rows=int(values["accumulator_rows"]),
        ),
    )
