"""What a design is built of, as arrays over designs: of an accelerator with memory and links, or of cores of the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import FORMATS
from presilicon.economics import area as synthesised
from presilicon.economics import silicon
from presilicon.economics.quantity import look_up
from presilicon.economics.silicon import DieSpec
from presilicon.errors import ChipError
from presilicon.template import Core

Floats = NDArray[np.float64]
Values = Mapping[str, Any]
# To the host: PCIe 5.0 x16, 32 GT/s x 16 lanes x 128/130 / 8 (data/chips/rebellions-atom.toml).
HOST_BYTES_PER_S = 63e9
# Links and host interface of nvidia-h100-sxm-80gb (450 and 63 GB/s a direction) share the two edges that its HBM leaves free:
# 2 x 25.3 mm of 814 mm2 at the reticle's 33:26.
LINK_BYTES_PER_S_PER_MM = 10e9
ASPECT = 33.0 / 26.0
# A chip that names neither link nor host interface, as presilicon.estimate.machine takes it.
_NO_LINK_BYTES_PER_S = 16e9
_SYNTHESISED_NODE = "n7"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Figures of designs of one kind, arrays of shape (n,). ``blocks`` are areas in mm2.

    ``edge_mm``: of the die's edge, taken by memory and links; ``edge_limit_mm``: what there is. ``refused``: above zero where a
    law of the kind forbids the design.
    """

    family: str
    node: NDArray[np.str_]
    memory: NDArray[np.str_]
    devices: Floats
    memory_bytes: Floats
    memory_bytes_per_s: Floats
    cores: Floats
    clock_hz: Floats
    peak: Mapping[str, Floats]
    vector_lanes: Floats
    scratchpad_bytes: Floats
    shared_sram_bytes: Floats
    link_bytes_per_s: Floats
    host_bytes_per_s: float
    power_share: Floats
    blocks: Mapping[str, Floats]
    edge_mm: Floats
    edge_limit_mm: Floats
    refused: Floats

    @property
    def area_mm2(self) -> Floats:
        """The whole die."""
        total: Floats = np.sum(list(self.blocks.values()), axis=0)
        return total


def hardware(values: Values, multiplied: str) -> Hardware:
    """The hardware of designs whose ``values`` are arrays by axis and which all multiply ``multiplied`` ("bf16+fp8")."""
    return _template(values, multiplied) if "array_rows" in values else _accelerator(values, multiplied)


def _accelerator(values: Values, multiplied: str) -> Hardware:
    node, kind, devices, cores = values["node"], values["memory"], values["stacks"], values["cores"]
    names = multiplied.split("+")
    widest = FORMATS[names[0]].bits
    # Formats share the multipliers: half the bits, twice the rate.
    macs = {name: cores * values["array"] * values["array"] * (widest / FORMATS[name].bits) for name in names}
    lanes, link = cores * values["vector_lanes"], values["link_bytes_per_s"]
    scratchpad, shared = values["scratchpad_bytes"], values["shared_sram_bytes"]
    die = DieSpec(
        node=node, macs=macs, vector_lanes=lanes, sram_bytes=cores * scratchpad + shared, memory_kind=kind,
        memory_units=devices, link_bytes_per_s=link,
    )  # fmt: skip
    areas = silicon.die_area(die)
    blocks = {name: np.broadcast_to(np.asarray(block), node.shape) for name, block in areas.by_block().items()}
    area = np.asarray(areas.total_mm2)
    links_mm = (link + HOST_BYTES_PER_S) / LINK_BYTES_PER_S_PER_MM
    memory_mm = silicon.shoreline_mm(die)
    stacked = silicon.interface(kind) == "hbm"
    long_mm, short_mm = np.sqrt(area * ASPECT), np.sqrt(area / ASPECT)
    return Hardware(
        family="generic",
        node=node,
        memory=kind,
        devices=devices,
        memory_bytes=devices * look_up("blocks", kind, "unit_capacity"),
        memory_bytes_per_s=devices * look_up("blocks", kind, "unit_bandwidth"),
        cores=cores,
        clock_hz=values["clock_hz"],
        peak={name: 2.0 * number * values["clock_hz"] for name, number in macs.items()},
        vector_lanes=lanes,
        scratchpad_bytes=scratchpad,
        # Scratchpads of a megabyte and more are memory that software manages, as presilicon.estimate.machine takes them.
        shared_sram_bytes=shared + np.where(scratchpad >= 1e6, scratchpad * cores, 0.0),
        link_bytes_per_s=link,
        host_bytes_per_s=HOST_BYTES_PER_S,
        power_share=values["power_share"],
        blocks=blocks,
        # Stacks stand at the two long edges, links at the others; channels and links share all four.
        edge_mm=np.where(stacked, np.maximum(memory_mm, links_mm * ASPECT), memory_mm + links_mm),
        edge_limit_mm=2.0 * long_mm + np.where(stacked, 0.0, 2.0 * short_mm),
        refused=np.zeros(node.shape),
    )


