"""Cost of operating chips: purchase spread over years of use plus electricity, or rent."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from presilicon.chip import Price
from presilicon.economics.quantity import Quantity, Real, text
from presilicon.errors import WorkloadError

HOURS_PER_YEAR = 8766.0


@cache
def quantities() -> Mapping[str, Quantity]:
    """Every quantity of data/technology/operation.toml by name."""
    return {name: Quantity(**told) for name, told in tomllib.loads(text("operation.toml")).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How chips are run.

    ``host_power_share``: power of the server beyond its chips, over theirs. ``server_price_share``: price of the server
    beyond its chips, over theirs, but ``least_server_usd`` a chip at least. ``utilization``: share of the time under the load
    that was estimated.
    """

    years: float
    usd_per_kwh: float
    pue: float
    host_power_share: float
    server_price_share: float
    least_server_usd: float
    utilization: float

    def __post_init__(self) -> None:
        for name, low, high in (("years", 0.0, 100.0), ("usd_per_kwh", -1e-9, 1e4), ("pue", 0.999, 10.0),
                                ("host_power_share", -1e-9, 100.0), ("server_price_share", -1e-9, 100.0),
                                ("least_server_usd", -1e-9, 1e9), ("utilization", 0.0, 1.000001)):  # fmt: skip
            value = getattr(self, name)
            if not low < value <= high:
                raise WorkloadError(f"{name} is {value:g}", hint=f"above {max(low, 0):g}, at most {high:g}")


def defaults(years: float | None = None, usd_per_kwh: float | None = None, pue: float | None = None) -> Operation:
    """The sourced defaults, with what is given in their place."""
    known = quantities()
    return Operation(
        years=known["depreciation_years"].value if years is None else years,
        usd_per_kwh=known["electricity_price"].value if usd_per_kwh is None else usd_per_kwh,
        pue=known["pue"].value if pue is None else pue,
        host_power_share=known["host_power_share_measured"].value,
        server_price_share=known["server_price_over_accelerators"].value,
        least_server_usd=known["server_cost_beyond_accelerators_least"].value,
        utilization=known["utilisation_fleet"].value,
    )


def owned_usd_per_hour(purchase_usd: Real, power_w: Real, chips: Real, operation: Operation) -> Real:
    """Cost of an hour of ``chips`` bought chips drawing ``power_w`` together; arrays broadcast.

    (Chip + its share of the server, never less than a slot costs) / (years x hours) over the utilization, as idle hours are
    paid for by the busy ones, + card power x (1 + host) x PUE x price of energy. What idle chips draw is left out.
    """
    o = operation
    server_usd = np.maximum(purchase_usd * o.server_price_share, o.least_server_usd)
    capital = (purchase_usd + server_usd) * chips / (o.years * HOURS_PER_YEAR)
    return capital / o.utilization + power_w * (1.0 + o.host_power_share) * o.pue * o.usd_per_kwh / 1e3


def usd_per_hour(price: Price, power_w: float, chips: float, operation: Operation) -> tuple[float | None, str]:
    """Cost of an hour of ``chips`` chips drawing ``power_w`` together, and what it rests on: purchase, rent, or nothing.

    Bought: ``owned_usd_per_hour``. Rented: the rent, which holds all of that, over the utilization.
    """
    if price.purchase_usd is not None:
        return float(owned_usd_per_hour(price.purchase_usd, power_w, chips, operation)), "purchase"
    if price.rent_usd_per_hour is not None:
        return price.rent_usd_per_hour * chips / operation.utilization, "rent"
    return None, ""


def usd_per_million_tokens(usd_per_hour: Real, tokens_per_s: Real) -> Real:
    """Cost of a million tokens from that of an hour in which ``tokens_per_s`` are made."""
    return usd_per_hour / (tokens_per_s * 3600.0) * 1e6
