"""Cost of operating chips: purchase spread over years of use plus electricity, or rent."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from presilicon.chip import Price
from presilicon.economics.quantity import Quantity, Real, draw, text
from presilicon.errors import WorkloadError

HOURS_PER_YEAR = 8766.0


@cache
def quantities() -> Mapping[str, Quantity]:
    """Every quantity of data/technology/operation.toml by name."""
    return {name: Quantity(**told) for name, told in tomllib.loads(text("operation.toml")).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How chips are run; each a float, or an array over samples.

    ``host_power_share``: power of the server beyond its chips, over theirs. ``server_price_share``: price of the server
    beyond its chips, over theirs, but ``least_server_usd`` a chip at least. ``utilization``: share of the time under the load
    that was estimated.
    """

    years: Real
    usd_per_kwh: Real
    pue: Real
    host_power_share: Real
    server_price_share: Real
    least_server_usd: Real
    utilization: Real

    def __post_init__(self) -> None:
        for name, low, high in (("years", 0.0, 100.0), ("usd_per_kwh", -1e-9, 1e4), ("pue", 0.999, 10.0),
                                ("host_power_share", -1e-9, 100.0), ("server_price_share", -1e-9, 100.0),
                                ("least_server_usd", -1e-9, 1e9), ("utilization", 0.0, 1.000001)):  # fmt: skip
            values = np.asarray(getattr(self, name))
            wrong = values[~((low < values) & (values <= high))]
            if wrong.size:
                raise WorkloadError(f"{name} is {wrong[0]:g}", hint=f"above {max(low, 0):g}, at most {high:g}")


_QUANTITIES = {
    "years": "depreciation_years",
    "usd_per_kwh": "electricity_price",
    "pue": "pue",
    "host_power_share": "host_power_share_measured",
    "server_price_share": "server_price_over_accelerators",
    "least_server_usd": "server_cost_beyond_accelerators_least",
    "utilization": "utilisation_fleet",
}


def assumptions() -> dict[str, Quantity]:
    """The sourced quantity behind each field of ``Operation``."""
    return {name: quantities()[key] for name, key in _QUANTITIES.items()}


def defaults(years: float | None = None, usd_per_kwh: float | None = None, pue: float | None = None) -> Operation:
    """The sourced defaults, with what is given in their place."""
    given = {"years": years, "usd_per_kwh": usd_per_kwh, "pue": pue}
    known = {name: one.value for name, one in assumptions().items()}
    return Operation(**(known | {name: value for name, value in given.items() if value is not None}))


def sampled(at: Operation, samples: int, seed: int = 0) -> Operation:
    """Samples of how chips are run: sourced defaults drawn from their ranges, what else ``at`` says kept as it is."""
    generator = np.random.default_rng(seed)
    drawn = {name: (one.value, draw(one, generator, samples)) for name, one in assumptions().items()}
    return Operation(
        **{name: many if getattr(at, name) == value else getattr(at, name) for name, (value, many) in drawn.items()}
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
        return float(price.rent_usd_per_hour * chips / operation.utilization), "rent"
    return None, ""


def usd_per_million_tokens(usd_per_hour: Real, tokens_per_s: Real) -> Real:
    """Cost of a million tokens from that of an hour in which ``tokens_per_s`` are made."""
    return usd_per_hour / (tokens_per_s * 3600.0) * 1e6
