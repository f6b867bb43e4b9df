"""A chip from nothing: a design of the search's space, each axis a slider or a choice.

The chip is the one that the search would evaluate for the same values, so that a design found there opens here unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from presilicon import design
from presilicon.chip import Chip
from presilicon.errors import WorkloadError, nearest
from presilicon.studio.variant import Control

NAME = "blank"
SPACE = "accelerator"
START: dict[str, float | str] = {
    "node": "n5", "formats": "bf16+fp8", "cores": 64, "array": 64, "vector_lanes": 128, "scratchpad_bytes": 524288,
    "shared_sram_bytes": 67108864, "clock_hz": 1.4e9, "memory": "HBM3", "stacks": 4,
    "link_bytes_per_s": 200e9, "power_share": 0.7,
}  # fmt: skip
"""Where the sliders stand at first: a chip of the size of those that are sold."""
LABELS = {
    "node": ("Process node", ""), "formats": ("Formats of the matrix units", ""), "cores": ("Cores", ""),
    "array": ("Side of a core's array", ""), "vector_lanes": ("Vector lanes of a core", ""),
    "scratchpad_bytes": ("Scratchpad of a core", "B"), "shared_sram_bytes": ("Shared SRAM", "B"), "clock_hz": ("Clock", "Hz"),
    "memory": ("Memory", ""), "stacks": ("Stacks or channels of memory", ""),
    "link_bytes_per_s": ("Links to other chips", "B/s"),
    "power_share": ("Power limit over what all parts draw", ""),
}  # fmt: skip


@cache
def _space() -> design.Space:
    return design.space(SPACE)


def controls() -> tuple[Control, ...]:
    """Sliders of the axes that are numbers, with the space's values as stops."""
    found = []
    for name, start in START.items():
        if isinstance(start, str):
            continue
        stops = tuple(sorted({*(float(v) for v in _space().axis(name).values), float(start)}))
        found.append(Control(name, *LABELS[name], float(start), stops[0], stops[-1], stops=stops))
    return tuple(found)


def choices() -> list[dict[str, Any]]:
    """The axes that are names: key, label, values, and where they stand at first."""
    return [
        {"key": name, "label": LABELS[name][0], "values": [str(v) for v in _space().axis(name).values], "value": start}
        for name, start in START.items()
        if isinstance(start, str)
    ]


def chip(changes: Mapping[str, float], chosen: Mapping[str, str]) -> Chip:
    """The chip of the start with values changed; ChipError where a law refuses it: the reticle, the edge of the die."""
    for name in (*changes, *chosen):
        if name not in START:
            raise WorkloadError(f"no slider moves {name[:60]!r}", where=NAME, hint=nearest(name[:60], list(START)))
    for name, value in changes.items():
        if not 0 < value < 1e30 or isinstance(START[name], str):
            raise WorkloadError(f"{name} is {value!r}", where=NAME, hint="a finite number above zero")
    for name, text in chosen.items():
        known = [str(v) for v in _space().axis(name).values] if isinstance(START[name], str) else []
        if text not in known:
            raise WorkloadError(f"{name} is {text[:40]!r}", where=NAME, hint=nearest(text[:40], known) or ", ".join(known))
    return design.chip_of(START | dict(changes) | dict(chosen), name="design")
