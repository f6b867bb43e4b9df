"""What US export rules say of a chip: total processing performance, performance density, and the paragraph of ECCN 3A090.

Thresholds stand in data/technology/policy.toml with the rule they come from. This is arithmetic on published parameters and
not legal advice: the rules also ask how a chip is designed and marketed, where it goes and to whom.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from presilicon.chip import Chip, names
from presilicon.dtypes import FORMATS
from presilicon.economics.dies import areas_of, published_mm2
from presilicon.economics.quantity import Real, node, text
from presilicon.economics.silicon import area_spread
from presilicon.errors import ChipError, InputError

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
    """The paragraph a chip falls under, and what follows; ``density`` is None where no area is known.

    ``eccn`` is "" below all thresholds. ``certain``: every area that the die may have gives the same paragraph; where not, it
    is the strictest of them.
    """

    tpp: float
    density: float | None
    eccn: str
    licence: str
    certain: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The figures by name, with the rule and its date."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"rule": rules()["rule"]["document"], "as_of": rules()["rule"]["as_of"], "advice": NOTE}


def paragraph(tpp: float, density: float, datacenter: bool = True) -> str:
    """The paragraph of 3A090 for a chip's figures, "" where none applies; a chip not for data centres knows one threshold."""
    known = rules()
    if not datacenter:
        return str(known["consumer"]["name"]) if tpp >= known["consumer"]["tpp_least"] else ""
    for one in known["paragraph"]:
        strong = one["tpp_least"] <= tpp < one.get("tpp_below", np.inf)
        dense = one["density_least"] <= density < one.get("density_below", np.inf)
        if strong and dense:
            return str(one["name"])
    return ""


def classify(
    tpp: float, areas_mm2: Sequence[float] = (), *, datacenter: bool = True, dram_bytes_per_s: float | None = None
) -> PolicyClass:
    """The class of a chip by its TPP and the area of its logic dies, memory left out.

    ``areas_mm2``: the area first, then others that it may have instead; none where it is unknown, and then every band of
    density is tried. ``dram_bytes_per_s`` decides how licences to China and Macau are reviewed.
    """
    known = rules()
    densities = tuple(tpp / area for area in areas_mm2) or _DENSITIES
    found = [paragraph(tpp, density, datacenter) for density in densities]
    order = [one["name"] for one in known["paragraph"]] + [known["consumer"]["name"]]
    name = min((one for one in found if one), key=order.index, default="")
    certain = len(set(found)) == 1
    notes = [] if certain else ["its area is not published: the strictest paragraph that its performance allows"]
    review = known["review"]
    lower = tpp < review["tpp_below"] and (dram_bytes_per_s or np.inf) < review["dram_bytes_per_s_below"]
    if name.startswith("3A090.a") and lower:
        notes.append(review["note"])
    density = densities[0] if areas_mm2 else None
    return PolicyClass(tpp, density, name, known["licence"][name or "none"], certain, tuple(notes))


def policy_class(chip: Chip, *, datacenter: bool = True) -> PolicyClass:
    """The class of one chip by its published area, else by what the area model says and its spread, else by any area.

    Dies of a node with planar transistors do not count as area: their density is none. Of a chip that is still to be made it
    notes what its foundry must presume. ChipError where no rate is published.
    """
    if not chip.peak_ops_per_s:
        raise ChipError("no rate of it is published, so it has no total processing performance", where=chip.name)
    memory = chip.memory.bytes_per_s if chip.memory else None
    areas = _areas(chip)
    found = classify(float(tpp(chip.peak_ops_per_s)), areas, datacenter=datacenter, dram_bytes_per_s=memory)
    to_be_made = chip.template is not None or chip.name not in names()
    if to_be_made and areas != (float("inf"),):
        return replace(found, notes=(*found.notes, rules()["foundry"]["note"]))
    return found


def _areas(chip: Chip) -> tuple[float, ...]:
    """The area of a chip's dies in mm2 (infinite where only planar ones), with the ends of its spread where it is modelled."""
    try:
        planar = node(chip.process_node) in rules()["rule"]["planar_nodes"]
        if planar:
            return (float("inf"),)
        if published := published_mm2(chip):
            return (published,)
        area = float(areas_of(chip).total_mm2)
    except InputError:
        return ()
    spread = np.exp(area_spread())
    return area, area / spread, area * spread
