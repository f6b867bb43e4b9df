"""Energy and power of a chip that does not exist yet, from its node, its memory and its links.

The reference is silicon that was measured: energy of an operation per bit of its operands, fitted on GPUs at three nodes, and
idle power over die area. Arrays without the schedulers and register files of a GPU take a share of it, bounded by the TDP of
published ones. ``presilicon.estimate.energy`` turns these figures into the energy of work; here they are only found.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache

import numpy as np

from presilicon.dtypes import FORMATS
from presilicon.economics.quantity import Names, Quantity, Real, look_up, quantity, text

# As presilicon.estimate.energy: an operation costs as its operands' bits and five more for the accumulator, H200.
_ACCUMULATOR_BITS = 5.0
_MEASURED_NODE = "n4"  # where the way from memory to a core was fitted (H200)
_MEASURED_MEMORY = "dram_hbm3e"


@cache
def energies() -> Mapping[str, Quantity]:
    """Every quantity of data/technology/energy.toml by name, in joules."""
    return {name: Quantity(**told) for name, told in tomllib.loads(text("energy.toml")).items()}


def operation_j_per_bit(node: Names, kind: str = "accelerator", end: str = "value") -> Real:
    """Energy (J) of an operation (half a MAC) per bit of its operands and accumulator, operands fetched on the chip."""
    whole = look_up("nodes", node, "operation_energy", end)
    return (
        whole * getattr(quantity("blocks", "accelerator", "operation_share"), end)
        if kind in ("accelerator", "static")
        else whole
    )


def operation_j(number_format: str, node: Names, kind: str = "accelerator") -> Real:
    """Energy (J) of one operation of a format at full clock."""
    bits = float(FORMATS[number_format].bits) if number_format in FORMATS else 32.0
    return operation_j_per_bit(node, kind) * (bits + _ACCUMULATOR_BITS)


def dram_j_per_byte(kind: Names, end: str = "value") -> Real:
    """Energy (J) of a byte from memory to a core: the device's, and the way on the chip as fitted on H200 less its device's."""
    way = quantity("blocks", "memory_way", "energy").value

    def device(name: str) -> float:
        known = energies()
        key = f"dram_{name.lower()}"
        key = {
            "dram_lpddr4x": "dram_lpddr4",
            "dram_ddr3": "dram_ddr3_45nm_era",
            "dram_ddr4": "dram_ddr3_45nm_era",
            "dram_ddr5": "dram_ddr3_45nm_era",
        }.get(key, key)
        return float(getattr(known[key], end))

    if isinstance(kind, str):
        return way + device(kind)
    unique, inverse = np.unique(kind, return_inverse=True)
    return way + np.array([device(str(name)) for name in unique])[inverse.reshape(np.shape(kind))]


def sram_j_per_byte(node: Names) -> Real:
    """Energy (J) of a byte of a large on-chip memory: the macro at 7 nm, scaled as the operations are."""
    scale = look_up("nodes", node, "operation_energy") / look_up("nodes", "n7", "operation_energy")
    return energies()["sram_read_7nm_1mb_macro"].value * scale


def link_j_per_byte() -> float:
    """Energy (J) of a byte sent to another chip, NVLink 4's."""
    return energies()["link_nvlink4"].value


def static_w(area_mm2: Real, node: Names, end: str = "value") -> Real:
    """Power (W) of an idle chip with its memory at rest, over the area of its dies."""
    return area_mm2 * look_up("nodes", node, "static_power", end)


def tdp_share() -> Quantity:
    """Published TDPs over ``design_power_w`` of the same chips."""
    return quantity("blocks", "tdp", "share")


def design_power_w(
    *,
    static_w: Real,
    operations_per_s: Real,
    operation_j: Real,
    dram_bytes_per_s: Real,
    dram_j_per_byte: Real,
    active_share: Real,
) -> Real:
    """Power (W) at which matrix units at their peak rate and memory at its full bandwidth just keep their clock.

    ``active_share`` of it is drawn by clocks and schedulers while anything runs. Makers set TDPs below it and let large
    matmuls throttle: ``tdp_share`` of it, in the median of published chips.
    """
    return (static_w + operations_per_s * operation_j + dram_bytes_per_s * dram_j_per_byte) / (1.0 - active_share)
