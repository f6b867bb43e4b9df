"""Designs as arrays: what the estimate and the economics read, from the values of a block of designs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import FORMATS
from presilicon.economics import manufacture, power, silicon
from presilicon.economics.manufacture import Prices, UnitCost
from presilicon.economics.quantity import look_up
from presilicon.economics.silicon import Areas, DieSpec
from presilicon.estimate import Machine
from presilicon.estimate.constants import family
from presilicon.estimate.energy import ACCUMULATOR_BITS, LIMIT_SHARE

Floats = NDArray[np.float64]
Values = Mapping[str, Any]
# What the software of a chip that does not exist will reach is not known: the constants of no maker, with the widest interval.
FAMILY = "generic"
# To the host: PCIe 5.0 x16, 32 GT/s x 16 lanes x 128/130 / 8 (data/chips/rebellions-atom.toml).
HOST_BYTES_PER_S = 63e9
# Links and host interface of nvidia-h100-sxm-80gb (450 and 63 GB/s a direction) share the two edges that its HBM leaves free:
# 2 x 25.3 mm of 814 mm2 at the reticle's 33:26.
LINK_BYTES_PER_S_PER_MM = 10e9
ASPECT = 33.0 / 26.0
# The clock at which the energy of an operation was measured at each node: nvidia-v100s, nvidia-a100-sxm-80gb and
# nvidia-h200-sxm-141gb, on whose power data/technology/nodes.csv is fitted.
_REFERENCE_HZ = {"n28": 1.4e9, "n16": 1.597e9, "n14": 1.597e9, "n12": 1.597e9, "n8": 1.41e9, "n7": 1.41e9, "n6": 1.41e9}
_NEWER_HZ = 1.83e9


@dataclass(frozen=True, slots=True)
class Designs:
    """Figures of designs that multiply the same formats, arrays of shape (n,); ``machine`` is what the estimate reads.

    ``edge_mm``: of the die's edge, taken by memory and links; ``edge_limit_mm``: what there is. ``devices_limit`` is the
    number of memory devices that chips carry at most.
    """

    areas: Areas
    area_mm2: Floats
    edge_mm: Floats
    edge_limit_mm: Floats
    cost: UnitCost
    unit_usd: Floats
    nre_usd: Floats
    tdp_w: Floats
    idle_w: Floats
    machine: Machine


def designs_of(values: Values, multiplied: str) -> Designs:
    """The figures of designs whose ``values`` are arrays by axis, and which all multiply ``multiplied`` ("bf16+fp8")."""
    node, kind, devices = values["node"], values["memory"], values["stacks"]
    cores, clock = values["cores"], values["clock_hz"]
    names = multiplied.split("+")
    bits = {name: float(FORMATS[name].bits) for name in names}
    macs = {name: cores * values["array"] * values["array"] * (bits[names[0]] / bits[name]) for name in names}
    peak = {name: 2.0 * number * clock for name, number in macs.items()}
    scratchpad, shared = values["scratchpad_bytes"], values["shared_sram_bytes"]
    lanes, link = cores * values["vector_lanes"], values["link_bytes_per_s"]
    bandwidth = devices * look_up("blocks", kind, "unit_bandwidth")
    capacity = devices * look_up("blocks", kind, "unit_capacity")
    die = DieSpec(
        node=node, macs=macs, vector_lanes=lanes, sram_bytes=cores * scratchpad + shared, memory_kind=kind,
        memory_units=devices, link_bytes_per_s=link,
    )  # fmt: skip
    areas = silicon.die_area(die)
    area = np.asarray(areas.total_mm2)
    prices = _prices(node, kind)
    cost = manufacture.unit_cost(np.minimum(area, silicon.reticle_mm2()), capacity, prices)
    constants = replace(
        family(FAMILY),
        operation_j_per_bit=operation_j_per_bit(node, clock),
        dram_j_per_byte=_by_name(power.dram_j_per_byte, kind),
        sram_j_per_byte=_by_name(power.sram_j_per_byte, node),
        link_j_per_byte=power.link_j_per_byte(),
    )
    idle = np.asarray(power.static_w(area, node))
    operation_j = constants.operation_j_per_bit * (bits[names[-1]] + ACCUMULATOR_BITS)
    working = peak[names[-1]] * operation_j + bandwidth * constants.dram_j_per_byte
    tdp = (idle + values["power_share"] * working) / (LIMIT_SHARE - constants.active_share)
    # As estimate.machine finds them in a Chip.
    sixteen = [name for name in ("bf16", "fp16") if name in names] or names
    widest = np.maximum.reduce([peak[name] * (bits[name] / 16.0) for name in sixteen])
    links_mm = (link + HOST_BYTES_PER_S) / LINK_BYTES_PER_S_PER_MM
    memory_mm = silicon.shoreline_mm(die)
    stacked = silicon.interface(kind) == "hbm"
    long_mm, short_mm = np.sqrt(area * ASPECT), np.sqrt(area / ASPECT)
    return Designs(
        areas=areas,
        area_mm2=area,
        # Stacks stand at the two long edges, links at the others; channels and links share all four.
        edge_mm=np.where(stacked, np.maximum(memory_mm / long_mm, links_mm / short_mm) * long_mm, memory_mm + links_mm),
        edge_limit_mm=2.0 * long_mm + np.where(stacked, 0.0, 2.0 * short_mm),
        cost=cost,
        unit_usd=np.asarray(cost.unit_usd),
        nre_usd=np.asarray(manufacture.nre_usd(prices)),
        tdp_w=tdp,
        idle_w=idle,
        machine=Machine(
            cores=cores,
            clock_hz=clock,
            array_macs=widest / (2.0 * cores * clock),
            memory_bytes=capacity,
            memory_bytes_per_s=bandwidth,
            shared_sram_bytes=shared + np.where(scratchpad >= 1e6, scratchpad * cores, 0.0),
            scratchpad_bytes=scratchpad,
            vector_ops_per_s=2.0 * lanes * clock,
            tdp_w=tdp,
            link_bytes_per_s=link,
            host_bytes_per_s=HOST_BYTES_PER_S,
            peak=peak,
            constants=replace(constants, static_share=idle / tdp),
        ),
    )


def _prices(node: NDArray[np.str_], kind: NDArray[np.str_]) -> Prices:
    """The prices of each design, looked up once for each pair of node and memory."""
    pairs, place = np.unique(np.stack([node, kind]), axis=1, return_inverse=True)
    found = manufacture.prices(pairs[0], pairs[1])
    taken = {f.name: np.broadcast_to(getattr(found, f.name), pairs.shape[1])[place.reshape(-1)] for f in fields(Prices)}
    return Prices(**taken)


def _by_name(function: Any, names: NDArray[np.str_]) -> Floats:
    unique, place = np.unique(names, return_inverse=True)
    return np.array([function(str(name)) for name in unique])[place.reshape(-1)]


def operation_j_per_bit(node: NDArray[np.str_], clock_hz: Floats) -> Floats:
    """Energy (J) of an operation per bit at a clock: that of the node, less where it is slower than the measured silicon.

    Voltage falls with the clock as ``voltage_slope`` of presilicon.estimate.energy says, fitted on H200 at its power limit.
    """
    slope = family(FAMILY).voltage_slope
    reference = _by_name(lambda name: _REFERENCE_HZ.get(name, _NEWER_HZ), node)
    at_reference = _by_name(power.operation_j_per_bit, node)
    return np.asarray(at_reference * (1.0 - slope + slope * clock_hz / reference))
