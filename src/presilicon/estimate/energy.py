"""Energy of work whose time is known, and the least time that a power limit allows it.

Power is static power, plus clocks and schedulers while a kernel runs, plus the energy of its operations and bytes. Between
two kernels (launch, filling) only static power is drawn. The limiter holds the average at or below the TDP: it lowers
clock and voltage, so at the limit an operation costs less than at full clock, by ``voltage_slope`` times the share
of clock given up. Zeros that pad a tile do not toggle and cost nothing, as is measured on H200.

What is not published is derived. Energy of an operation: ``operation_j_per_bit`` where the family was measured, else such
that the matrix units at peak rate draw ``matmul_power_share`` of the TDP; a vector unit at its peak draws as much. TDP:
that of a chip with the operations per joule of H200.
"""

from __future__ import annotations

import numpy as np

from presilicon.dtypes import FORMATS
from presilicon.estimate.cost import Cost, Real
from presilicon.estimate.machine import Machine

# The average a limiter holds, over the TDP: 691 of 700 W on H200, 988 of 1000 W on B200 (median of large GEMMs).
LIMIT_SHARE = 0.987
# TDP over 16-bit peak rate of H200, for chips whose TDP is not published: 700 W / 989.4e12 / 16 bits.
TDP_J_PER_BIT = 4.42e-14
# An operation costs as its operands' bits, and as this many more for the accumulator, which is 32 bits wide in every format.
# From H200: large fp8 matmuls take 0.62 of the energy of bf16, and their latency at the limit is met best with it.
ACCUMULATOR_BITS = 5.0


def _bits(name: str) -> float:
    return float(FORMATS[name].bits) if name in FORMATS else 32.0


def tdp_w(machine: Machine) -> Real:
    """The TDP (W), or one derived from the size of the arrays where none is published."""
    known = np.asarray(machine.tdp_w, dtype=np.float64)
    if np.all(np.isfinite(known)):
        return machine.tdp_w
    derived = 2.0 * machine.array_macs * machine.cores * machine.clock_hz * (16.0 * TDP_J_PER_BIT)
    result = np.where(np.isfinite(known), known, derived)
    return result if result.ndim else float(result)


def static_w(machine: Machine) -> Real:
    """Power (W) drawn when nothing runs: leakage, memory refresh, links, regulators."""
    return machine.constants.static_share * tdp_w(machine)


def operation_j(machine: Machine, multiplied: str) -> Real:
    """Energy (J) of one operation (half a MAC) of a format at full clock, operands fetched from on-chip memory."""
    c = machine.constants
    native = machine.native(multiplied)
    derived = c.matmul_power_share * tdp_w(machine) / machine.rate(native)
    return np.where(
        np.asarray(c.operation_j_per_bit) > 0.0, c.operation_j_per_bit * (_bits(native) + ACCUMULATOR_BITS), derived
    )


def vector_operation_j(machine: Machine) -> Real:
    """Energy (J) of one operation outside the matrix units."""
    return machine.constants.matmul_power_share * tdp_w(machine) / machine.vector_ops_per_s


def _core_j(machine: Machine, multiplied: str, macs: Real, vector_ops: Real) -> Real:
    # Work without a MAC names no format: the chip need not multiply the default one.
    multiplying = 2.0 * macs * operation_j(machine, multiplied) if np.any(macs) else 0.0
    return multiplying + vector_ops * vector_operation_j(machine)


def _moving_j(machine: Machine, dram_bytes: Real, sram_bytes: Real, link_bytes: Real) -> Real:
    c = machine.constants
    return dram_bytes * c.dram_j_per_byte + sram_bytes * c.sram_j_per_byte + link_bytes * c.link_j_per_byte


