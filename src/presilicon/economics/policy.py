"""What US export rules say of a chip: total processing performance, performance density, and the paragraph of ECCN 3A090.

Thresholds stand in data/technology/policy.toml with the rule they come from. This is arithmetic on published parameters and
not legal advice: the rules also ask how a chip is designed and marketed, where it goes and to whom.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from presilicon.chip import Chip
from presilicon.dtypes import FORMATS
from presilicon.economics.quantity import Real, text
from presilicon.errors import ChipError

NOTE = "Arithmetic on published parameters, not legal advice."
_DENSITIES = (0.0, 1.6, 3.2, 5.92)  # one in each band of the rules
_BITS = {"tf32": 32, "mxfp8": 8, "mxfp6": 6, "fp64": 64}


@cache
def rules() -> Mapping[str, Any]:
    """data/technology/policy.toml."""
    return tomllib.loads(text("policy.toml"))


def tpp(peak_ops_per_s: Mapping[str, Real]) -> Real:
    """Total processing performance: TOPS, dense, times the bits of the operation, the largest over the formats.

    TPP = 2 x MacTOPS x bit length (technical note 2 to 3A090.a and 3A090.b); rates count 2 operations a MAC already.
    """
    best: Real = 0.0
    for name, rate in peak_ops_per_s.items():
        best = np.maximum(best, rate / 1e12 * (_BITS[name] if name in _BITS else FORMATS[name].bits))
    return best


@dataclass(frozen=True, slots=True)
class PolicyClass:
    """The paragraph a chip falls under, and what follows; ``density`` is None where the die's area is not known.

    ``certain``: whether the paragraph would be the same for any area the die can have.
    """

    tpp: float
    density: float | None
    eccn: str
    licence: str
    certain: bool
    note: str

    def to_json(self) -> dict[str, Any]:
        """The figures by name, with the rule and its date."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"rule": rules()["rule"]["document"], "as_of": rules()["rule"]["as_of"], "advice": NOTE}


def paragraph(tpp: float, density: float, datacenter: bool = True) -> str:
    """The paragraph of 3A090 for a chip's figures, "" where none applies."""
    for one in rules()["paragraph"]:
        if one["datacenter"] and not datacenter:
            continue
        if one["tpp_least"] <= tpp < one.get("tpp_below", np.inf) and one["density_least"] <= density < one.get(
            "density_below", np.inf
        ):
            return str(one["name"])
    if not datacenter and tpp >= rules()["consumer"]["tpp_least"]:
        return str(rules()["consumer"]["name"])
    return ""


def classify(tpp: float, area_mm2: float | None, datacenter: bool = True, dram_bytes_per_s: float | None = None) -> PolicyClass:
    """The class of a chip by its TPP and the area of its logic dies, HBM and other memory left out.

    With the area unknown every band of density is tried, and the strictest paragraph told. Chips that are not for
    data centres are controlled from 4,800 only and may go under a licence exception.
    """
    known = rules()
    densities = (tpp / area_mm2,) if area_mm2 else _DENSITIES
    names = [paragraph(tpp, density, datacenter) for density in densities]
    order = [one["name"] for one in known["paragraph"]] + [known["consumer"]["name"]]
    name = min((one for one in names if one), key=order.index, default="")
    certain = len(set(names)) == 1
    licence = known["licence"][name or "none"]
    note = "" if certain else "the die's area is not published: the strictest paragraph that its performance allows"
    review = known["review"]
    if (
        name.startswith("3A090.a")
        and dram_bytes_per_s
        and tpp < review["tpp_below"]
        and dram_bytes_per_s < review["dram_bytes_per_s_below"]
    ):
        note = "; ".join(filter(None, (note, review["note"])))
    return PolicyClass(tpp, tpp / area_mm2 if area_mm2 else None, name, licence, certain, note)


def policy_class(chip: Chip, area_mm2: float | None = None, datacenter: bool = True) -> PolicyClass:
    """The class of one chip; ``area_mm2`` (of all its dies) in place of the published area. ChipError where it has no rate."""
    if not chip.peak_ops_per_s:
        raise ChipError("no rate of it is published, so it has no total processing performance", where=chip.name)
    area = area_mm2 or (chip.die_area_mm2 * chip.dies if chip.die_area_mm2 else None)
    memory = chip.memory.bytes_per_s if chip.memory else None
    return classify(float(tpp(chip.peak_ops_per_s)), area, datacenter, memory)
