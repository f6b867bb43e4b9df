"""Designs as arrays: what the estimate and the economics read, from the hardware of a block of designs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.dtypes import FORMATS
from presilicon.economics import manufacture, power, silicon
from presilicon.economics.manufacture import Prices, UnitCost
from presilicon.estimate import Machine
from presilicon.estimate.constants import family
from presilicon.estimate.energy import ACCUMULATOR_BITS, LIMIT_SHARE

from ._hardware import Hardware, Values, hardware

Floats = NDArray[np.float64]
# The clock at which the energy of an operation was measured at each node: nvidia-v100s, nvidia-a100-sxm-80gb and
# nvidia-h200-sxm-141gb, on whose power data/technology/nodes.csv is fitted.
_REFERENCE_HZ = {"n28": 1.4e9, "n16": 1.597e9, "n14": 1.597e9, "n12": 1.597e9, "n8": 1.41e9, "n7": 1.41e9, "n6": 1.41e9}
_NEWER_HZ = 1.83e9


@dataclass(frozen=True, slots=True)
class Designs:
    """Figures of designs that multiply the same formats, arrays of shape (n,); ``machine`` is what the estimate reads."""

    hardware: Hardware
    area_mm2: Floats
    cost: UnitCost
    nre_usd: Floats
    tdp_w: Floats
    idle_w: Floats
    machine: Machine


def designs_of(values: Values, multiplied: str) -> Designs:
    """The figures of designs whose ``values`` are arrays by axis and which all multiply ``multiplied`` ("bf16+fp8").

    The rated power is what idles, and ``power_share`` of what arrays and memory draw beside it at their peak.
    """
    h = hardware(values, multiplied)
    area = h.area_mm2
    prices = _prices(h.node, h.memory)
    base = family(h.family)
    constants = replace(
        base,
        operation_j_per_bit=operation_j_per_bit(h.node, h.clock_hz, base.voltage_slope),
        dram_j_per_byte=_by_name(power.dram_j_per_byte, h.memory),
        sram_j_per_byte=_by_name(power.sram_j_per_byte, h.node),
        link_j_per_byte=power.link_j_per_byte(),
    )
    idle = np.asarray(power.static_w(area, h.node))
    bits = {name: float(FORMATS[name].bits) for name in h.peak}
    # Of the formats the one whose operations a second draw most.
    drawn = [rate * constants.operation_j_per_bit * (bits[name] + ACCUMULATOR_BITS) for name, rate in h.peak.items()]
    working = np.maximum.reduce(drawn) + h.memory_bytes_per_s * constants.dram_j_per_byte
    tdp = (idle + h.power_share * working) / (LIMIT_SHARE - constants.active_share)
    # As estimate.machine finds it in a Chip.
    sixteen = [name for name in ("bf16", "fp16") if name in h.peak] or list(h.peak)
    widest = np.maximum.reduce([h.peak[name] * (bits[name] / 16.0) for name in sixteen])
    return Designs(
        hardware=h,
        area_mm2=area,
        cost=manufacture.unit_cost(np.minimum(area, silicon.reticle_mm2()), h.memory_bytes, prices),
        nre_usd=np.asarray(manufacture.nre_usd(prices)),
        tdp_w=tdp,
        idle_w=idle,
        machine=Machine(
            cores=h.cores,
            clock_hz=h.clock_hz,
            array_macs=widest / (2.0 * h.cores * h.clock_hz),
            memory_bytes=h.memory_bytes,
            memory_bytes_per_s=h.memory_bytes_per_s,
            shared_sram_bytes=h.shared_sram_bytes,
            scratchpad_bytes=h.scratchpad_bytes,
            vector_ops_per_s=2.0 * h.vector_lanes * h.clock_hz,
            tdp_w=tdp,
            link_bytes_per_s=h.link_bytes_per_s,
            host_bytes_per_s=h.host_bytes_per_s,
            peak=h.peak,
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


def operation_j_per_bit(node: NDArray[np.str_], clock_hz: Floats, voltage_slope: Any) -> Floats:
    """Energy (J) of an operation per bit at a clock: that of the node, less where it is slower than the measured silicon.

    Voltage falls with the clock as ``voltage_slope`` of presilicon.estimate.energy says, fitted on H200 at its power limit.
    """
    reference = _by_name(lambda name: _REFERENCE_HZ.get(name, _NEWER_HZ), node)
    at_reference = _by_name(power.operation_j_per_bit, node)
    return np.asarray(at_reference * (1.0 - voltage_slope + voltage_slope * clock_hz / reference))
