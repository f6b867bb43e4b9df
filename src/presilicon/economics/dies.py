"""Dies whose area is published, and what a chip's die is built of: as it is built where known, else as the chip is sold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from presilicon.chip import Chip
from presilicon.economics.quantity import Real, look_up, memory_kind, node, rows
from presilicon.economics.silicon import Areas, DieSpec, die_area
from presilicon.errors import ChipError

_ASSUMED_CLOCK_HZ = 1e9  # of a chip that publishes none, as the estimate takes it
_LANES_PER_MATRIX_MAC = 1.0 / 64.0  # of a chip that publishes no vector rate: RNGD, MTIA v2 and TPU v4i have 1/32 to 1/128


_NUMBERS = (
    "cores", "fp32_lanes", "fp64_lanes", "wide_macs", "int8_macs", "register_bytes", "scratchpad_bytes", "shared_sram_bytes",
    "memory_units", "link_bytes_per_s", "host_lanes", "area_mm2",
)  # fmt: skip


_VECTOR_FORMATS = ("fp32", "tf32", "fp64", "int32")


@dataclass(frozen=True, slots=True)
class _Gpu:
    """What every core of a family of GPUs has beyond its published figures; lanes of 0 follow from the vector rate."""

    kind: str
    register_bytes: float
    lanes: float = 0.0
    fp64_lanes: float = 0.0


# As the dies of dies.csv: 256 KiB of registers on an SM, 512 KiB and 64 lanes of both widths on a compute unit of CDNA.
_GPUS = {
    "amd-cdna": _Gpu("cdna", 524288.0, lanes=64.0, fp64_lanes=64.0),
    "amd-rdna": _Gpu("graphics", 262144.0),
    "intel-arc": _Gpu("graphics", 262144.0),
    "nvidia-": _Gpu("graphics", 262144.0, fp64_lanes=2.0),
}


@dataclass(frozen=True, slots=True)
class Die:
    """A die as it is built, its published area, whether the model was fitted on it, and the library's chips that carry it."""

    name: str
    spec: DieSpec
    cores: int
    area_mm2: float
    fitted: bool
    chips: tuple[str, ...]
    source: str

    @property
    def error(self) -> float:
        """Modelled over published area, less one."""
        return float(die_area(self.spec).total_mm2) / self.area_mm2 - 1.0


def _die(row: Mapping[str, str]) -> Die:
    number = {key: float(row[key]) for key in _NUMBERS}
    cores = number["cores"]
    simt = row["kind"] in ("gpu", "graphics", "cdna")
    spec = DieSpec(
        node=row["node"],
        kind=row["kind"],
        macs={"bf16": cores * number["wide_macs"], "int8": cores * number["int8_macs"]},
        simt_lanes=cores * number["fp32_lanes"] if simt else 0.0,
        fp64_lanes=cores * number["fp64_lanes"],
        vector_lanes=0.0 if simt else cores * number["fp32_lanes"],
        sram_bytes=cores * (number["register_bytes"] + number["scratchpad_bytes"]) + number["shared_sram_bytes"],
        memory_kind=row["memory"] or "DDR4",
        memory_units=number["memory_units"],
        link_bytes_per_s=number["link_bytes_per_s"],
        host=row["host"],
        host_lanes=number["host_lanes"],
    )
    chips = tuple(row["chips"].split(";")) if row["chips"] else ()
    return Die(row["die"], spec, int(cores), number["area_mm2"], row["use"] == "fit", chips, row["source"])


@cache
def dies() -> tuple[Die, ...]:
    """Every row of data/technology/dies.csv."""
    return tuple(_die(row) for row in rows("dies.csv"))


def die_of(chip: Chip) -> Die | None:
    """The die that a chip of the library carries, where it is known as built."""
    return next((die for die in dies() if chip.name in die.chips), None)


def published_mm2(chip: Chip) -> float | None:
    """Area of all dies of a chip where it is published, by the chip's own file or by that of its die."""
    if chip.die_area_mm2:
        return chip.die_area_mm2 * chip.dies
    die = die_of(chip)
    return die.area_mm2 * chip.dies if die else None


