"""A graph cut into parts for the chip and parts for the host, where nodes are refused.

Stages alternate: even ones on the chip, odd ones on the host. A node is in the earliest stage of its kind in which all that it
reads is there, so that as few values as that order allows go to and fro.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from presilicon.compiler.compiled import HostPart
from presilicon.compiler.importing.graph import FloatGraph, Node, between
from presilicon.compiler.lowering.builder import VIEWS
from presilicon.errors import ModelError


def cut(raw: FloatGraph, graph: FloatGraph, refused: Set[str], roles: Mapping[str, str]) -> tuple[FloatGraph | HostPart, ...]:
    """The parts of a graph in order: its own operators for the chip, the file's nodes (of ``raw``) for the host.

    ``refused`` are the names of nodes that the chip cannot do; inputs in ``roles`` are runtime arguments. ModelError where a
    value that would have to cross is none of the file's.
    """
    known = {node.name for node in graph.nodes if _by_arguments(graph, node, roles)}
    stage = _stages(graph, refused, known)
    groups: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if node.name in stage:
            groups.setdefault(stage[node.name], []).append(node)
    made = {name: number for number, nodes in groups.items() for node in nodes for name in node.outputs}
    hosts = {number: _host(raw, graph, nodes, made, number) for number, nodes in groups.items() if number % 2}
    read = {name for part in hosts.values() for name in part.inputs}
    for number, nodes in groups.items():
        read |= {name for node in nodes for name in node.inputs if made.get(name, number) != number}
    shared = [node for node in graph.nodes if node.name in known]
    parts: list[FloatGraph | HostPart] = []
    for number in sorted(groups):
        part: FloatGraph | HostPart = hosts[number] if number % 2 else _chip(graph, groups[number], shared, read, number, roles)
        parts.append(part)
    return tuple(parts)


def _by_arguments(graph: FloatGraph, node: Node, roles: Mapping[str, str]) -> bool:
    """Whether a node depends on runtime arguments alone: a mask, or a table by position."""
    inputs = graph.depends(node.outputs[0])
    return bool(inputs) and all(name in roles for name in inputs)


def _stages(graph: FloatGraph, refused: Set[str], known: Set[str]) -> dict[str, int]:
    """The stage of each node but those that masks and tables are made by."""
    at: dict[str, int] = {}
    stage: dict[str, int] = {}
    for node in graph.nodes:
        if node.name in known:
            continue
        ready = max((at.get(name, 0) for name in node.inputs), default=0)
        readers = [reader for output in node.outputs for reader in graph.readers.get(output, ())]
        # What costs nothing anywhere stays on the host between nodes of the host.
        free = node.op in VIEWS or node.op == "Cast"
        beside = free and ready % 2 == 1 and bool(readers) and all(reader.name in refused for reader in readers)
        host = node.name in refused or beside
        number = ready + (ready % 2 != host)
        stage[node.name] = number
        at |= dict.fromkeys(node.outputs, number)
    return stage


def _chip(
    graph: FloatGraph, nodes: list[Node], shared: list[Node], read: Set[str], number: int, roles: Mapping[str, str]
) -> FloatGraph:
    """The nodes of a stage as a graph of their own, with the masks and tables they read."""
    own = {name for node in nodes for name in node.outputs}
    outputs = [(value, value) for value in dict.fromkeys(n for node in nodes for n in node.outputs) if value in read]
    outputs += [(name, value) for name, value in graph.outputs if value in own and (value, value) not in outputs]
    made = own | {name for node in shared for name in node.outputs}
    needed = dict.fromkeys(name for node in (*shared, *nodes) for name in node.inputs)
    asked = {str(node.attributes.get(argument, "")) for node in nodes for argument in ("length", "position")} & roles.keys()
    inputs = [name for name in graph.inputs if name in needed or name in asked]
    inputs += [name for name in needed if name and name not in made and name not in graph.constants and name not in inputs]
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    ordered = sorted((*shared, *nodes), key=lambda node: order[node.name])
    part = replace(graph, name=f"{graph.name}.{number}", inputs=tuple(inputs), outputs=tuple(outputs))
    part = part.rewritten(ordered)
    used = {name for node in part.nodes for name in node.inputs} | asked
    return replace(part, inputs=tuple(name for name in part.inputs if name in used))


def _host(raw: FloatGraph, graph: FloatGraph, nodes: list[Node], made: Mapping[str, int], number: int) -> HostPart:
    """The file's nodes that a stage on the host stands for, as an ONNX model."""
    own = [name for node in nodes for name in node.outputs]
    returned = {value for _, value in graph.outputs}
    wanted = [n for n in own if n in returned or any(made.get(r.outputs[0]) != number for r in graph.readers.get(n, ()))]
    there = {name for name, stage in made.items() if stage < number} | set(raw.inputs)
    missing = [name for name in wanted if name not in raw.types]
    if missing:
        raise ModelError(f"{missing[0]} is none of the file's values and cannot come from the host", where=graph.name)
    inside = between(raw, there & set(raw.types), wanted)
    inputs = list(dict.fromkeys(name for node in inside for name in node.inputs if name in there))
    model = raw.model(inputs, wanted)
    for name, value in graph.outputs:  # an output may have another name than the value that it is
        if value in wanted and name != value:
            _renamed(model, value, name, raw)
            wanted[wanted.index(value)] = name
    return HostPart(
        name=f"{graph.name}.{number}",
        model=model.SerializeToString(),
        inputs=tuple(inputs),
        outputs=tuple(wanted),
        nodes=tuple(node.name for node in inside),
    )


def _renamed(model: object, value: str, name: str, raw: FloatGraph) -> None:
    """One output of a model under another name."""
    from onnx import helper

    graph = model.graph  # type: ignore[attr-defined]
    graph.node.append(helper.make_node("Identity", [value], [name]))
    place = [o.name for o in graph.output].index(value)
    shape, kind = raw.types[value]
    graph.output[place].CopyFrom(helper.make_tensor_value_info(name, kind, shape))
