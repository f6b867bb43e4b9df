"""Fitted constants of a family of chips: what its software and circuits reach, with what each was fitted on."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import Chip
from presilicon.errors import ChipError, nearest

Real = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """Physical constants of one family.

    Those of matmul, then memory, attention, collectives, energy, networks. Each value stands in ``data/families``.
    """

    # every kernel
    launch_s: Real  # from the end of one kernel to the first work of the next
    wave_s: Real  # filling and draining a core's pipeline, once a wave of tiles
    step_s: Real = 3e-4  # the serving software's own work between passes: scheduling, sampling, feeding the chip
    serving_slowdown: Real = 1.0  # time of a serving pass over the sum of its kernels: gaps, imbalance
    # matrix units
    matmul_share: Real  # share of the peak rate reached inside a tile
    operand_bytes_per_cycle: Real  # from the last-level cache (or shared SRAM) into one core
    least_rows: Real = 64.0  # that a matrix unit multiplies, whatever the tile holds (GPUs)
    not_overlapped: Real = 0.4  # of the shorter of compute and memory: fitted once on A100, H100 and H200 together
    weight_copies: Real = 0.0  # times that each further core reads the same weights: 1 where no memory on the chip is shared
    split_s: Real  # adding up the partial sums of a split k: synchronisation besides their traffic
    quantize_s: Real  # converting the activations before a multiplication: the extra launch
    quantize_passes: Real  # and its traffic, in passes over the activations
    imbalance: Real = 1.2  # rows of the fullest expert over the mean
    # attention
    attention_start_s: Real = 6.4e-6  # launch, tables of the cache, first loads
    intake_s: Real = 3e-6  # taking in many new positions: rotating Q and K and writing the cache
    attention_fill_s: Real = 2.7e-6  # filling and draining a core once a tile of heads
    attention_share: Real = 0.75  # share of the peak rate reached by the two products
    cache_elements_per_cycle: Real = 13.0  # of the KV cache into one core
    cache_passes: Real = 2.5  # traffic of taking in K and V, in passes over them
    attention_split_s: Real = 3.3e-6  # combining the parts of a split cache
    # memory
    memory_share: Real  # share of the peak bandwidth reached by a long stream
    # networks without a cache (one compiled engine of many operators)
    network_launch_s: Real = 1.0e-6  # between two operators of an engine
    network_share: Real = 0.8  # of the peak rate inside a tile of its operators
    network_wave_s: Real = 1.0e-6  # filling a core's pipeline, once a wave of tiles
    sample_cores: Real = 1e9  # cores that one sample is spread over; all of them where there are fewer
    query_s: Real = 5.0e-5  # the host's work around one query: copies, start, interrupt
    detection_s: Real = 2e-4  # choosing among the boxes of one picture (non-maximum suppression), on the chip or its host
    resident_share: Real = 0.5  # of the last on-chip level, usable to keep weights and activations
    padding_share: Real = 1.0  # of the padded tokens that are computed: 1 where shapes are fixed, 0 where padding is dropped
    sram_bytes_per_op: Real = 0.107  # on-chip bandwidth over int8 peak of a chip without DRAM: Groq's 80 TB/s over 750 TOPS
    vector_share: Real = 1.0 / 16.0  # of the matrix rate, where the vector rate is not published
    # collectives
    collective_start_s: Real = 4.6e-6  # of a collective: launch, and the first hand-shake
    collective_hop_s: Real = 7.9e-7  # one step of a ring: store, flag, load at the neighbour
    collective_line_s: Real = 8.0e-7  # more for lines of 128 bytes, times the square root of the peers
    collective_copy_s: Real = 1.5e-5  # more for plain copies behind semaphores
    link_share: Real = 0.79  # of the links' bandwidth that plain copies reach
    in_switch_share: Real = 0.0  # of the links' bandwidth when the switch reduces; 0 where it cannot
    # energy
    static_share: Real = 0.179  # of the TDP, drawn when nothing runs
    active_share: Real = 0.21  # of the TDP, drawn besides by clocks and schedulers while a kernel runs
    operation_j_per_bit: Real = 0.0  # J of an operation per bit of its operands' format; 0 derives it from the TDP
    matmul_power_share: Real = 0.9  # of the TDP, drawn by the matrix units at peak rate and full clock
    voltage_slope: Real = 0.5  # relative fall of energy per operation over relative fall of the clock
    dram_j_per_byte: Real = 7.9e-11  # memory device, its interface, and the way to a core
    sram_j_per_byte: Real = 1.5e-12  # on-chip memory beyond the operands of the matrix units (7 nm macro)
    link_j_per_byte: Real = 1.04e-11  # NVLink 4


# Constants that may be zero: what they stand for is then absent. All others divide or multiply a time.
_MAY_BE_ZERO = ("in_switch_share", "operation_j_per_bit", "padding_share", "static_share", "active_share", "voltage_slope",
                "resident_share", "vector_share", "weight_copies", "not_overlapped")  # fmt: skip


def _check(name: str, value: float, where: str) -> None:
    """ChipError where a chip's own constant is no finite number, below zero, zero where that makes no sense, or above 1."""
    zero = name in _MAY_BE_ZERO or name.endswith(("_s", "_passes", "_per_byte"))
    most = 1.0 if name.endswith("_share") else 1e30
    if not 0.0 <= value <= most or (value == 0.0 and not zero):
        least = "from zero" if zero else "above zero"
        raise ChipError(f"constants.{name} is {value:g}", where=where, hint=f"a finite number {least}, at most {most:g}")


def _files() -> Any:
    return resources.files("presilicon") / "data" / "families"


@cache
def families() -> Mapping[str, Mapping[str, Any]]:
    """Every family's table as it stands in ``data/families``."""
    found = {}
    for path in sorted(_files().iterdir(), key=lambda p: p.name):
        if path.name.endswith(".toml"):
            found[path.name.removesuffix(".toml")] = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


@cache
def family(name: str) -> Constants:
    """The constants of a family; where it has no value of its own, those of the family it is ``like``."""
    table = families().get(name) or families()["generic"]
    values: dict[str, float] = {}
    chain = [table]
    while "like" in chain[-1]:
        chain.append(families()[chain[-1]["like"]])
    for part in reversed(chain):
        values |= part.get("constants", {})
    return Constants(**values)


def constants_of(chip: Chip) -> Constants:
    """The constants that hold for a chip: its family's, with its own (calibrated) ones over them."""
    base = family(chip.family)
    known = [f.name for f in fields(Constants)]
    for key in chip.constants:
        if key not in known:
            raise ChipError(f"unknown constant {key!r}", where=chip.name, hint=nearest(key, known))
        _check(key, chip.constants[key], chip.name)
    return replace(base, **dict(chip.constants)) if chip.constants else base