CORE_AXES = (
    "array_rows", "array_cols", "vector_lanes", "bus_bytes", "weight_rows_per_cycle", "scratchpad_bytes", "accumulator_rows",
    "cores",
)  # fmt: skip
"""Axes of the template, as a Core takes them."""


@lru_cache(maxsize=1 << 16)
def core_of(sizes: tuple[int, ...]) -> Core | str:
    """The core of sizes in the order of ``CORE_AXES``, or the law that refuses it."""
    rows, cols, lanes, bus, weight_rows, scratchpad, accumulators, cores = sizes
    try:
        return Core(
            rows=rows, cols=cols, lanes=lanes, bus_bytes=bus, weight_rows_per_cycle=weight_rows, scratchpad_bytes=scratchpad,
            scratchpad_banks=8, accumulator_rows=accumulators, cores=cores,
        )  # fmt: skip
    except ChipError as error:
        return str(error)


@lru_cache(maxsize=1 << 16)
def _synthesised_mm2(sizes: tuple[int, ...]) -> tuple[float, float]:
    """Logic and memories of a core at 7 nm; not a number where a law refuses it."""
    core = core_of(sizes)
    if isinstance(core, str):
        return float("nan"), float("nan")
    found = synthesised.area(core, _SYNTHESISED_NODE)
    return found.logic_mm2, found.memory_mm2


def _template(values: Values, multiplied: str) -> Hardware:
    node, kind, clock = values["node"], values["memory"], values["clock_hz"]
    sizes, place = np.unique(np.stack([values[name] for name in CORE_AXES], axis=1), axis=0, return_inverse=True)
    mm2 = np.array([_synthesised_mm2(tuple(int(v) for v in row)) for row in sizes])[place.reshape(-1)]
    refused = np.isnan(mm2[:, 0])
    mm2 = np.where(np.isnan(mm2), 1.0, mm2)
    # The memory gives the bus a beat a cycle, by as many channels as that takes.
    bandwidth = values["bus_bytes"] * clock
    devices = np.ceil(bandwidth / look_up("blocks", kind, "unit_bandwidth"))
    rate = 2.0 * values["cores"] * values["array_rows"] * values["array_cols"] * clock
    die = DieSpec(node=node, memory_kind=kind, memory_units=devices, host_lanes=0.0)
    blocks = {
        "logic": mm2[:, 0] * silicon.logic_scale(node),
        "memories": mm2[:, 1] * silicon.sram_scale(node),
        "memory_interface": np.asarray(silicon.die_area(die).memory),
    }
    area = np.sum(list(blocks.values()), axis=0)
    scratchpad = values["scratchpad_bytes"]
    return Hardware(
        family="template",
        node=node,
        memory=kind,
        devices=devices,
        memory_bytes=devices * look_up("blocks", kind, "unit_capacity"),
        memory_bytes_per_s=bandwidth,
        cores=values["cores"],
        clock_hz=clock,
        peak=dict.fromkeys(multiplied.split("+"), rate),
        vector_lanes=values["cores"] * values["vector_lanes"],
        scratchpad_bytes=scratchpad,
        shared_sram_bytes=scratchpad * values["cores"],
        link_bytes_per_s=np.full(node.shape, _NO_LINK_BYTES_PER_S),
        host_bytes_per_s=_NO_LINK_BYTES_PER_S,
        power_share=np.ones(node.shape),
        blocks=blocks,
        edge_mm=np.asarray(silicon.shoreline_mm(die)),
        edge_limit_mm=4.0 * np.sqrt(area),
        refused=refused.astype(np.float64),
    )
