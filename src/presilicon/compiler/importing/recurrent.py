"""LSTM and GRU layers written out: one product for all steps' inputs, then for each step a product with its hidden state.

Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; Cho and others, 2014; gates in the order of the ONNX operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import FLOAT, Array, FloatGraph, Node, Type

MOST_STEPS = 256
"""Steps that are written out at most."""

_GATES = {"LSTM": 4, "GRU": 3}
_PLAIN: Mapping[str, Any] = {"clip": None, "input_forget": 0, "layout": 0, "activations": None}


def unrolled(graph: FloatGraph) -> FloatGraph:
    """The graph with its recurrent layers written out; what is not of one sequence and plain gates stays as it is."""
    writer = _Writer()
    for node in graph.nodes:
        if node.op not in _GATES or node.domain or not _unroll(writer, graph, node):
            writer.nodes.append(node)
    if not writer.constants:
        return graph
    return replace(graph.rewritten(writer.nodes, writer.constants, writer.types), bounds={**graph.bounds, **writer.bounds})


@dataclass
class _Writer:
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    bounds: dict[str, str | tuple[float, float]] = field(default_factory=dict)
    source: Node = field(default_factory=lambda: Node("", "", (), ()))

    def op(self, op: str, name: str, shape: tuple[int, ...], *inputs: str, **attributes: Any) -> str:
        """A node of the layer, and the value that it makes."""
        self.types[name] = (shape, FLOAT)
        self.nodes.append(Node(f"{self.source.name}/{name}", op, inputs, (name,), attributes, "", self.source.sources))
        return name

    def constant(self, name: str, array: Array) -> str:
        self.constants[name] = np.ascontiguousarray(array, np.float32)
        return name

    def part(self, name: str, value: str, row: int, column: int, width: int) -> str:
        """Some columns of a row of a matrix."""
        return self.op("Slice", name, (1, width), value, starts=(row, column), steps=(1, 1))


@dataclass(frozen=True, slots=True)
class _Layer:
    """One direction of a layer: its name, width, and the parts of its bias."""

    name: str
    width: int
    recurrent: str
    hidden_bias: Array


def _unroll(w: _Writer, graph: FloatGraph, node: Node) -> bool:
    """Writes a layer out; False where it has another form than the plain one."""
    inputs = [*node.inputs, *[""] * (8 - len(node.inputs))]
    x, weights, recurrent, bias = inputs[0], *(graph.constants.get(name) for name in inputs[1:4])
    if weights is None or recurrent is None or (inputs[3] and bias is None) or inputs[4] or inputs[7]:
        return False
    if any(node.attributes.get(name, plain) != plain for name, plain in _PLAIN.items() if name != "activations"):
        return False
    steps, batch, features = graph.shape(x)
    directions, gates, width = recurrent.shape[0], _GATES[node.op], recurrent.shape[2]
    if batch != 1 or steps > MOST_STEPS or not _plain_activations(node, directions):
        return False
    w.source = node
    base = next(name for name in node.outputs if name)
    rows = w.op("Reshape", f"{base}.rows", (steps, features), x)
    w.bounds[rows] = x
    reverse = node.attributes.get("direction", b"forward")
    hidden: list[list[str]] = []
    last: list[tuple[str, str]] = []
    for number in range(directions):
        own = f"{base}.{number}"
        both = np.zeros((2, gates * width), np.float32) if bias is None else bias[number].reshape(2, -1)
        # A GRU's candidate adds its hidden bias after the reset gate: it stays with the recurrent product.
        given = both[0] + both[1] if node.op == "LSTM" else both[0]
        wide = w.op("Linear", f"{own}.inputs", (steps, gates * width), rows, w.constant(f"{own}.w", weights[number]),
                    w.constant(f"{own}.b", given), transposed=True)  # fmt: skip
        layer = _Layer(own, width, w.constant(f"{own}.r", recurrent[number]), both[1])
        first = [_initial(w, graph, name, number, width) for name in inputs[5:7]]
        order = range(steps)[::-1] if number == 1 or reverse in (b"reverse", "reverse") else range(steps)
        made = (_lstm if node.op == "LSTM" else _gru)(w, layer, wide, order, first, node)
        hidden.append([h for _, (h, _) in sorted(zip(order, made, strict=True))])
        last.append(made[-1])
    _outputs(w, graph, node, hidden, last, width)
    return True


def _plain_activations(node: Node, directions: int) -> bool:
    given = [a.decode() if isinstance(a, bytes) else a for a in node.attributes.get("activations", [])]
    plain = ["Sigmoid", "Tanh", "Tanh"] if node.op == "LSTM" else ["Sigmoid", "Tanh"]
    before = node.attributes.get("linear_before_reset", 0) if node.op == "GRU" else 1
    return given in ([], plain * directions) and bool(before)


def _initial(w: _Writer, graph: FloatGraph, name: str, number: int, width: int) -> str:
    """The state that a direction begins with; empty where it is zeros."""
    if not name or graph.number(name) == 0.0:
        return ""
    flat = w.op("Reshape", f"{name}.flat.{len(w.nodes)}", (graph.shape(name)[0], width), name)
    part = w.part(f"{flat}.{number}", flat, number, 0, width)
    w.bounds[part] = name
    return part


def _bounded(w: _Writer, name: str, node: Node) -> str:
    """Hidden states reach as far as the layer's output that holds them all, and never beyond 1."""
    w.bounds[name] = node.outputs[0] if node.outputs[0] else (-1.0, 1.0)
    return name


