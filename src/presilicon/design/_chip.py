"""One design as a Chip, with the figures that the search saw, in the form that every command reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from presilicon.chip import Chip, Link, Memory, Price, Source
from presilicon.economics import silicon
from presilicon.errors import ChipError, WorkloadError, nearest
from presilicon.template import Core

from ._designs import FAMILY, HOST_BYTES_PER_S, Designs, designs_of
from ._space import Value

CHIP_AXES = (
    "node", "formats", "cores", "array", "vector_lanes", "scratchpad_bytes", "shared_sram_bytes", "clock_hz", "memory",
    "stacks", "link_bytes_per_s", "power_share",
)  # fmt: skip
"""Axes that describe the chip; the others say how it is used."""


def one(values: Mapping[str, Value]) -> Designs:
    """The figures of a single design, arrays of length 1; WorkloadError names an axis that is missing or unknown."""
    for name in CHIP_AXES:
        if name not in values:
            raise WorkloadError(f"a design needs a value of {name}", hint="one of each axis of the space")
    arrays = {
        name: np.array([value], dtype=np.str_ if isinstance(value, str) else np.float64) for name, value in values.items()
    }
    return designs_of(arrays, str(values["formats"]))


def parts(values: Mapping[str, Value]) -> tuple[dict[str, float], dict[str, float]]:
    """Area of a design's blocks in mm2, and price of its parts in USD."""
    found = one(values)
    cost = {f.name: getattr(found.cost, f.name) for f in fields(found.cost) if f.name.endswith("_usd")}
    first = {name: float(np.broadcast_to(value, 1)[0]) for name, value in cost.items()}
    return {name: float(np.broadcast_to(value, 1)[0]) for name, value in found.areas.by_block().items()}, first


def chip_of(values: Mapping[str, Value], *, name: str = "design", volume: float | None = None) -> Chip:
    """The chip of one value an axis; ChipError where a law refuses it: reticle, edge of the die.

    Its price is what it costs to make, with its share of the engineering where ``volume`` chips bear it.
    """
    if unknown := [axis for axis in values if axis not in (*CHIP_AXES, "parallelism", "chips", "batch")]:
        raise WorkloadError(f"a design has no axis {unknown[0]!r}", hint=nearest(unknown[0], list(CHIP_AXES)))
    found = one(values)
    m = found.machine

    def first(value: Any) -> float:
        return float(np.broadcast_to(value, 1)[0])

    area, edge, limit = first(found.area_mm2), first(found.edge_mm), first(found.edge_limit_mm)
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
    base = one(dict(values) | {"power_share": 1.0})
    price = first(found.unit_usd) + (first(found.nre_usd) / volume if volume else 0.0)
    constants = {
        key: first(getattr(m.constants, key))
        for key in ("operation_j_per_bit", "dram_j_per_byte", "sram_j_per_byte", "link_j_per_byte")
    }
    side, kind = int(values["array"]), str(values["memory"])
    return Chip(
        name=name,
        title=f"Design: {int(values['cores'])} cores of {side} x {side}, {values['stacks']:g} x {kind}, {values['node']}",
        vendor="presilicon",
        family=FAMILY,
        note=(
            "A design of a search, not a product; no RTL of it exists, as the template multiplies int8 and int4 only. It is "
            f"rated at {100 * first(found.tdp_w) / first(base.tdp_w):.0f} % of what all its parts draw at once. What its "
            "software reaches is not known: the constants are those of no maker (family generic)."
        ),
        cores=int(values["cores"]),
        clock_hz=float(values["clock_hz"]),
        array_rows=side,
        array_cols=side,
        vector_lanes=int(values["vector_lanes"]),
        vector_ops_per_s=first(m.vector_ops_per_s),
        scratchpad_bytes=float(values["scratchpad_bytes"]),
        shared_sram_bytes=float(values["shared_sram_bytes"]),
        process_node=str(values["node"]),
        die_area_mm2=area,
        tdp_w=first(found.tdp_w),
        idle_w=first(found.idle_w),
        peak_ops_per_s={key: first(rate) for key, rate in m.peak.items()},
        memory=Memory(kind=kind, bytes=first(m.memory_bytes), bytes_per_s=first(m.memory_bytes_per_s)),
        link=Link(kind="serial", bytes_per_s=float(values["link_bytes_per_s"])),
        host=Link(kind="PCIe 5.0 x16", bytes_per_s=HOST_BYTES_PER_S),
        price=Price(purchase_usd=price),
        constants=constants,
        sources=(Source(("*",), "presilicon design: area, energy and price by data/technology", confidence="low"),),
    )


def core_of(values: Mapping[str, Value]) -> Core | None:
    """The core of a design of the template; None of other designs."""
    return None
