"""Area of the die of an inference chip, block by block, for one chip or an array of designs.

Matrix units, vector lanes and SRAM are so many units times an area at 7 nm, scaled to the node by its density of logic or
the size of its SRAM cell. Control, the on-chip network and white space are a share of these, one for each kind of machine.
Interfaces are PHYs, which do not shrink, and controllers, which do. The units' areas and the shares are fitted on dies whose
area is published (``fit_silicon``); ``dies`` says which dies were not, and how far the model is off there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache

import numpy as np

from presilicon.economics.quantity import Names, Real, look_up, quantity, text
from presilicon.errors import ChipError, nearest

_MM2_PER_UM2 = 1e-6
_BITS_PER_MBIT = 1e6
_LINK_BYTES_PER_S = 25e9  # what one link PHY of blocks.csv carries
KINDS = ("accelerator", "static", "gpu", "graphics", "cdna")
"""Machines that the model tells apart: arrays with DRAM, arrays fed from SRAM alone, GPUs, those with graphics, AMD's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DieSpec:
    """What a die is built of; every number is a float or an array over designs, names are one text or an array of them.

    ``macs``: MACs a cycle of the whole die by number format; the largest of them sets the area, as narrower formats share its
    multipliers. ``simt_lanes`` are fp32 lanes of a GPU with their schedulers, ``vector_lanes`` those of an accelerator.
    ``sram_bytes``: all memory on the die, registers of GPUs included. ``memory_units``: stacks of 1024 bits or channels of
    32 bits, 0 without memory. ``link_bytes_per_s``: to other chips, per direction.
    """

    node: Names
    kind: str = "accelerator"
    macs: Mapping[str, Real] = field(default_factory=dict)
    simt_lanes: Real = 0.0
    fp64_lanes: Real = 0.0
    vector_lanes: Real = 0.0
    sram_bytes: Real = 0.0
    memory_kind: Names = ""
    memory_units: Real = 0.0
    link_bytes_per_s: Real = 0.0
    host: str = "pcie5"
    host_lanes: Real = 16.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ChipError(
                f"no kind of die is called {self.kind!r}", hint=nearest(self.kind, list(KINDS)) or "one of " + ", ".join(KINDS)
            )
        for name in (
            "simt_lanes",
            "fp64_lanes",
            "vector_lanes",
            "sram_bytes",
            "memory_units",
            "link_bytes_per_s",
            "host_lanes",
        ):
            if not np.all(np.asarray(getattr(self, name)) >= 0):
                raise ChipError(f"{name} of the die is {getattr(self, name)}", hint="zero or more")
        for name, macs in self.macs.items():
            mac_ratio(name)
            if not np.all(np.asarray(macs) >= 0):
                raise ChipError(f"macs of {name} on the die are {macs}", hint="zero or more")


