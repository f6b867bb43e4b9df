"""A mapped module: cells and the nets between them, with buffers where a net has many loads; written as Verilog.

Nets are whole numbers, 0 and 1 the constants. A port of several bits is several ports, ``name[bit]``.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from presilicon.rtl.liberty import Library

SRAM = "presilicon_sram"
MOST_LOADS = 8
"""Loads after which a net gets buffers, in a tree of this many branches."""


@dataclass(frozen=True, slots=True)
class Part:
    """A cell or an instance of a module: its type, its name, its net by pin, and the pins that drive theirs."""

    kind: str
    name: str
    nets: Mapping[str, int]
    drives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Netlist:
    """A module: nets by input and by output port, and its parts."""

    name: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    parts: tuple[Part, ...]

    def counts(self) -> Counter[str]:
        """Parts by kind."""
        return Counter(part.kind for part in self.parts)

    def as_json(self) -> list[object]:
        """What ``of_json`` reads."""
        return [self.name, self.inputs, self.outputs, [[part.kind, part.name, part.nets, part.drives] for part in self.parts]]

    @classmethod
    def of_json(cls, made: list[Any]) -> Netlist:
        name, inputs, outputs, parts = made
        return cls(name, inputs, outputs, tuple(Part(kind, own, nets, tuple(drives)) for kind, own, nets, drives in parts))

    def verilog(self) -> str:
        """Structural Verilog of this module."""
        by_net: dict[int, list[str]] = defaultdict(list)
        for port, net in self.outputs.items():
            by_net[net].append(port)
        names = {net: _escaped(port) for port, net in self.inputs.items()}
        names |= {net: _escaped(ports[0]) for net, ports in by_net.items() if net not in names and net > 1}
        names |= {0: "1'b0", 1: "1'b1"}
        ports = ", ".join(_escaped(port) for port in (*self.inputs, *self.outputs))
        lines = [f"module {self.name} ({ports});"]
        lines += [f"  input {_escaped(port)};" for port in self.inputs]
        lines += [f"  output {_escaped(port)};" for port in self.outputs]
        lines += [f"  wire _n{net}_;" for net in sorted(self._nets() - names.keys())]
        for part in self.parts:
            pins = ", ".join(f".{_escaped(pin)}({names.get(net, f'_n{net}_')})" for pin, net in part.nets.items())
            lines.append(f"  {part.kind} {_escaped(part.name)} ({pins});")
        for net, outputs in by_net.items():
            lines += [f"  assign {_escaped(o)} = {names[net]};" for o in outputs if _escaped(o) != names[net]]
        return "\n".join([*lines, "endmodule", ""])

    def _nets(self) -> set[int]:
        return {net for part in self.parts for net in part.nets.values()}


def _escaped(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else f"\\{name} "


def of_yosys(name: str, module: Mapping[str, Any], library: Library) -> Netlist:
    """A module of Yosys' JSON (``write_json`` after mapping)."""
    inputs: dict[str, int] = {}
    outputs: dict[str, int] = {}
    for port, told in module["ports"].items():
        into = inputs if told["direction"] == "input" else outputs
        into |= _bits(port, told["bits"])
    names: dict[int, str] = {}
    for net, told in module["netnames"].items():
        if not told["hide_name"]:
            for bit_name, bit in _bits(net, told["bits"]).items():
                names.setdefault(bit, bit_name)
    parts, taken = [], set()
    for number, (own, cell) in enumerate(module["cells"].items()):
        kind = SRAM if SRAM in cell["type"] and cell["type"] not in library.cells else cell["type"].lstrip("\\")
        known = library.cells.get(kind)
        nets: dict[str, int] = {}
        drives: tuple[str, ...] = ()
        for pin, bits in cell["connections"].items():
            of_pin = _bits(pin, bits)
            nets |= of_pin
            if cell["port_directions"].get(pin) == "output":
                drives += tuple(of_pin)
        label = f"u{number}"
        if known is not None and known.state:
            label = next((names[nets[pin]] for pin in known.outputs if nets.get(pin, 0) in names), label)
        elif known is None:
            label = label if own.startswith("$") else own
        label = label if label not in taken else f"{label}~{number}"
        taken.add(label)
        parts.append(Part(kind, label, nets, drives))
    return Netlist(name, inputs, outputs, tuple(parts))


def _bits(name: str, bits: list[int | str]) -> dict[str, int]:
    """Net by bit; an undefined bit is 0."""
    if len(bits) == 1:
        return {name: _net(bits[0])}
    return {f"{name}[{at}]": _net(bit) for at, bit in enumerate(bits)}


def _net(bit: int | str) -> int:
    return bit if isinstance(bit, int) else int(bit == "1")


def buffered(made: Netlist, library: Library) -> Netlist:
    """No net of more than ``MOST_LOADS`` loads, and one load at most at an input port: what is outside sees no more.

    The clock stays whole: a tree of its own drives it.
    """
    if library.buffer is None:
        return made
    kind, into, out = library.buffer
    loads: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for number, part in enumerate(made.parts):
        for pin, net in part.nets.items():
            if net > 1 and pin not in part.drives:
                loads[net].append((number, pin))
    ports = set(made.inputs.values())
    whole = {net for port, net in made.inputs.items() if port == "clk"}
    # A driven net without loads is one, too.
    fresh = 1 + max([0, *ports, *made.outputs.values(), *(net for part in made.parts for net in part.nets.values())])
    moved: dict[tuple[int, str], int] = {}
    added: list[Part] = []
    for net, sinks in loads.items():
        if net in whole or len(sinks) <= (1 if net in ports else MOST_LOADS):
            continue
        groups = [sinks[at : at + MOST_LOADS] for at in range(0, len(sinks), MOST_LOADS)]
        below: list[int] = []
        for group in groups:
            moved |= dict.fromkeys(group, fresh)
            below.append(fresh)
            fresh += 1
        while below:
            # Buffers that drive `below`; their inputs are the next level's outputs, or the net itself.
            last = len(below) == 1 if net in ports else len(below) <= MOST_LOADS
            above = []
            for at in range(0, len(below), MOST_LOADS):
                source = net if last else fresh
                if not last:
                    above.append(fresh)
                    fresh += 1
                added += [Part(kind, f"buffer{n}", {into: source, out: n}, (out,)) for n in below[at : at + MOST_LOADS]]
            below = above
    parts = [
        Part(part.kind, part.name, {pin: moved.get((number, pin), net) for pin, net in part.nets.items()}, part.drives)
        for number, part in enumerate(made.parts)
    ]
    return Netlist(made.name, made.inputs, made.outputs, (*parts, *added))


def areas(tree: Mapping[str, Netlist], library: Library) -> dict[str, float]:
    """Area in um2 of every module of a hierarchy, without what it places of others."""
    return {
        name: sum(library.cells[kind].area_um2 * n for kind, n in made.counts().items() if kind in library.cells)
        for name, made in tree.items()
    }


def placed(tree: Mapping[str, Netlist], top: str) -> Iterable[tuple[tuple[str, ...], Netlist]]:
    """Every instance below ``top``: the kinds on its path, itself last, and its netlist."""
    waiting: list[tuple[str, ...]] = [(top,)]
    while waiting:
        path = waiting.pop()
        made = tree[path[-1]]
        yield path, made
        waiting += [(*path, part.kind) for part in made.parts if part.kind in tree]
