"""Sourced quantities with their ranges: the tables of data/technology, looked up for one item or for many."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import FactsError, InputError, nearest

Real = float | NDArray[np.float64]
Names = str | NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A sourced quantity with its range, FactsError where the value lies outside."""

    value: float
    low: float
    high: float
    unit: str
    source: str
    date: str
    confidence: str

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise FactsError(f"{self.value:g} lies outside {self.low:g} to {self.high:g}", where=self.source)
        if not self.source or self.confidence not in ("high", "medium", "low"):
            raise FactsError("a quantity needs a source, and a confidence of high, medium or low", where=self.source)


def text(name: str) -> str:
    """The text of a file of data/technology."""
    return (resources.files("presilicon") / "data" / "technology" / name).read_text(encoding="utf-8")


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file of data/technology, comments left out."""
    return list(csv.DictReader(line for line in text(name).splitlines() if not line.startswith("#")))


@cache
def table(name: str) -> Mapping[str, Mapping[str, Quantity]]:
    """A CSV file of quantities as item, then quantity."""
    found: dict[str, dict[str, Quantity]] = {}
    for row in rows(f"{name}.csv"):
        value, low, high = (float(row[key]) for key in ("value", "low", "high"))
        quantity = Quantity(value, low, high, row["unit"], row["source"], row["date"], row["confidence"])
        found.setdefault(row["item"], {})[row["quantity"]] = quantity
    return found


def quantity(name: str, item: str, kind: str) -> Quantity:
    """One quantity of a table; InputError names the items that have it."""
    known = table(name)
    if kind not in known.get(item, {}):
        having = [one for one, held in known.items() if kind in held]
        raise InputError(
            f"no {kind.replace('_', ' ')} is known for {item!r}", hint=nearest(item, having) or "one of " + ", ".join(having)
        )
    return known[item][kind]


def look_up(name: str, items: Names, kind: str, end: str = "value") -> Real:
    """A quantity's ``end`` ("value", "low", "high") for one item, or for an array of items as an array of its shape."""
    if isinstance(items, str):
        return float(getattr(quantity(name, items, kind), end))
    unique, inverse = np.unique(items, return_inverse=True)
    values = np.array([getattr(quantity(name, str(item), kind), end) for item in unique], dtype=np.float64)
    return np.asarray(values[inverse.reshape(np.shape(items))], dtype=np.float64)


def draw(known: Quantity, generator: np.random.Generator, samples: int) -> Real:
    """Samples of a quantity: half of them below its value and half above, ever fewer towards the ends of its range.

    So the value is the median, and both ends count however far they lie.
    """
    above = generator.random(samples) < 0.5
    distance = 1.0 - np.sqrt(1.0 - generator.random(samples))
    return np.where(
        above, known.value + (known.high - known.value) * distance, known.value - (known.value - known.low) * distance
    )


@cache
def _node_names() -> Mapping[str, str]:
    known: Mapping[str, Any] = tomllib.loads(text("nodes.toml"))
    return {name.lower(): node for node, told in known.items() for name in (node, *told["names"])}


def node(name: str) -> str:
    """The node that a chip's ``process_node`` names ("TSMC N7" is n7); InputError offers those that are known."""
    found = _node_names().get(name.strip().lower())
    if found is None:
        known = list(dict.fromkeys(_node_names().values()))
        problem = f"no process node is called {name!r}" if name else "no process node is given"
        raise InputError(problem, hint=(nearest(name, known) if name else "") or "one of " + ", ".join(known))
    return found


def memory_kind(name: str) -> str:
    """The kind of memory that prices.csv knows under a chip's ``memory.kind`` ("HBM3e" is HBM3E, "HBM" HBM2E)."""
    key = name.strip().upper()
    key = {"HBM": "HBM2E", "DRAM": "DDR4", "LPDDR": "LPDDR4X"}.get(key, key)
    quantity("prices", key, "memory")
    return key
