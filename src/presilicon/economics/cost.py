"""What one chip costs to make and what may stand in its way: area, yield, parts, masks and design, export class, with spreads.

A published area is taken as it is; a blank one is modelled, and its spread is that of the model on dies it was not fitted on.
Every other spread is that of the published prices, drawn seeded. A template chip's area is that of its synthesis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import Chip, names
from presilicon.economics import area as template_area
from presilicon.economics.dies import areas_of, die_of, missing, published_mm2, spec_of
from presilicon.economics.manufacture import (
    Prices,
    UnitCost,
    assumptions,
    nre_usd,
    price_usd,
    prices,
    sampled_prices,
    unit_cost,
    volume_curve,
)
from presilicon.economics.policy import PolicyClass, policy_class
from presilicon.economics.quantity import Quantity, Real, draw, memory_kind, node, quantity
from presilicon.economics.silicon import Areas, DieSpec, area_spread, die_area, logic_scale, sram_scale
from presilicon.errors import ChipError, InputError, WorkloadError
from presilicon.template import Core

_SYNTHESISED_NODE = "n7"  # where area.area knows logic and memories
_SAMPLES = 4096
_VOLUMES = (1_000, 10_000, 100_000, 1_000_000)
_SAME_AREA = 0.01
_NO_MEMORY = "DDR4"  # any kind without HBM: it only says how a die without memory is packaged


@dataclass(frozen=True, slots=True)
class Spread:
    """An uncertain figure: its value at the central prices, and its percentiles over the samples."""

    value: float
    p10: float
    p50: float
    p90: float

    @classmethod
    def of(cls, value: Real, samples: Real) -> Spread:
        """From the central value and the samples."""
        low, middle, high = (float(p) for p in np.percentile(np.asarray(samples), (10, 50, 90)))
        return cls(float(value), low, middle, high)

    def to_json(self) -> dict[str, float]:
        """The figures by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A chip's cost. ``blocks`` are mm2 of all its dies by the model, beside the area that the cost is for.

    ``curve``: what each costs when so many bear masks and design. ``price_usd``: what one unit sells for at the margin of a
    "partner" that makes it to order, and of a "vendor" of accelerators.
    """

    chip: str
    node: str
    dies: int
    volume: float | None
    area_mm2: Spread
    area_basis: str
    blocks: Mapping[str, float]
    die_yield: Spread
    parts: Mapping[str, Spread]
    unit_usd: Spread
    nre_usd: Spread
    nre: Mapping[str, Spread]
    usd_at_volume: Spread | None
    curve: Mapping[int, Spread]
    price_usd: Mapping[str, Spread]
    policy: PolicyClass | None
    assumed: Mapping[str, Quantity]
    taken: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that ``presilicon cost --json`` prints."""
        return {
            "chip": self.chip,
            "process_node": self.node,
            "dies": self.dies,
            "volume": self.volume,
            "area_mm2": self.area_mm2.to_json() | {"basis": self.area_basis, "blocks": dict(self.blocks)},
            "yield": self.die_yield.to_json(),
            **{name: spread.to_json() for name, spread in self.parts.items()},
            "unit_usd": self.unit_usd.to_json(),
            "nre_usd": self.nre_usd.to_json() | {"parts": {name: spread.to_json() for name, spread in self.nre.items()}},
            "usd_at_volume": self.usd_at_volume.to_json() if self.usd_at_volume else None,
            "volume_curve": [{"volume": volume, "usd": spread.to_json()} for volume, spread in self.curve.items()],
            "price_usd": {seller: spread.to_json() for seller, spread in self.price_usd.items()},
            "tpp": self.policy.tpp if self.policy else None,
            "performance_density": self.policy.density if self.policy else None,
            "policy": self.policy.to_json() if self.policy else None,
            "taken": list(self.taken),
            "sources": [
                {"for": name} | {f.name: getattr(one, f.name) for f in fields(one)} for name, one in self.assumed.items()
            ],
        }


def template_blocks(chip: Chip) -> dict[str, float]:
    """Blocks of a template chip in mm2: its logic by synthesis, its memories, and the interface of its DRAM, at its node."""
    core, at = Core.of(chip), node(chip.process_node or _SYNTHESISED_NODE)
    logic, cell = float(logic_scale(at)), float(sram_scale(at))
    gates = template_area.logic_gates(core)
    whole = template_area.area(core, _SYNTHESISED_NODE, gates)
    each = whole.logic_mm2 / sum(gates.values())
    blocks = {name: count * each * logic for name, count in gates.items()}
    interface = die_area(replace(_bare(chip), node=at)).memory
    return blocks | {"memories": whole.memory_mm2 * cell, "memory_interface": float(interface)}


def _bare(chip: Chip) -> DieSpec:
    """Only the memory's interface of a chip's die."""
    spec = spec_of(chip)
    return DieSpec(node=spec.node, memory_kind=spec.memory_kind, memory_units=spec.memory_units, host_lanes=0.0)