def _lstm(w: _Writer, layer: _Layer, wide: str, order: range, first: list[str], node: Node) -> list[tuple[str, str]]:
    """Hidden and cell state of each step: gates input, output, forget, cell."""
    n, (h, c) = layer.width, first
    made: list[tuple[str, str]] = []
    for t in order:
        at = f"{layer.name}.{t}"
        gates = w.part(f"{at}.gates", wide, t, 0, 4 * n)
        if h:
            more = w.op("Linear", f"{at}.recurrent", (1, 4 * n), h, layer.recurrent, transposed=True)
            gates = w.op("Add", f"{at}.sums", (1, 4 * n), more, gates)
        functions = ("Sigmoid", "Sigmoid", "Sigmoid", "Tanh")
        i, o, f, g = (
            w.op(function, f"{at}.{letter}", (1, n), w.part(f"{at}.{letter}.sums", gates, 0, place * n, n))
            for place, (letter, function) in enumerate(zip("iofg", functions, strict=True))
        )
        new = w.op("Mul", f"{at}.new", (1, n), i, g)
        c = w.op("Add", f"{at}.c", (1, n), w.op("Mul", f"{at}.kept", (1, n), f, c), new) if c else new
        h = _bounded(w, w.op("Mul", f"{at}.h", (1, n), o, w.op("Tanh", f"{at}.tanh", (1, n), c)), node)
        made.append((h, c))
    return made


def _gru(w: _Writer, layer: _Layer, wide: str, order: range, first: list[str], node: Node) -> list[tuple[str, str]]:
    """Hidden state of each step: gates update, reset, candidate; the reset gate after the recurrent product."""
    n, h = layer.width, first[0]
    bias = w.constant(f"{layer.name}.hb", layer.hidden_bias)
    one = w.constant(f"{layer.name}.one", np.ones(1, np.float32))
    made: list[tuple[str, str]] = []
    for t in order:
        at = f"{layer.name}.{t}"
        if not h:
            h = _bounded(w, w.op("Mul", f"{at}.zero", (1, n), w.part(f"{at}.any", wide, t, 0, n),
                                 w.constant(f"{layer.name}.none", np.zeros(1, np.float32))), node)  # fmt: skip
        more = w.op("Linear", f"{at}.recurrent", (1, 3 * n), h, layer.recurrent, bias, transposed=True)
        z, r = (
            w.op("Sigmoid", f"{at}.{letter}", (1, n),
                 w.op("Add", f"{at}.{letter}.sums", (1, n), w.part(f"{at}.{letter}.x", wide, t, place * n, n),
                      w.part(f"{at}.{letter}.h", more, 0, place * n, n)))
            for place, letter in enumerate("zr")
        )  # fmt: skip
        reset = w.op("Mul", f"{at}.reset", (1, n), r, w.part(f"{at}.g.h", more, 0, 2 * n, n))
        candidate = w.op(
            "Tanh", f"{at}.g", (1, n), w.op("Add", f"{at}.g.sums", (1, n), w.part(f"{at}.g.x", wide, t, 2 * n, n), reset)
        )
        fresh = w.op("Mul", f"{at}.fresh", (1, n), w.op("Sub", f"{at}.rest", (1, n), one, z), candidate)
        h = _bounded(w, w.op("Add", f"{at}.h", (1, n), w.op("Mul", f"{at}.kept", (1, n), z, h), fresh), node)
        made.append((h, h))
    return made


def _outputs(
    w: _Writer, graph: FloatGraph, node: Node, hidden: list[list[str]], last: list[tuple[str, str]], width: int
) -> None:
    """The layer's outputs: all hidden states, the last one, the last cell state."""
    every, directions = len(hidden[0]), len(hidden)
    names = [*node.outputs, *[""] * (3 - len(node.outputs))]
    joined = [states[t] for t in range(every) for states in hidden]
    groups = (joined, [h for h, _ in last], [c for _, c in last])
    for name, parts in zip(names, groups, strict=True):
        if name:
            whole = parts[0] if len(parts) == 1 else w.op("Concat", f"{name}.all", (len(parts), width), *parts, axis=0)
            w.op("Reshape", name, graph.shape(name), whole)
    assert len(joined) == every * directions
