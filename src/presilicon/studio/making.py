"""What a chip under the sliders takes to make: area by block, floorplan, dies on a wafer, cost by part, price of its tokens.

Where the area of the chip that one started from is published, every block is scaled by published over modelled area, so that
a change begins at the published figure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from presilicon.chip import Chip, Price
from presilicon.economics.area import area, known, logic_gates
from presilicon.economics.dies import die_of, spec_of
from presilicon.economics.manufacture import package, price_usd, prices, unit_cost
from presilicon.economics.operation import defaults, usd_per_hour, usd_per_million_tokens
from presilicon.economics.policy import PolicyClass, classify, tpp
from presilicon.economics.quantity import memory_kind, node, quantity
from presilicon.economics.silicon import Areas, DieSpec, area_spread, die_area, reticle_mm2
from presilicon.economics.wafer import dies_per_wafer
from presilicon.errors import ChipError
from presilicon.report import EstimateReport
from presilicon.studio.variant import macs_per_core
from presilicon.template import Core
from presilicon.view import Die

OURS = "presilicon"
"""The vendor of chips that are designs: what their files state is computed, not published."""
TEMPLATE_BLOCKS = {"array": "array", "vector unit": "vector_lanes"}
"""Blocks of a template core that its floorplan shows apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """One chip's making: areas in mm2 of one die, costs in USD of one chip.

    ``modelled_mm2`` is the model's area where it was scaled to a published one, ``spread`` the model's own error (log rms).
    """

    node: str
    floorplan: Die
    dies: int
    published_mm2: float | None
    modelled_mm2: float
    spread: float
    cost: dict[str, float]
    die_yield: float
    dies_per_wafer: float
    packaging: str
    policy: PolicyClass | None

    @property
    def area_mm2(self) -> float:
        """One die."""
        return self.floorplan.area_mm2

    @property
    def unit_usd(self) -> float:
        """Cost to make one chip."""
        return sum(self.cost.values())


def making(base: Chip, one: Chip) -> Making:
    """The making of ``one``, which is ``base`` or a change of it.

    InputError names the figure without which there is no area; ChipError where a changed die is larger than the reticle.
    """
    at = node(one.process_node)
    modelled = _template_die(one, at) if one.template is not None else _die(base, one)
    plan = modelled
    if base.template is None and base.die_area_mm2:
        plan = scaled(modelled, base.die_area_mm2 / (modelled if one is base else _die(base, base)).area_mm2)
    if one is not base and plan.area_mm2 > reticle_mm2():
        raise ChipError(
            f"a die of {plan.area_mm2:,.0f} mm2 is larger than the {reticle_mm2():,.0f} mm2 that one exposure prints",
            where=one.name,
            hint="fewer cores or less SRAM; several dies are a chip of another TOML file",
        )
    kind = memory_kind(one.memory.kind) if one.memory and one.memory.kind else "DDR4"
    costs = unit_cost(plan.area_mm2, (one.memory.bytes or 0.0) if one.memory else 0.0, prices(at, kind), dies=one.dies)
    rate = one.memory.bytes_per_s if one.memory else None
    rates = one.peak_ops_per_s
    return Making(
        node=at,
        floorplan=plan,
        dies=one.dies,
        published_mm2=None if base.vendor == OURS else base.die_area_mm2,
        modelled_mm2=modelled.area_mm2,
        spread=area_spread(),
        cost={name: float(getattr(costs, f"{name}_usd")) for name in ("die", "package", "memory", "test", "board", "loss")},
        die_yield=float(costs.die_yield),
        dies_per_wafer=float(dies_per_wafer(plan.area_mm2)),
        packaging=str(package(kind)),
        policy=classify(float(tpp(rates)), (plan.area_mm2 * one.dies,), dram_bytes_per_s=rate) if rates else None,
    )


def scaled(die: Die, factor: float) -> Die:
    """A die whose blocks are all ``factor`` times as large."""
    numbers = ("shared_memory_mm2", "memory_interface_mm2", "links_mm2", "fabric_mm2", "other_mm2")
    parts = {name: area * factor for name, area in die.core_parts.items()}
    return replace(die, core_parts=parts, **{name: getattr(die, name) * factor for name in numbers})