def blocks(chip: Chip) -> dict[str, float]:
    """Area of a chip's blocks in mm2, all dies together, by the model; ChipError names what it would need."""
    if chip.template is not None:
        return template_blocks(chip)
    return {name: float(value) for name, value in areas_of(chip).by_block().items() if value}


def _is_modelled(chip: Chip, given_mm2: float, found: Mapping[str, float]) -> bool:
    """Whether a chip of one's own gives as its area what the model says, as a design does: then it is as uncertain as that."""
    return chip.name not in names() and abs(sum(found.values()) / given_mm2 - 1.0) < _SAME_AREA


def _harvest(chip: Chip) -> tuple[int, int, float]:
    """Cores built on a die, how many of them may be defective, and the part of the die that cores cover."""
    die = die_of(chip)
    if die is None or not chip.cores:
        return 1, 0, 0.0
    spare = max(die.cores - -(-chip.cores // chip.dies), 0)
    return die.cores, min(spare, die.cores - 1), _core_share(die_area(die.spec))


def _core_share(areas: Areas) -> float:
    busy = areas.matrix + areas.vector
    return float(busy * (1.0 + areas.uncore / (busy + areas.sram)) / areas.total_mm2)


def cost(chip: Chip, *, volume: float | None = None, samples: int = _SAMPLES, seed: int = 0) -> Cost:
    """The cost of a published chip, a design or a template chip, with p10, p50 and p90 of what is uncertain.

    ``volume``: chips that bear the NRE. ChipError where node, area or the kind of memory cannot be found; WorkloadError for a
    volume below one.
    """
    if volume is not None and not 1 <= volume < 1e12:
        raise WorkloadError(f"volume is {volume:g}", hint="one chip or more")
    if not chip.process_node:
        hint = 'give process_node in a chip TOML of your own, such as "n5" or "TSMC N7"'
        raise ChipError("process_node is not published, and without it there is no cost", where=chip.name, hint=hint)
    try:
        at = node(chip.process_node)
    except InputError as error:
        raise error.at(chip.name) from None
    kind = memory_kind(chip.memory.kind) if chip.memory and chip.memory.kind else _NO_MEMORY
    memory_bytes = (chip.memory.bytes or 0.0) if chip.memory else 0.0
    taken: tuple[str, ...] = ()
    found: dict[str, float] = {}
    try:
        found = blocks(chip)
    except ChipError:
        if not published_mm2(chip):
            raise
    published = published_mm2(chip)
    if published and not _is_modelled(chip, published, found):
        die_mm2, factor, basis = published / chip.dies, np.ones(samples), "published"
    else:
        die_mm2, basis = sum(found.values()) / chip.dies, "synthesis" if chip.template else "modelled"
        factor = np.exp(area_spread() * np.random.default_rng(seed + 1).standard_normal(samples))
        taken = tuple(one for one in missing(chip) if "taken" in one)
    if chip.memory and not chip.memory.bytes:
        taken = (*taken, "memory.bytes (taken as none)")
    cores, spare, share = _harvest(chip)

    def made(die: Real, with_prices: Prices) -> UnitCost:
        return unit_cost(die, memory_bytes, with_prices, dies=chip.dies, cores=cores, spare_cores=spare, core_share=share)

    central, drawn = prices(at, kind), sampled_prices(at, kind, samples, seed)
    one, many = made(die_mm2, central), made(die_mm2 * factor, drawn)
    parts = [f.name for f in fields(UnitCost) if f.name.endswith("_usd")]

    def each(number: float) -> Spread:
        return Spread.of(
            volume_curve(one.unit_usd, nre_usd(central), number), volume_curve(many.unit_usd, nre_usd(drawn), number)
        )

    def sold(seller: str, generator: np.random.Generator) -> Spread:
        margin = quantity("prices", "margin", seller)
        return Spread.of(price_usd(one.unit_usd, margin.value), price_usd(many.unit_usd, draw(margin, generator, samples)))

    total = die_mm2 * chip.dies
    return Cost(
        chip=chip.name,
        node=at,
        dies=chip.dies,
        volume=volume,
        area_mm2=Spread.of(total, total * factor),
        area_basis=basis,
        blocks=found,
        die_yield=Spread.of(one.die_yield, many.die_yield),
        parts={name: Spread.of(getattr(one, name), getattr(many, name)) for name in parts},
        unit_usd=Spread.of(one.unit_usd, many.unit_usd),
        nre_usd=Spread.of(nre_usd(central), nre_usd(drawn)),
        nre={"mask_set_usd": _spread(central, drawn, "mask_set_usd"), "design_usd": _spread(central, drawn, "design_usd")},
        usd_at_volume=None if volume is None else each(volume),
        curve={number: each(number) for number in _VOLUMES},
        price_usd={seller: sold(seller, np.random.default_rng(seed + 2)) for seller in ("partner", "vendor")},
        policy=policy_class(chip) if chip.peak_ops_per_s else None,
        assumed=assumptions(at, kind),
        taken=taken,
    )


def _spread(central: Prices, drawn: Prices, name: str) -> Spread:
    samples: NDArray[np.float64] = np.asarray(getattr(drawn, name))
    return Spread.of(getattr(central, name), samples)