@dataclass(frozen=True, slots=True)
class Areas:
    """Area of a die by block in mm2; ``uncore`` is control, on-chip network, clocks and white space."""

    matrix: Real
    vector: Real
    sram: Real
    uncore: Real
    memory: Real
    link: Real
    host: Real

    @property
    def total_mm2(self) -> Real:
        """The whole die."""
        total: Real = sum((getattr(self, f.name) for f in fields(self)), 0.0)
        return total

    def by_block(self) -> dict[str, Real]:
        """Each block by its name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@cache
def fitted() -> Mapping[str, float]:
    """data/technology/silicon.toml: areas of units at 7 nm in um2 (SRAM: mm2 a Mbit), ratios, and shares of the uncore."""
    return {name: float(value) for name, value in tomllib.loads(text("silicon.toml"))["constants"].items()}


@cache
def area_spread() -> float:
    """Root mean square of the logarithm of modelled over published area, of dies by constants fitted on the others."""
    return float(np.sqrt(np.mean(np.square(np.log1p(list(tomllib.loads(text("silicon.toml"))["left_out"].values()))))))


def mac_ratio(number_format: str, constants: Mapping[str, float] | None = None) -> float:
    """Area of a MAC of a format over that of an int8 one; ChipError where no figure is known."""
    wide = (fitted() if constants is None else constants)["wide_mac_ratio"]
    if number_format in ("bf16", "fp16", "tf32"):
        return wide
    if number_format == "fp32":
        return wide * quantity("blocks", "fp32_mac", "area_ratio").value
    narrow = {
        "fp8": "fp8_mac",
        "fp8_e5m2": "fp8_mac",
        "mxfp8": "fp8_mac",
        "mxfp6": "fp8_mac",
        "mxfp4": "fp4_mac",
        "nvfp4": "fp4_mac",
        "int4": "int4_mac",
    }
    if number_format in narrow:
        return quantity("blocks", narrow[number_format], "area_ratio").value
    if number_format == "int8":
        return 1.0
    raise ChipError(f"no area is known for MACs of {number_format!r}", hint="int8, int4, fp8, bf16, fp16, fp32, mxfp4 or nvfp4")


def logic_scale(node: Names) -> Real:
    """Area of logic at a node over that at 7 nm."""
    return look_up("nodes", "n7", "logic_density") / look_up("nodes", node, "logic_density")


def sram_scale(node: Names) -> Real:
    """Area of SRAM at a node over that at 7 nm."""
    return look_up("nodes", node, "sram_cell") / look_up("nodes", "n7", "sram_cell")


def interface(kind: Names) -> Names:
    """The class of PHY that a kind of memory needs: "hbm", or "ddr" for channels of 32 bits."""
    if isinstance(kind, str):
        return "hbm" if kind.upper().startswith("HBM") else "ddr"
    return np.where(np.char.startswith(np.char.upper(kind), "HBM"), "hbm", "ddr")


def _interface_mm2(kind: Names, node: Names, units: Real) -> Real:
    controllers = look_up("blocks", kind, "controller_transistors") / 1e6 / look_up("nodes", node, "logic_density")
    return units * (look_up("blocks", kind, "phy_area") + controllers)


def shoreline_mm(spec: DieSpec) -> Real:
    """Edge of the die that the memory's PHYs take, in mm; that of links is not known and left out."""
    return spec.memory_units * look_up("blocks", interface(spec.memory_kind), "shoreline")


def reticle_mm2() -> float:
    """Largest die that one exposure prints."""
    return quantity("blocks", "reticle", "area").value


def die_area(spec: DieSpec, constants: Mapping[str, float] | None = None) -> Areas:
    """Area of the blocks of a die in mm2; arrays broadcast. ``constants``: instead of the fitted ones.

    A die grows with each of its parts: no block shrinks when another grows.
    """
    c = fitted() if constants is None else constants
    logic, cell = logic_scale(spec.node), sram_scale(spec.node)
    macs: Real = 0.0
    for number_format, count in spec.macs.items():
        macs = np.maximum(macs, count * mac_ratio(number_format, c))
    matrix = macs * c["int8_mac_um2"] * _MM2_PER_UM2 * logic
    lane_um2 = spec.simt_lanes * (c["cdna_lane_um2"] if spec.kind == "cdna" else c["simt_lane_um2"])
    if spec.kind == "graphics":
        lane_um2 = lane_um2 + spec.simt_lanes * c["graphics_um2"]
    vector_um2 = (
        lane_um2 + spec.fp64_lanes * c["fp64_lane_um2"] + spec.vector_lanes * quantity("blocks", "vector_lane", "area").value
    )
    vector = vector_um2 * _MM2_PER_UM2 * logic
    sram = spec.sram_bytes * 8.0 / _BITS_PER_MBIT * c["sram_mm2_per_mbit"] * cell
    share = c[f"uncore_{spec.kind}" if spec.kind in ("accelerator", "static") else "uncore_gpu"]
    return Areas(
        matrix=matrix,
        vector=vector,
        sram=sram,
        uncore=share * (matrix + vector + sram),
        memory=_interface_mm2(interface(spec.memory_kind), spec.node, spec.memory_units),
        link=_interface_mm2("link", spec.node, spec.link_bytes_per_s / _LINK_BYTES_PER_S),
        host=_interface_mm2(spec.host, spec.node, spec.host_lanes),
    )
