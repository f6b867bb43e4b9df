"""What synthesis reads of a standard-cell library in the liberty format: areas, pins, capacitances, functions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from presilicon.errors import InputError

OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""Where Debian's qflow-tech-osu018 puts the 0.18 um library of Oklahoma State University."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell: area in um2, capacitance in F by input pin, function by output pin, whether it holds state.

    ``clock`` and ``next_state`` are those of a flip-flop on the rising edge whose next state is a pin, else empty.
    ``internal_j``: energy within the cell of one edge of each pin, of sharp edges (the second of the tables' transition times,
    of a clock the first) and the middle of their loads; 0 where none is told.
    """

    name: str
    area_um2: float
    inputs: Mapping[str, float]
    outputs: Mapping[str, str]
    most_f: float
    state: bool
    clock: str
    next_state: str
    internal_j: Mapping[str, float]


@dataclass(frozen=True)
class Library:
    """The cells of a liberty text."""

    name: str
    text: str
    cells: Mapping[str, Cell]
    volts: float

    @cached_property
    def nand2_um2(self) -> float:
        """Area of the smallest two-input NAND."""
        areas = [cell.area_um2 for name, cell in self.cells.items() if re.search(r"nand2", name, re.I)]
        if not areas:
            raise InputError(
                "the liberty file has no cell whose name holds NAND2", where=self.name, hint="areas are told in these"
            )
        return min(areas)

    @cached_property
    def flip_flop(self) -> Cell | None:
        """The smallest flip-flop of a clock and a datum; None where there is none."""
        plain = [c for c in self.cells.values() if c.clock and c.next_state and len(c.inputs) == 2 and len(c.outputs) == 1]
        return min(plain, key=lambda cell: cell.area_um2, default=None)

    @cached_property
    def buffer(self) -> tuple[str, str, str] | None:
        """The buffer that drives most for its area, its input and its output; None where there is none."""
        found = [
            (cell.most_f / cell.area_um2, (name, next(iter(cell.inputs)), next(iter(cell.outputs))))
            for name, cell in self.cells.items()
            if len(cell.inputs) == 1 and len(cell.outputs) == 1 and not cell.state
            if next(iter(cell.outputs.values())).strip("() ") == next(iter(cell.inputs))
        ]
        return max(found)[1] if found else None


def liberty_file(given: str | None = None) -> Path | None:
    """The standard-cell library: the given one, $PRESILICON_LIBERTY, or OSU 0.18 um; None where there is none."""
    given = given or os.environ.get("PRESILICON_LIBERTY")
    if given is None:
        return OSU018 if OSU018.is_file() else None
    if not Path(given).is_file():
        raise InputError("there is no such liberty file", where=given)
    return Path(given)


def read(path: Path) -> Library:
    """A liberty file; InputError where it cannot be read or holds no cell."""
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"the liberty file cannot be read: {error.strerror}", where=str(path)) from None
    plain = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    unit = re.search(r"capacitive_load_unit\s*\(\s*([\d.]+)\s*,\s*(\w+)\s*\)", plain)
    farad = float(unit[1]) * {"pf": 1e-12, "ff": 1e-15}[unit[2].lower()] if unit else 1e-12
    volts = re.search(r"nom_voltage\s*:\s*([\d.]+)", plain)
    by_load = {name for name, body in _groups(plain, "power_lut_template") if "capacitance" in _value(body, "variable_1")}
    cells = {name: _cell(name, body, farad, by_load) for name, body in _groups(plain, "cell")}
    if not cells:
        raise InputError("the liberty file holds no cells", where=str(path), hint="a .lib text, not a .db or .lef file")
    return Library(path.stem, text, cells, float(volts[1]) if volts else 1.0)


def _cell(name: str, body: str, farad: float, by_load: Set[str]) -> Cell:
    inputs, outputs, most = {}, {}, 0.0
    internal: dict[str, float] = {}
    for pin, text in _groups(body, "pin"):
        # Liberty's unit of internal energy is that of capacitance times V^2.
        clocked = "true" in _value(text, "clock")
        energies = [
            _energy(table, template in by_load, clocked)
            for kind in ("rise_power", "fall_power")
            for template, table in _groups(text, kind)
        ]
        internal[pin] = max(sum(energies) / len(energies), 0.0) * farad if energies else 0.0
        if _value(text, "direction") == "input":
            inputs[pin] = float(_value(text, "capacitance") or 0.0) * farad
        else:
            outputs[pin] = _value(text, "function").strip('"')
            most = max(most, float(_value(text, "max_capacitance") or 0.0) * farad)
    flip_flop = [text for _, text in _groups(body, "ff")]
    clock = _pin(_value(flip_flop[0], "clocked_on"), inputs) if flip_flop else ""
    return Cell(
        name=name,
        area_um2=float(_value(body, "area") or 0.0),
        inputs=inputs,
        outputs=outputs,
        most_f=most,
        state=bool(flip_flop or list(_groups(body, "latch"))),
        clock=clock,
        next_state=_pin(_value(flip_flop[0], "next_state"), inputs) if clock else "",
        internal_j=internal,
    )


def _pin(expression: str, inputs: Mapping[str, float]) -> str:
    """The pin that a function is, empty where it is more than a pin."""
    plain = expression.strip('"() ')
    return plain if plain in inputs else ""


def _energy(table: str, by_load: bool, clocked: bool) -> float:
    """A table's entry for a sharp edge and a middling load; ``by_load``: its rows are loads, its columns transition times."""
    rows = [[float(v) for v in row.replace(",", " ").split()] for row in re.findall(r'"([^"]*)"', table.split("values", 1)[-1])]
    if not rows:
        return 0.0
    sharp = 0 if clocked else 1
    if len(rows) == 1:
        return rows[0][min(sharp, len(rows[0]) - 1)]
    return rows[len(rows) // 2][sharp] if by_load else rows[sharp][len(rows[sharp]) // 2]


def _value(text: str, name: str) -> str:
    found = re.search(rf"\b{name}\s*:\s*([^;\n]+)", text)
    return found[1].strip() if found else ""


def _groups(text: str, kind: str) -> Iterator[tuple[str, str]]:
    """Name and body of each ``kind (name) { body }``."""
    for found in re.finditer(rf"\b{kind}\s*\(\s*\"?([^)\"]*)\"?\s*\)\s*\{{", text):
        depth, at = 1, found.end()
        while depth and at < len(text):
            end = re.compile(r"[{}]").search(text, at)
            if end is None:
                break
            depth += 1 if end[0] == "{" else -1
            at = end.end()
        yield found[1].strip(), text[found.end() : at - 1]
