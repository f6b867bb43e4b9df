"""What the formulas read: the figures of one chip, or of an array of chips, and the fitted constants of its family.

A field is a float, or an array over chips whose shape broadcasts with the sizes of the graph. Only + - * / min max floor
ceil sqrt are used on them, so one chip and a million give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import Chip
from presilicon.dtypes import FORMATS, NumberFormat
from presilicon.errors import FormatError
from presilicon.estimate.constants import Constants, constants_of

Real = float | NDArray[np.float64]

# A format that a chip lacks is multiplied in the first of these that it has (weights are widened on the way in).
_WIDER: dict[str, tuple[str, ...]] = {
    "nvfp4": ("nvfp4", "mxfp4", "fp8", "fp16", "bf16", "fp32"),
    "mxfp4": ("mxfp4", "nvfp4", "fp8", "fp16", "bf16", "fp32"),
    "fp8": ("fp8", "fp16", "bf16", "fp32"),
    "fp8_e5m2": ("fp8", "fp16", "bf16", "fp32"),
    "int4": ("int4", "int8", "fp16", "bf16", "fp32"),
    "int8": ("int8", "fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp16", "tf32", "fp32"),
    "fp16": ("fp16", "bf16", "tf32", "fp32"),
    "fp32": ("fp32", "tf32"),
    "int32": ("fp32",),
}


# The last on-chip level of a chip whose maker does not publish it: small, so that nothing is taken to stay on the chip.
UNKNOWN_SRAM_BYTES = 4e6
# A core's array works as several side by side where it is larger than this many times that of an A100's core.
LARGEST_TILE_SCALE = 2.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Figures of a chip (or of many) as the formulas need them, each blank one replaced by what its absence means.

    ``memory_bytes_per_s`` of a chip without DRAM is that of its on-chip memory. ``array_macs`` is the size of one core's
    matrix units: MACs a cycle of 16-bit numbers (or what narrower formats say of them); it stays when formats are left out
    of ``peak``.
    """

    cores: Real
    clock_hz: Real
    array_macs: Real
    memory_bytes: Real
    memory_bytes_per_s: Real
    shared_sram_bytes: Real
    scratchpad_bytes: Real
    vector_ops_per_s: Real
    tdp_w: Real
    link_bytes_per_s: Real
    host_bytes_per_s: Real
    peak: Mapping[str, Real]
    constants: Constants

    def rate(self, multiplied: NumberFormat | str) -> Real:
        """Peak operations per second (2 a MAC) in a format; FormatError where no format of the chip can hold it."""
        return self.peak[self.native(multiplied)]

    def native(self, multiplied: NumberFormat | str) -> str:
        """The format the chip multiplies a format in: itself, or the first wider one it has."""
        name = str(multiplied)
        for candidate in _WIDER.get(name, (name,)):
            if candidate in self.peak:
                return candidate
        raise FormatError(f"the chip has no matrix unit for {name}", hint="it has " + ", ".join(sorted(self.peak)))

    @property
    def tile_scale(self) -> Real:
        """How much longer the sides of a core's tiles are than those of a core of 1,024 16-bit MACs a cycle, at most twice.

        A core that multiplies more must be fed more per byte: its tiles grow with the sides of its array.
        """
        return np.minimum(LARGEST_TILE_SCALE, np.maximum(1.0, np.rint(np.sqrt(self.array_macs / 1024.0))))

    @property
    def tiles_at_once(self) -> Real:
        """Tiles the whole chip works on: one a core, more where a core multiplies more than its largest tile asks for."""
        return self.cores * np.maximum(1.0, np.rint(self.array_macs / (1024.0 * LARGEST_TILE_SCALE * LARGEST_TILE_SCALE)))

    def has(self, multiplied: NumberFormat | str) -> bool:
        """Whether a format is multiplied natively."""
        return str(multiplied) in self.peak

    def for_networks(self, samples: Real = 1.0) -> Machine:
        """The same machine running a compiled engine of many operators on ``samples`` samples instead of single kernels.

        One sample is spread over ``sample_cores`` cores at most; more samples fill the others.
        """
        c = self.constants
        own = replace(
            c,
            launch_s=c.network_launch_s,
            matmul_share=c.network_share,
            wave_s=c.network_wave_s,
            attention_start_s=c.network_launch_s,
            intake_s=0.0,
        )
        used = np.minimum(1.0, c.sample_cores * samples / self.cores)
        peak = {name: rate * used for name, rate in self.peak.items()}
        return replace(self, constants=own, cores=self.cores * used, peak=peak)

    def reshaped(self, axes: int) -> Machine:
        """The same machines with ``axes`` trailing axes of length 1, to broadcast against sizes with as many axes."""

        def grow(value: Any) -> Any:
            return value.reshape(value.shape + (1,) * axes) if isinstance(value, np.ndarray) else value

        values = {f.name: grow(getattr(self, f.name)) for f in fields(self) if f.name not in ("peak", "constants")}
        constants = replace(self.constants, **{f.name: grow(getattr(self.constants, f.name)) for f in fields(self.constants)})
        return replace(self, **values, peak={k: grow(v) for k, v in self.peak.items()}, constants=constants)