def missing(chip: Chip) -> tuple[str, ...]:
    """Figures that a die's area needs and the chip leaves blank, with what is taken instead where something can be."""
    blank = []
    if die_of(chip) is None and chip.family.startswith(tuple(_GPUS)):
        blank.append("the die as it is built (taken as the cores in use, without what else is on it)")
    if not chip.peak_ops_per_s:
        blank.append("peak_ops_per_s")
    if not chip.process_node:
        blank.append("process_node")
    if not chip.clock_hz:
        blank.append(f"clock_hz (taken as {_ASSUMED_CLOCK_HZ / 1e9:g} GHz)")
    if not chip.on_chip_bytes:
        blank.append("on-chip memory (taken as none)")
    return tuple(blank)


def memory_units(kind: str, bytes_per_s: float, memory_bytes: float) -> float:
    """Stacks or channels that a memory needs for its bandwidth; with the bandwidth blank, for its bytes."""
    if bytes_per_s:
        return float(np.ceil(bytes_per_s / look_up("blocks", kind, "unit_bandwidth") - 0.05))
    return float(np.ceil(memory_bytes / look_up("blocks", kind, "unit_capacity")))


def spec_of(chip: Chip) -> DieSpec:
    """One die of a chip: as built where dies.csv knows it, else from the chip's figures divided by its dies.

    Chips outside dies.csv are GPUs where their family is one of ``_GPUS``, else accelerators. Of a system on a chip only the
    accelerator counts. ChipError names the figures without which there is no area.
    """
    if die := die_of(chip):
        return die.spec
    needed = [name for name in missing(chip) if "taken" not in name]
    if needed:
        raise ChipError(f"the area of its die needs {' and '.join(needed)}, which it does not publish", where=chip.name)
    cycles = 2.0 * (chip.clock_hz or _ASSUMED_CLOCK_HZ) * chip.dies
    rates = {name: rate for name, rate in chip.peak_ops_per_s.items() if name not in _VECTOR_FORMATS} or chip.peak_ops_per_s
    macs: dict[str, Real] = {name: rate / cycles for name, rate in rates.items()}
    memory = chip.memory
    kind = memory_kind(memory.kind) if memory and memory.kind else "DDR4"
    units = memory_units(kind, memory.bytes_per_s or 0.0, memory.bytes or 0.0) / chip.dies if memory else 0.0
    host = chip.host.kind if chip.host else ""
    shared = DieSpec(
        node=node(chip.process_node),
        kind="accelerator" if memory else "static",
        macs=macs,
        sram_bytes=chip.on_chip_bytes / chip.dies,
        memory_kind=kind,
        memory_units=units,
        link_bytes_per_s=(chip.link.bytes_per_s or 0.0) / chip.dies if chip.link else 0.0,
        host=_host(host),
        host_lanes=_lanes(host) / chip.dies,
    )
    cores = (chip.cores or 1) / chip.dies
    lanes = (chip.vector_ops_per_s or 0.0) / cycles or max(macs.values()) * _LANES_PER_MATRIX_MAC
    gpu = next((known for family, known in _GPUS.items() if chip.family.startswith(family)), None)
    if gpu is None:
        return replace(shared, vector_lanes=chip.vector_lanes * cores if chip.vector_lanes else lanes)
    simt = cores * gpu.lanes if gpu.lanes else lanes
    sram = shared.sram_bytes + cores * gpu.register_bytes
    return replace(shared, kind=gpu.kind, simt_lanes=simt, fp64_lanes=cores * gpu.fp64_lanes, sram_bytes=sram)


def _host(name: str) -> str:
    """The generation of PCIe that a host link's name tells ("PCIe 5.0 x16"); the fourth where it tells none."""
    generation = name.partition("PCIe ")[2][:1]
    return f"pcie{generation}" if generation in ("3", "4", "5") else "pcie4"


def _lanes(host: str) -> float:
    """Lanes of a host link by its name ("PCIe 5.0 x16"); none where no host link is published."""
    digits = host.rpartition("x")[2].strip()
    return float(digits) if digits.isdigit() and "PCIe" in host else 0.0


def areas_of(chip: Chip) -> Areas:
    """Blocks of all dies of a chip, by the model; each die is taken as alike."""
    one = die_area(spec_of(chip))
    return Areas(**{name: value * chip.dies for name, value in one.by_block().items()})