def changed_spec(base: Chip, one: Chip) -> DieSpec:
    """The die of a changed chip: the base's as it is built, each part as much larger as the figure behind it."""
    spec = spec_of(base)
    if one is base:
        return spec

    def ratio(path: str) -> float:
        before, after = base.get(path), one.get(path)
        return after / before if before and after else 1.0

    cores = ratio("cores")
    macs = cores * (macs_per_core(one) or 1.0) / (macs_per_core(base) or 1.0)
    # Memory that the chip does not publish (registers of a GPU) grows with the cores.
    own = spec.sram_bytes * base.dies - base.on_chip_bytes
    return replace(
        spec,
        macs={name: count * macs for name, count in spec.macs.items()},
        simt_lanes=spec.simt_lanes * cores,
        fp64_lanes=spec.fp64_lanes * cores,
        vector_lanes=spec.vector_lanes * cores,
        sram_bytes=(one.on_chip_bytes + max(own, 0.0) * cores) / base.dies,
        memory_units=spec.memory_units * ratio("memory.bytes_per_s"),
        link_bytes_per_s=spec.link_bytes_per_s * ratio("link.bytes_per_s"),
    )


def _die(base: Chip, one: Chip) -> Die:
    spec = changed_spec(base, one)
    blocks: Areas = die_area(spec)
    on_chip = one.on_chip_bytes or 1.0
    shared = min((one.shared_sram_bytes or 0.0) / on_chip, 1.0) if one.scratchpad_bytes else 1.0
    built = die_of(base)
    sold = round((one.cores or one.dies) / one.dies)
    # A die carries more cores than are sold enabled.
    cores = round(built.cores * sold / max(round((base.cores or base.dies) / base.dies), 1)) if built else sold
    return Die(
        name=one.name,
        cores=max(cores, 1),
        core_parts={
            "array": float(blocks.matrix),
            "vector unit": float(blocks.vector),
            "scratchpad": float(blocks.sram) * (1.0 - shared),
        },
        shared_memory_mm2=float(blocks.sram) * shared,
        memory_interface_mm2=float(blocks.memory),
        memory_interfaces=max(1, round(float(spec.memory_units))) if spec.memory_units else 0,
        links_mm2=float(blocks.link) + float(blocks.host),
        other_mm2=float(blocks.uncore),
    )


def _template_die(chip: Chip, at: str) -> Die:
    """The cores of a template chip: logic by block as synthesised, memories; no pads and no memory interface."""
    core = Core.of(chip)
    whole, gates = area(core, at), logic_gates(core)
    per_gate = whole.logic_mm2 / sum(gates.values())
    parts = {name: gates[block] * per_gate for name, block in TEMPLATE_BLOCKS.items()}
    parts["core control"] = whole.logic_mm2 - sum(parts.values())
    parts["scratchpad"] = whole.memory_mm2
    return Die(name=chip.name, cores=core.cores, core_parts=parts)


def template_nodes() -> tuple[str, ...]:
    """Nodes at which a template core has an area."""
    return tuple(name for name, told in known()["node"].items() if "sram_mbit_per_mm2" in told)


def token_price(report: EstimateReport, chip: Chip, made: Making | None) -> tuple[float | None, str]:
    """USD per million output tokens, and what it rests on: purchase, rent, or the cost to make and a maker's margin."""
    if report.tokens_per_s is None:
        return None, ""
    price, basis = chip.price, ""
    if price.purchase_usd is None and price.rent_usd_per_hour is None:
        if made is None:
            return None, ""
        margin = quantity("prices", "margin", "vendor").value
        price = Price(purchase_usd=float(price_usd(made.unit_usd, margin)))
        basis = f"cost to make, maker's margin {100 * margin:.0f} %"
    hourly, rests = usd_per_hour(price, report.power_w, report.chips, defaults())
    if hourly is None:
        return None, ""
    if chip.vendor == OURS:
        basis = "cost to make, no margin"
    return float(usd_per_million_tokens(hourly, report.tokens_per_s)), basis or rests
