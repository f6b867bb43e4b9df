"""What a chip costs to make: dies, package, memory, test and board, and once for all the masks and the design.

Every price is a float, or an array over designs (their central values) or over samples of one chip (drawn from the published
spread). The same functions serve a published chip and a million designs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from presilicon.economics.quantity import Names, Quantity, Real, draw, look_up, quantity
from presilicon.economics.silicon import interface
from presilicon.economics.wafer import dies_per_wafer, harvested_yield
from presilicon.errors import InputError

_BYTES_PER_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices in USD and what yield depends on; floats, or arrays that broadcast with the areas they meet.

    ``sort_test_share`` is a share of the wafer's price; ``board_share``, of die and memory, is the board, power and cooling of
    cards without an interposer (0 with one: the module is then in ``test_usd``).
    """

    wafer_usd: Real
    defects_per_cm2: Real
    clustering: Real
    sort_test_share: Real
    package_base_usd: Real
    package_usd_per_mm2: Real
    package_yield: Real
    test_usd: Real
    board_share: Real
    memory_usd_per_gb: Real
    mask_set_usd: Real
    design_usd: Real


# Where each price stands: table, item ("node", "package", "memory" are the chip's own), quantity.
_WHERE = {
    "wafer_usd": ("nodes", "node", "wafer_price"),
    "defects_per_cm2": ("nodes", "node", "defect_density"),
    "clustering": ("prices", "yield", "clustering"),
    "sort_test_share": ("prices", "wafer", "sort_test"),
    "package_base_usd": ("prices", "package", "package_base"),
    "package_usd_per_mm2": ("prices", "package", "package_per_mm2"),
    "package_yield": ("prices", "package", "package_yield"),
    "test_usd": ("prices", "package", "test_assembly"),
    "board_share": ("prices", "board", "share"),
    "memory_usd_per_gb": ("prices", "memory", "memory"),
    "mask_set_usd": ("nodes", "node", "mask_set"),
    "design_usd": ("nodes", "node", "design_cost"),
}


def package(memory_kind: Names) -> Names:
    """How a die is packaged: on an "interposer" beside its HBM stacks, else "flip_chip" on an organic substrate."""
    if isinstance(memory_kind, str):
        return "interposer" if interface(memory_kind) == "hbm" else "flip_chip"
    return np.where(interface(memory_kind) == "hbm", "interposer", "flip_chip")


def _made(node: Names, memory_kind: Names, look: Callable[[str, Names, str], Real]) -> Prices:
    own: dict[str, Names] = {"node": node, "memory": memory_kind, "package": package(memory_kind)}
    found = {name: look(table, own.get(item, item), kind) for name, (table, item, kind) in _WHERE.items()}
    if isinstance(own["package"], str):
        on_card = float(own["package"] == "flip_chip")
    else:
        on_card = (own["package"] == "flip_chip").astype(np.float64)
    return Prices(**(found | {"board_share": found["board_share"] * on_card}))


def prices(node: Names, memory_kind: Names) -> Prices:
    """The central prices at a node with a kind of memory, texts or arrays of them; InputError where one is unknown."""
    return _made(node, memory_kind, look_up)


def sampled_prices(node: str, memory_kind: str, samples: int, seed: int = 0) -> Prices:
    """Samples of every price, drawn independently; the same seed gives the same samples."""
    generator = np.random.default_rng(seed)

    def look(table: str, item: Names, kind: str) -> Real:
        return draw(quantity(table, str(item), kind), generator, samples)

    return _made(node, memory_kind, look)


def assumptions(node: str, memory_kind: str) -> dict[str, Quantity]:
    """The sourced quantity behind each price, by the name of its field."""
    own = {"node": node, "memory": memory_kind, "package": str(package(memory_kind))}
    return {name: quantity(table, own.get(item, item), kind) for name, (table, item, kind) in _WHERE.items()}


@dataclass(frozen=True, slots=True)
class UnitCost:
    """What one chip (or card) costs to make, in USD by part; ``loss_usd`` is what assembly spoils. ``die_yield`` is a share."""

    die_usd: Real
    package_usd: Real
    memory_usd: Real
    test_usd: Real
    board_usd: Real
    loss_usd: Real
    die_yield: Real

    @property
    def unit_usd(self) -> Real:
        """All parts."""
        total: Real = sum((getattr(self, f.name) for f in fields(self) if f.name.endswith("_usd")), 0.0)
        return total


def unit_cost(
    die_mm2: Real,
    memory_bytes: Real,
    at: Prices,
    *,
    dies: int = 1,
    cores: int = 1,
    spare_cores: int = 0,
    core_share: Real = 0.0,
) -> UnitCost:
    """Cost of a chip of ``dies`` alike dies of ``die_mm2`` each with its memory; arrays broadcast.

    Dies are tested before assembly (known good dies): one costs its share of the wafer over the yield. Of its ``cores``,
    which cover ``core_share`` of the die, ``spare_cores`` may be defective. More area is never cheaper. InputError where a die
    is larger than the wafer or not above zero.
    """
    if not np.all(np.asarray(die_mm2) > 0):
        raise InputError(f"a die of {np.min(die_mm2):g} mm2 has no cost", hint="an area above zero")
    placed = dies_per_wafer(die_mm2)
    if not np.all(np.asarray(placed) >= 1):
        raise InputError(f"no die of {np.max(die_mm2):g} mm2 fits a wafer", hint="several smaller dies")
    good = harvested_yield(die_mm2, at.defects_per_cm2, core_share, cores, spare_cores, at.clustering)
    die_usd = dies * at.wafer_usd * (1.0 + at.sort_test_share) / (placed * good)
    package_usd = at.package_base_usd + at.package_usd_per_mm2 * dies * die_mm2
    memory_usd = at.memory_usd_per_gb * memory_bytes / _BYTES_PER_GB
    beside = np.where(np.asarray(at.board_share) > 0, 0.0, 1.0)  # memory that is assembled with the die, and lost with it
    return UnitCost(
        die_usd=die_usd,
        package_usd=package_usd,
        memory_usd=memory_usd,
        test_usd=at.test_usd * np.ones_like(die_usd),
        board_usd=at.board_share * (die_usd + memory_usd),
        loss_usd=(die_usd + package_usd + beside * memory_usd) * (1.0 / at.package_yield - 1.0),
        die_yield=good,
    )


def nre_usd(at: Prices) -> Real:
    """Cost before the first chip: design with its IP, verification and software, and one mask set."""
    return at.design_usd + at.mask_set_usd


def volume_curve(unit_usd: Real, nre: Real, volumes: Real) -> Real:
    """Cost of each chip (USD) when ``volumes`` of them bear the NRE."""
    return unit_usd + nre / np.maximum(volumes, 1.0)


def price_usd(unit_usd: Real, margin: Real) -> Real:
    """Selling price (USD) of a chip whose maker keeps ``margin`` of it."""
    return unit_usd / (1.0 - margin)
