"""Critical paths of a mapped chip by OpenSTA, without wires.

What is assumed: the clock reaches all flip-flops at once; the pin of the chip's reset is no path (that of a core, from a
register, is one); a memory's pins are those of a flip-flop of the library, so that a macro's own access time adds to the
paths that begin at a memory.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from presilicon.rtl.build import ToolError
from presilicon.rtl.liberty import Library
from presilicon.rtl.netlist import SRAM, Netlist, Part
from presilicon.rtl.synthesis import TOP, Synthesis

# Endpoints that are told apart: the slowest of all.
_ENDPOINTS = 4000
_PERIOD_NS = 1000.0
_MEMORY = "memory_pin"


@dataclass(frozen=True, slots=True)
class Route:
    """A path: its delay with the setup time of its end, and the cells it begins and ends at."""

    delay_ns: float
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Timing:
    """The longest path of all, its stages as OpenSTA prints them, and the longest path that ends in each place.

    A place is the path of instances down to the third level, such as ``core_0/vector/lane_3``.
    """

    worst: Route
    stages: str
    delay_ns: Mapping[str, float]


def timing(made: Synthesis) -> Timing | None:
    """Paths of a mapped chip; None where OpenSTA is not installed, ToolError where it finds none."""
    if shutil.which("sta") is None:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "cells.lib").write_text(made.library.text)
        (folder / "netlist.v").write_text(verilog(made.netlists.values(), made.library))
        return _timing(folder)


def verilog(netlists: Iterable[Netlist], library: Library) -> str:
    """Structural Verilog of a hierarchy, with a flip-flop in place of each pin of a memory."""
    return "\n".join(_memories_as_flip_flops(made, library).verilog() for made in netlists)


def _memories_as_flip_flops(made: Netlist, library: Library) -> Netlist:
    cell = library.flip_flop
    if cell is None or not any(part.kind == SRAM for part in made.parts):
        return made
    out = next(iter(cell.outputs))
    parts: list[Part] = []
    fresh = 1 + max(net for part in made.parts for net in part.nets.values())
    for part in made.parts:
        if part.kind != SRAM:
            parts.append(part)
            continue
        clock = part.nets["clk"]
        for pin, net in part.nets.items():
            if pin == "clk":
                continue
            into, from_ = (0, net) if pin in part.drives else (net, fresh)
            fresh += 1
            name = f"{_MEMORY}_{pin}"
            parts.append(Part(cell.name, name, {cell.clock: clock, cell.next_state: into, out: from_}, (out,)))
    return Netlist(made.name, made.inputs, made.outputs, tuple(parts))


def _timing(folder: Path) -> Timing:
    told = sta(
        folder,
        f"""read_liberty cells.lib
read_verilog netlist.v
link_design {TOP}
create_clock -name clk -period {_PERIOD_NS} [get_ports clk]
set_false_path -from [get_ports rst]
report_checks -path_delay max -format full -digits 4
puts ENDPOINTS
report_checks -path_delay max -format end -group_count {_ENDPOINTS} -digits 4
exit
""",
    )
    stages, _, ends = told.partition("ENDPOINTS")
    start, end = re.search(r"Startpoint: (\S+)", stages), re.search(r"Endpoint: (\S+)", stages)
    slack = re.search(r"(-?[\d.]+)\s+slack", stages)
    if not start or not end or not slack:
        lines = told.strip().splitlines()
        raise ToolError(f"OpenSTA found no path: {lines[-1] if lines else 'no output'}")
    delays: dict[str, float] = {}
    for name, left in re.findall(r"^(\S+).*?([\d.]+) \(MET\)", ends, re.M):
        place = "/".join(name.split("/")[:-2][:3])
        delays[place] = max(delays.get(place, 0.0), _PERIOD_NS - float(left))
    return Timing(Route(_PERIOD_NS - float(slack[1]), start[1], end[1]), stages.strip(), delays)


def sta(folder: Path, script: str) -> str:
    """What OpenSTA prints for a script in ``folder``."""
    (folder / "script.tcl").write_text(script)
    call = ["sta", "-no_splash", "-exit", "script.tcl"]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