def energy_j(
    machine: Machine,
    latency_s: Real,
    *,
    multiplied: str = "bf16",
    macs: Real = 0.0,
    vector_ops: Real = 0.0,
    dram_bytes: Real = 0.0,
    sram_bytes: Real = 0.0,
    link_bytes: Real = 0.0,
) -> Real:
    """Energy (J) of one kernel that took ``latency_s``, static power included; arrays broadcast.

    Never more than the power limit allows in that time: work at the limit was slowed down to stay there. Bytes are those
    moved from memory, from on-chip memory beyond the operands of ``macs``, and sent to other chips.
    """
    c = machine.constants
    tdp = tdp_w(machine)
    idle = c.static_share * tdp
    busy_s = latency_s - np.minimum(c.launch_s + c.wave_s, 0.5 * latency_s)
    dynamic = _core_j(machine, multiplied, macs, vector_ops) + _moving_j(machine, dram_bytes, sram_bytes, link_bytes)
    used = np.minimum(dynamic + c.active_share * tdp * busy_s, (LIMIT_SHARE * tdp - idle) * busy_s)
    return idle * latency_s + used


def cost_energy_j(machine: Machine, cost: Cost) -> Real:
    """Energy (J) of one repeat of an operator, static power of its time included."""
    return energy_j(
        machine,
        cost.latency_s,
        multiplied=cost.multiplied,
        macs=cost.macs,
        vector_ops=cost.vector_ops,
        dram_bytes=cost.dram_bytes,
        sram_bytes=cost.sram_bytes,
        link_bytes=cost.link_bytes,
    )


PARTS = ("static power", "clocks and schedulers", "arithmetic", "off-chip memory", "on-chip memory", "links")
"""What energy goes to; arithmetic holds the fetch of its operands."""


def cost_parts_j(machine: Machine, cost: Cost) -> dict[str, float]:
    """``cost_energy_j`` of one chip by ``PARTS`` (J).

    Where the power limit holds the chip back, what is not static is smaller by one factor: the energy at the limit over the
    energy at full clock.
    """
    c, tdp = machine.constants, float(tdp_w(machine))
    latency_s = float(cost.latency_s)
    busy_s = latency_s - min(float(c.launch_s + c.wave_s), 0.5 * latency_s)
    dynamic = {
        "clocks and schedulers": float(c.active_share * tdp * busy_s),
        "arithmetic": float(_core_j(machine, cost.multiplied, cost.macs, cost.vector_ops)),
        "off-chip memory": float(_moving_j(machine, cost.dram_bytes, 0.0, 0.0)),
        "on-chip memory": float(_moving_j(machine, 0.0, cost.sram_bytes, 0.0)),
        "links": float(_moving_j(machine, 0.0, 0.0, cost.link_bytes)),
    }
    static = float(static_w(machine)) * latency_s
    left = float(cost_energy_j(machine, cost)) - static
    full = sum(dynamic.values())
    return {"static power": static} | {name: value * (left / full if full else 0.0) for name, value in dynamic.items()}


def power_limited_s(
    machine: Machine,
    *,
    multiplied: str = "bf16",
    macs: Real = 0.0,
    vector_ops: Real = 0.0,
    dram_bytes: Real = 0.0,
    sram_bytes: Real = 0.0,
    link_bytes: Real = 0.0,
) -> Real:
    """Least time (s) in which the work keeps average power at the limit: the third roofline. 0 where no TDP is published.

    With P the power left for work, M the energy of bytes, C that of operations at full clock, T their time at peak rate and
    s the voltage slope, it solves P t = M + C (1 - s + s T / t). Memory, links and their energy keep their own clock.
    """
    c = machine.constants
    work_w = (LIMIT_SHARE - c.static_share - c.active_share) * tdp_w(machine)
    core = _core_j(machine, multiplied, macs, vector_ops)
    multiplying_s = 2.0 * macs / machine.rate(multiplied) if np.any(macs) else 0.0
    full_s = multiplying_s + vector_ops / machine.vector_ops_per_s
    fixed = _moving_j(machine, dram_bytes, sram_bytes, link_bytes) + (1.0 - c.voltage_slope) * core
    root = np.sqrt(fixed * fixed + 4.0 * work_w * c.voltage_slope * core * full_s)
    return np.where(np.isfinite(machine.tdp_w), (fixed + root) / (2.0 * work_w), 0.0)
