"""Energy of mapped gates from their switching: a zero-delay simulation of a netlist, its memories included.

Every edge of a net costs half of C V^2 (C: the pins it drives; no wires) and what the library tells of the energy within the
cells at both ends; a clock pin has two edges a cycle. Glitches, wires, leakage and the memories' own energy are not in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError
from presilicon.rtl.liberty import Library
from presilicon.rtl.netlist import SRAM, Netlist

Path = tuple[str, ...]
Bits = NDArray[np.bool_]
_INDEX = re.compile(r"\[(\d+)\]$")


@dataclass(frozen=True, slots=True)
class _Group:
    """Outputs of one function that may be computed together: nets of its inputs in its order, and of the outputs."""

    function: Any
    inputs: tuple[NDArray[np.int64], ...]
    output: NDArray[np.int64]


class _Memory:
    """A memory of ``presilicon_sram``: nets of its ports, and its words."""

    def __init__(self, pins: Mapping[str, list[int]]) -> None:
        self.pins = {name: np.array(nets, dtype=np.int64) for name, nets in pins.items()}
        self.words = np.zeros((1 << len(pins["read_address"]), len(pins["read_data"])), np.bool_)
        self.granule = len(pins["read_data"]) // len(pins["write_en"])
        self.reads = self.writes = 0

    def step(self, before: Bits, now: Bits) -> None:
        """A clock edge: what the ports showed ``before`` it happens."""
        pins = self.pins
        if before[pins["read_en"][0]]:
            now[pins["read_data"]] = self.words[_number(before[pins["read_address"]])]
            self.reads += len(pins["read_data"])
        enables = before[pins["write_en"]]
        if enables.any():
            mask = np.repeat(enables, self.granule)
            word = self.words[_number(before[pins["write_address"]])]
            word[mask] = before[pins["write_data"]][mask]
            self.writes += int(mask.sum())


def _number(bits: Bits) -> int:
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


class Gates:
    """The gates of a module and all below it, ready to run; memories begin as zeros.

    ``step`` runs a cycle with ports as whole numbers; ``output`` tells one. ``energy`` is what switched since ``reset_energy``,
    by block as ``block_of`` names it for the modules on an instance's path.
    """

    def __init__(
        self, tree: Mapping[str, Netlist], top: str, library: Library, block_of: Callable[[Path], str] = lambda _: "all"
    ) -> None:
        self._library, self._block_of = library, block_of
        self._cells: list[tuple[str, dict[str, int], int]] = []
        self._memories: list[tuple[str, _Memory]] = []
        self.blocks: list[str] = []
        self._alias: dict[int, int] = {}
        self._count = 2
        made = tree[top]
        nets: dict[int, int] = {0: 0, 1: 1}
        for net in made.inputs.values():
            nets[net] = self._new()
        self._flatten(tree, made, nets, (top,))
        self._inputs = _grouped({port: nets[net] for port, net in made.inputs.items()})
        self._outputs = _grouped({port: self._real(nets[net]) for port, net in made.outputs.items()})
        self._compile()
        self.reset_energy()

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def _block(self, path: Path) -> int:
        name = self._block_of(path)
        if name not in self.blocks:
            self.blocks.append(name)
        return self.blocks.index(name)

    def _flatten(self, tree: Mapping[str, Netlist], made: Netlist, nets: dict[int, int], path: Path) -> None:
        """Nets of ``made`` that its surroundings know stand in ``nets``; all others are new."""
        block = self._block(path)

        def of(net: int) -> int:
            if net not in nets:
                nets[net] = self._new()
            return nets[net]

        for part in made.parts:
            if part.kind in tree:
                below = tree[part.kind]
                inner: dict[int, int] = {0: 0, 1: 1}
                for port, net in below.inputs.items():
                    inner[net] = of(part.nets[port]) if port in part.nets else 0
                for port, net in below.outputs.items():
                    if port not in part.nets:
                        continue
                    outside = of(part.nets[port])
                    if net in inner:  # an input or constant passed through, or one net at two ports
                        self._alias[outside] = inner[net]
                    else:
                        inner[net] = outside
                self._flatten(tree, below, inner, (*path, part.kind))
            elif part.kind == SRAM:
                self._memories.append((self.blocks[block], _Memory(_grouped({pin: of(net) for pin, net in part.nets.items()}))))
            else:
                self._cells.append((part.kind, {pin: of(net) for pin, net in part.nets.items()}, block))

    def _real(self, net: int) -> int:
        while net in self._alias:
            net = self._alias[net]
        return net

    def _compile(self) -> None:
        library = self._library
        cost = np.zeros(self._count)
        owner = np.zeros(self._count, dtype=np.int64)
        clock = np.zeros(len(self.blocks))
        states: list[tuple[int, int]] = []
        wanted: dict[int, tuple[str, list[int]]] = {}
        half = 0.5 * library.volts**2
        for kind, named, block in self._cells:
            cell = library.cells[kind]
            pins = {pin: self._real(net) for pin, net in named.items()}
            for pin, farad in cell.inputs.items():
                edge_j = half * farad + cell.internal_j[pin]
                if pin == cell.clock:
                    clock[block] += 2.0 * edge_j
                elif pin in pins:
                    cost[pins[pin]] += edge_j
            for pin, function in cell.outputs.items():
                if pin not in pins:
                    continue
                cost[pins[pin]] += cell.internal_j[pin]
                owner[pins[pin]] = block
                if cell.state:
                    if not cell.next_state:
                        raise InputError(
                            f"cell {kind} is no plain flip-flop", hint="power needs flip-flops of a clock and a datum"
                        )
                    states.append((pins[cell.next_state], pins[pin]))
                else:
                    wanted[pins[pin]] = (function, [pins[name] for name in _names(function)])
        self._cost, self._owner, self._clock_j = cost, owner, clock
        self._next = np.array([d for d, _ in states], dtype=np.int64)
        self._state = np.array([q for _, q in states], dtype=np.int64)
        for _, memory in self._memories:
            memory.pins = {pin: np.array([self._real(net) for net in nets]) for pin, nets in memory.pins.items()}
        self._order(wanted)
        self._now: Bits = np.zeros(self._count, dtype=np.bool_)
        self._now[1] = True
        self.flip_flops, self.cells = len(states), len(self._cells)

    def _order(self, wanted: Mapping[int, tuple[str, list[int]]]) -> None:
        """Sorts gates by level: each needs only outputs of lower levels."""
        level: dict[int, int] = {}
        for root in wanted:
            waiting = [root]
            while waiting:
                net = waiting[-1]
                below = [n for n in wanted[net][1] if n in wanted]
                missing = [n for n in below if n not in level]
                if missing and net not in level:
                    waiting += missing
                    continue
                waiting.pop()
                level[net] = 1 + max((level[n] for n in below), default=0)
        groups: dict[tuple[int, str], list[int]] = defaultdict(list)
        for net, (function, _) in wanted.items():
            groups[level[net], function].append(net)
        self._groups = []
        for (_, function), outputs in sorted(groups.items(), key=lambda item: item[0][0]):
            columns = np.array([wanted[net][1] for net in outputs], dtype=np.int64).reshape(len(outputs), -1).T
            self._groups.append(_Group(_compiled(function), tuple(columns), np.array(outputs, dtype=np.int64)))

    @property
    def ports(self) -> tuple[str, ...]:
        """Input ports by name."""
        return tuple(self._inputs)

    def output(self, port: str) -> int:
        """An output after the last step, as an unsigned number."""
        return _number(self._now[self._outputs[port]])

    def reset_energy(self) -> None:
        """Energy is counted from here."""
        self.cycles = 0
        self.toggles: NDArray[np.int32] = np.zeros(self._count, dtype=np.int32)
        for _, memory in self._memories:
            memory.reads = memory.writes = 0

    def energy(self) -> dict[str, tuple[float, float]]:
        """Energy in J of each block since ``reset_energy``: of the clock's pins, and of all other edges."""
        switched = np.bincount(self._owner, weights=self.toggles * self._cost, minlength=len(self.blocks))
        return {
            name: (float(clock) * self.cycles, float(edges))
            for name, clock, edges in zip(self.blocks, self._clock_j, switched, strict=True)
        }

    @property
    def energy_j(self) -> float:
        """Energy of all blocks since ``reset_energy``."""
        return sum(clock + edges for clock, edges in self.energy().values())

    def memory_bytes(self) -> dict[str, tuple[float, float]]:
        """Bytes that the memories of each block have read and written since ``reset_energy``."""
        found: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
        for block, memory in self._memories:
            reads, writes = found[block]
            found[block] = (reads + memory.reads / 8, writes + memory.writes / 8)
        return dict(found)

    def step(self, ports: Mapping[str, int]) -> None:
        """One cycle with these values at the ports; a port that is not named keeps its value."""
        before, now = self._now, self._now.copy()
        now[self._state] = before[self._next]
        for _, memory in self._memories:
            memory.step(before, now)
        for port, given in ports.items():
            nets = self._inputs[port]
            raw = np.frombuffer(given.to_bytes(-(-len(nets) // 8), "little"), np.uint8)
            now[nets] = np.unpackbits(raw, bitorder="little", count=len(nets))
        for group in self._groups:
            now[group.output] = group.function(*(now[nets] for nets in group.inputs))
        self.toggles += now ^ before
        self.cycles += 1
        self._now = now


def _grouped(bits: Mapping[str, int]) -> dict[str, list[int]]:
    """Nets of whole ports, lowest bit first, from those of ports of a bit."""
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for port, net in bits.items():
        index = _INDEX.search(port)
        found[_INDEX.sub("", port)].append((int(index[1]) if index else 0, net))
    return {port: [net for _, net in sorted(nets)] for port, nets in found.items()}


def _names(function: str) -> list[str]:
    """Pins of a liberty function, each once, in its order."""
    return list(dict.fromkeys(re.findall(r"[A-Za-z_]\w*", function)))


def _compiled(function: str) -> Any:
    """A liberty function as one of words: ``!`` and ``'`` are not, ``*``, ``&`` and nothing and, ``+`` and ``|`` or."""
    if re.search(r"[^\w\s()!*&+|^']", function) or ")'" in function.replace(" ", ""):
        raise InputError(f"the function {function!r} is not understood", hint="names, brackets and ! ' * & + | ^")
    text = re.sub(r"([A-Za-z_]\w*)\s*'", r"(~\1)", function.strip())
    text = re.sub(r"(?<=[\w)])\s+(?=[\w(!])", "&", text)
    text = text.replace("!", "~").replace("*", "&").replace("+", "|").replace(" ", "")
    made = eval(f"lambda {', '.join(_names(function))}: {text}", {"__builtins__": {}})  # names and operators alone, see above
    return made
