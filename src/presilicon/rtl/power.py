"""Energy of a mapped block from its switching: a zero-delay simulation of its gates, 64 streams of data at once.

Every edge of a net costs half of C V^2 (C: the pins it drives; no wires) and what the library tells of the driving cell's own
energy; a clock pin costs C V^2 a cycle. Glitches, wires, leakage and the memories are not in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError
from presilicon.rtl.liberty import Library
from presilicon.rtl.netlist import SRAM, Netlist

STREAMS = 64
Words = NDArray[np.uint64]
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True)
class _Gates:
    """Outputs of one function that may be computed together: nets of its inputs in its order, and of the outputs."""

    function: Any
    inputs: tuple[NDArray[np.int64], ...]
    output: NDArray[np.int64]


class Gates:
    """The gates of a module and all below it, ready to run; memories give new random data where they are read.

    ``step`` runs a cycle: ports as Python ints (the same in all streams) or as ``STREAMS`` random values (a list of a word a
    bit). ``energy_j``, of all streams' mean, adds up over cycles from ``reset_energy`` on.
    """

    def __init__(self, tree: Mapping[str, Netlist], top: str, library: Library, seed: int = 0) -> None:
        self._library = library
        self._random = np.random.default_rng(seed)
        self.inputs: dict[str, list[int]] = {}
        self._cells: list[tuple[str, dict[str, int]]] = []
        self._memories: list[tuple[int, list[int]]] = []
        self._count = 2
        made = tree[top]
        nets: dict[int, int] = {0: 0, 1: 1}
        for port, net in made.inputs.items():
            nets[net] = self._new()
            self.inputs.setdefault(re.sub(r"\[\d+\]$", "", port), []).append(nets[net])
        self._alias: dict[int, int] = {}
        self._flatten(tree, made, nets)
        self._outputs: dict[str, list[int]] = {}
        for port, net in made.outputs.items():
            self._outputs.setdefault(re.sub(r"\[\d+\]$", "", port), []).append(self._real(nets[net]))
        self._compile()
        self.reset_energy()

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    def _flatten(self, tree: Mapping[str, Netlist], made: Netlist, nets: dict[int, int]) -> None:
        """Nets of ``made`` that its surroundings know stand in ``nets``; all others are new."""

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
                self._flatten(tree, below, inner)
            elif part.kind == SRAM:
                self._memories.append((of(part.nets["read_en"]), [of(n) for p, n in part.nets.items() if p in part.drives]))
            else:
                self._cells.append((part.kind, {pin: of(net) for pin, net in part.nets.items()}))

    def _real(self, net: int) -> int:
        while net in self._alias:
            net = self._alias[net]
        return net

    def _compile(self) -> None:
        library = self._library
        cost = np.zeros(self._count)
        self._clock_j = 0.0
        states: list[tuple[int, int]] = []
        wanted: dict[int, tuple[str, list[int]]] = {}
        half = 0.5 * library.volts**2
        for kind, pins in self._cells:
            cell = library.cells[kind]
            pins = {pin: self._real(net) for pin, net in pins.items()}
            for pin, farad in cell.inputs.items():
                if pin == cell.clock:
                    self._clock_j += 2.0 * half * farad
                elif pin in pins:
                    cost[pins[pin]] += half * farad
            for pin, function in cell.outputs.items():
                if pin not in pins:
                    continue
                cost[pins[pin]] += cell.internal_j
                if cell.state:
                    if not cell.next_state:
                        raise InputError(
                            f"cell {kind} is no plain flip-flop", hint="power needs flip-flops of a clock and a datum"
                        )
                    states.append((pins[cell.next_state], pins[pin]))
                else:
                    wanted[pins[pin]] = (function, [pins[name] for name in _names(function)])
        self._cost = cost
        self._next = np.array([d for d, _ in states], dtype=np.int64)
        self._state = np.array([q for _, q in states], dtype=np.int64)
        self._memory = [(self._real(en), np.array([self._real(n) for n in nets])) for en, nets in self._memories]
        self._order(wanted)
        self._now = np.zeros(self._count, dtype=np.uint64)
        self._now[1] = _ALL
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
        self._gates = []
        for (_, function), outputs in sorted(groups.items(), key=lambda item: item[0][0]):
            columns = np.array([wanted[net][1] for net in outputs], dtype=np.int64).reshape(len(outputs), -1).T
            self._gates.append(_Gates(_compiled(function), tuple(columns), np.array(outputs, dtype=np.int64)))

    def output(self, port: str) -> Words:
        """The words of an output's bits after the last step."""
        made: Words = self._now[self._outputs[port]]
        return made

    def random(self, bits: int) -> list[int]:
        """A random word of this many bits in every stream."""
        return [int(word) for word in self._random.integers(0, 1 << 64, bits, dtype=np.uint64, endpoint=False)]

    def reset_energy(self) -> None:
        """Energy is counted from here."""
        self.energy_j, self.cycles = 0.0, 0

    def step(self, ports: Mapping[str, int | list[int]]) -> None:
        """One cycle with these values at the ports; a port that is not named keeps its value."""
        before, now = self._now, self._now.copy()
        now[self._state] = before[self._next]
        for enable, nets in self._memory:
            fresh = self._random.integers(0, 1 << 64, len(nets), dtype=np.uint64, endpoint=False)
            now[nets] = (now[nets] & ~before[enable]) | (fresh & before[enable])
        for port, given in ports.items():
            bits = self.inputs[port]
            if isinstance(given, int):
                now[bits] = np.array([_ALL if given >> bit & 1 else 0 for bit in range(len(bits))], dtype=np.uint64)
            else:
                now[bits] = np.array(given, dtype=np.uint64)
        for gates in self._gates:
            now[gates.output] = gates.function(*(now[nets] for nets in gates.inputs))
        edges = np.bitwise_count(now ^ before)
        self.energy_j += float(edges @ self._cost) / STREAMS + self._clock_j
        self.cycles += 1
        self._now = now


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