def machine(chip: Chip, constants: Constants | None = None) -> Machine:
    """The machine of one chip; ChipError names what it needs and the chip leaves blank."""
    known = constants or constants_of(chip)
    if chip.idle_w and chip.tdp_w:
        known = replace(known, static_share=chip.idle_w / chip.tdp_w)
    # Scratchpads of a megabyte and more, and those of the template, are memory that software manages; smaller ones only hold a
    # core's tiles, unless there is no other memory. A maker that names no memory at all says that what runs must fit: its
    # size never binds.
    scratchpad = chip.scratchpad_bytes or 0.0
    managed = scratchpad >= 1e6 or chip.memory is None or chip.template is not None
    sram = (chip.shared_sram_bytes or 0.0) + (scratchpad * (chip.cores or 1) if managed else 0.0)
    sram = sram or (float("inf") if chip.memory is None else UNKNOWN_SRAM_BYTES)
    cores = float(chip.cores or 1)
    sixteen = [name for name in ("bf16", "fp16") if name in chip.peak_ops_per_s] or list(chip.peak_ops_per_s)
    widest = max((chip.peak_ops_per_s[n] * (FORMATS[n].bits / 16.0 if n in FORMATS else 1.0) for n in sixteen), default=0.0)
    peak_any = max(chip.peak_ops_per_s.values()) if chip.peak_ops_per_s else chip.need("peak_ops_per_s.int8")
    clock = chip.clock_hz or 1e9
    bandwidth: Real
    if chip.memory is not None:
        bandwidth, capacity = chip.need("memory.bytes_per_s"), chip.memory.bytes or sram
    else:
        bandwidth, capacity = known.sram_bytes_per_op * peak_any, sram
    # Where a maker states no fp32 rate, the vector unit is taken as a fixed share of the matrix unit's.
    vector: Real = chip.vector_ops_per_s or chip.peak_ops_per_s.get("fp32") or peak_any * known.vector_share
    return Machine(
        cores=cores,
        clock_hz=clock,
        array_macs=widest / (2.0 * cores * clock),
        memory_bytes=capacity,
        memory_bytes_per_s=bandwidth,
        shared_sram_bytes=sram,
        scratchpad_bytes=chip.scratchpad_bytes or sram / cores,
        vector_ops_per_s=vector,
        tdp_w=chip.tdp_w or float("inf"),
        link_bytes_per_s=(chip.link.bytes_per_s if chip.link and chip.link.bytes_per_s else None)
        or (chip.host.bytes_per_s if chip.host and chip.host.bytes_per_s else 16e9),
        host_bytes_per_s=(chip.host.bytes_per_s if chip.host and chip.host.bytes_per_s else 16e9),
        peak=dict(chip.peak_ops_per_s),
        constants=known,
    )


def stack(machines: Sequence[Machine]) -> Machine:
    """Many machines as one with arrays of shape (machines,); its formats are those that all of them have."""

    def join(values: list[Any]) -> Any:
        return np.array(values, dtype=np.float64)

    names = [f.name for f in fields(Machine) if f.name not in ("peak", "constants")]
    common = [n for n in machines[0].peak if all(n in m.peak for m in machines)]
    return Machine(
        **{n: join([getattr(m, n) for m in machines]) for n in names},
        peak={n: join([m.peak[n] for m in machines]) for n in common},
        constants=Constants(**{f.name: join([getattr(m.constants, f.name) for m in machines]) for f in fields(Constants)}),
    )
