"""A model's file as steps of the chip: imported, calibrated, lowered; and what became of each of its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from presilicon.compiler.calibrate import Data, Method, Ranges, calibrated, random_samples
from presilicon.compiler.compiled import HostPart
from presilicon.compiler.importing import Imported, Source
from presilicon.compiler.importing.convolutions import fine as finer
from presilicon.compiler.importing.graph import BOOL, FLOAT, INT32, INT64, Array, FloatGraph
from presilicon.compiler.importing.normal import OTHER_FORM
from presilicon.compiler.lowering.builder import Builder, RefusedError
from presilicon.compiler.lowering.functions import curve
from presilicon.compiler.lowering.parts import cut
from presilicon.compiler.lowering.products import merged
from presilicon.compiler.lowering.report import NodeSupport, Status, SupportReport
from presilicon.compiler.lowering.rules import RULES
from presilicon.compiler.lowering.views import View
from presilicon.compiler.ports import Port
from presilicon.compiler.steps import Lowered, Tensor, arguments_of, reads
from presilicon.errors import CheckError, ModelError

WeightFormat = Literal["int8", "int4"]
_DTYPES = {FLOAT: "float32", INT32: "int32", INT64: "int64", BOOL: "bool"}


@dataclass(frozen=True, slots=True)
class LoweredPart:
    """Steps of the chip, with the values of the file that go in and come out."""

    lowered: Lowered
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class LoweredModel:
    """A model as steps, its inputs and outputs as the file has them, and what became of each node.

    ``parts`` is one of the chip, or several of chip and host in turn where refused nodes run on the host.
    """

    parts: tuple[LoweredPart | HostPart, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    report: SupportReport

    @property
    def lowered(self) -> Lowered:
        """The steps of a model that is on the chip as a whole; CheckError where it is not."""
        if len(self.parts) != 1 or isinstance(self.parts[0], HostPart):
            raise CheckError(f"the model is in {len(self.parts)} parts", hint="parts")
        return self.parts[0].lowered


def lower_onnx(
    path: str | Path,
    *,
    dims: Mapping[str, int] | None = None,
    calibration: Mapping[str, Array] | None = None,
    weights: WeightFormat = "int8",
    group: int = 64,
    method: Method = "range",
    host_fallback: bool = False,
) -> LoweredModel:
    """The steps of an ONNX file: ``lower`` of what it holds."""
    given: Any = {"dims": dims, "calibration": calibration, "weights": weights, "group": group, "method": method}
    return lower(Source.file(path), host_fallback=host_fallback, **given)


def lower(
    source: Source,
    *,
    dims: Mapping[str, int] | None = None,
    calibration: Mapping[str, Array] | None = None,
    weights: WeightFormat = "int8",
    group: int = 64,
    method: Method = "range",
    host_fallback: bool = False,
    fine: Sequence[str] = (),
) -> LoweredModel:
    """The steps of a model that was read.

    ``dims`` sets open sizes and one-element inputs; ``calibration`` holds samples by input, along the first axis; without it
    ranges come from random inputs, which the report says. int4 weights have groups of ``group`` rows. ModelError where the
    file or data cannot be used, or nodes are refused: all of them, each with its reason. With ``host_fallback`` these run on
    the host, between parts of the chip. Convolutions named in ``fine`` take their images in two terms of int8.
    """
    imported = source.imported(dims)
    _checked(imported.raw)
    graph = finer(merged(imported.graph), fine)
    roles = _roles(graph)
    ranges, how = _ranges(source, imported, graph, dims or {}, calibration, method)
    arguments = {argument: _largest(graph, name, argument) for name, argument in roles.items()}

    def attempt(part: FloatGraph) -> _Attempt:
        builder = Builder(imported.raw, part, ranges, roles, arguments, weights, group)
        inputs = _inputs(builder)
        refused = _steps(builder, imported.reasons)
        outputs = () if refused else _outputs(builder, refused)
        return _Attempt(builder, inputs, outputs, refused)

    whole = attempt(graph)
    if not whole.refused:
        part = whole.part()
        report = _report(imported, graph, part.lowered.origin, {}, "refused", how)
        return LoweredModel((part,), part.inputs, part.outputs, report)
    report = _report(imported, graph, whole.builder.origin, whole.refused, "refused", how)
    if not host_fallback:
        listed = "; ".join(f"{n.node} ({n.op}): {n.reason}" for n in report.refused[:8])
        count = f"{len(report.refused)} node{'s' if len(report.refused) > 1 else ''}"
        raise ModelError(f"{count} cannot go onto the chip: {listed}", where=graph.name,
                         hint="--host-fallback runs them on ONNX Runtime")  # fmt: skip
    parts = [
        part if isinstance(part, HostPart) else attempt(part).part()
        for part in cut(imported.raw, graph, whole.refused.keys(), roles)
    ]
    origin = {step: nodes for part in parts if isinstance(part, LoweredPart) for step, nodes in part.lowered.origin.items()}
    report = _report(imported, graph, origin, whole.refused, "host", how)
    return LoweredModel(tuple(parts), *_outer_ports(graph, parts), report)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A graph lowered as far as it goes."""

    builder: Builder
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    refused: Mapping[str, str]

    def part(self) -> LoweredPart:
        """The steps of a graph of which nothing was refused."""
        b = self.builder
        if self.refused:
            node, reason = next(iter(self.refused.items()))
            raise CheckError(f"{node} is refused: {reason}", where=b.graph.name)
        used = {name for step in b.steps for name in reads(step)}
        asked = {name for step in b.steps for name in arguments_of(step)}
        given = tuple(port.tensor for port in self.inputs if port.role == "tensor")
        lowered = Lowered(
            name=b.graph.name,
            tensors=b.tensors,
            constants={name: array for name, array in b.constants.items() if name in used},
            steps=tuple(b.steps),
            inputs=given,
            outputs=tuple(dict.fromkeys(port.tensor for port in self.outputs)),
            states=tuple(b.states),
            arguments={name: most for name, most in b.arguments.items() if name in asked},
            origin=b.origin,
        )
        inputs = tuple(port for port in self.inputs if port.role == "tensor" or port.argument in asked)
        return LoweredPart(lowered, inputs, self.outputs)


def _outer_ports(graph: FloatGraph, parts: Sequence[LoweredPart | HostPart]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """The inputs and outputs of a model in parts: as the first part that has them takes them, the host's own as they are."""
    own = {port.name: port for part in parts[::-1] if isinstance(part, LoweredPart) for port in (*part.inputs, *part.outputs)}

    def port(name: str, value: str) -> Port:
        shape, kind = graph.types[value]
        return own.get(name) or Port(name=name, dtype=_DTYPES.get(kind, "float32"), shape=shape, tensor=name)

    read = {name for part in parts if isinstance(part, HostPart) for name in part.inputs} | own.keys()
    inputs = tuple(port(name, name) for name in graph.inputs if name in read)
    made = {name for part in parts for name in (part.outputs if isinstance(part, HostPart) else [p.name for p in part.outputs])}
    return inputs, tuple(port(name, value) for name, value in graph.outputs if name in made)


def _checked(graph: FloatGraph) -> None:
    """ModelError where an input has a type that the chip does not take, or a value has no elements."""
    joined = {name for node in graph.nodes if node.op == "Concat" for name in node.inputs}  # a cache may begin empty
    for name in graph.inputs:
        if graph.types[name][1] not in _DTYPES:
            raise ModelError("its element type is none that the chip takes", where=name, hint=", ".join(_DTYPES.values()))
        if not all(graph.shape(name)) and name not in joined:
            raise ModelError(f"its shape is {list(graph.shape(name))}, which holds nothing", where=name)
    for node in graph.nodes:
        for name in node.outputs:
            if name and not all(graph.shape(name)):
                raise ModelError(f"its result has shape {list(graph.shape(name))}, which holds nothing", where=node.name)


# Runtime arguments ----------------------------------------------------------------------------------------------------


def _roles(graph: FloatGraph) -> dict[str, str]:
    """Inputs that become runtime arguments: masks a length, places of tokens a position."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        for argument in ("length", "position"):
            name = node.attributes.get(argument, "") if node.op in ("Attention", "MeanOfLength", "Cached") else ""
            if name:
                found[name] = argument
    return found


def _largest(graph: FloatGraph, name: str, argument: str) -> int:
    """The largest value of a runtime argument."""
    if argument == "length":
        return graph.shape(name)[-1]
    keys = [graph.shape(node.outputs[0])[2] for node in graph.nodes if node.op == "Cached"]
    keys += [graph.shape(node.inputs[2])[2] for node in graph.nodes if node.op == "Attention"]
    return max(keys) - graph.shape(name)[-1]


# Ranges ---------------------------------------------------------------------------------------------------------------


def _wanted(graph: FloatGraph) -> list[str]:
    """Values whose ranges the lowering asks for."""
    found: list[str] = []
    for node in graph.nodes:
        if node.op in ("Linear", "Conv"):
            found.append(node.inputs[0])
        elif node.op == "Attention":
            found += [*node.inputs[:3], node.outputs[0]]
        elif node.op == "Cached":
            found += [node.inputs[1], node.outputs[0]]
        elif curve(node.op, node.attributes) is not None:
            found.append(node.inputs[0])
    return list(dict.fromkeys(found))


def _ranges(
    source: Source,
    imported: Imported,
    graph: FloatGraph,
    dims: Mapping[str, int],
    calibration: Mapping[str, Array] | None,
    method: Method,
) -> tuple[Ranges, str]:
    """The ranges, and where they are from."""
    bounds = graph.bounds
    wanted = [of if isinstance(of := bounds.get(name, name), str) else "" for name in _wanted(graph)]
    if calibration is None:
        raw = _without_cache(source, imported, graph, dims)
        samples = random_samples(raw)
        found = calibrated(raw, wanted, samples, "range")
        how = f"{len(samples)} random inputs"
    else:
        data = Data(calibration)
        raw = source.raw(source.sizes_of(calibration, dims))
        found = calibrated(raw, wanted, data.samples(raw), method)
        how = f"{data.count} samples, {method}"
    values = set(_wanted(graph))
    own = values & graph.given.keys()
    if own:
        how = "the file's own levels" + (
            f" of {len(own)} of {len(values)} values; {how} for the others" if own < values else ""
        )
    known = {name: found.get(of) if isinstance(of, str) else of for name, of in bounds.items()}
    return {**found, **{name: ends for name, ends in known.items() if ends is not None}}, how


def _without_cache(source: Source, imported: Imported, graph: FloatGraph, dims: Mapping[str, int]) -> FloatGraph:
    """The graph with empty caches: what goes into them is the model's to say, and random numbers would say it wrongly."""
    caches = {node.inputs[0] for node in graph.nodes if node.op == "Cached"}
    if not caches:
        return imported.raw
    (sample,) = random_samples(imported.raw, 1)
    given = {name: array[None] for name, array in sample.items() if name not in caches}
    return source.raw(source.sizes_of(given, dims))


# Inputs and outputs ---------------------------------------------------------------------------------------------------


def _inputs(b: Builder) -> tuple[Port, ...]:
    """The inputs as ports; those that are tensors become bases."""
    ports: list[Port] = []
    caches = {node.inputs[0] for node in b.graph.nodes if node.op == "Cached"}
    for name in b.graph.inputs:
        shape, kind = b.graph.types[name]
        dtype = _DTYPES[kind]
        if name in b.roles:
            ports.append(Port(name=name, dtype=dtype, shape=shape, role=b.roles[name], argument=b.roles[name]))  # type: ignore[arg-type]
        elif name not in caches:
            ports.append(_input(b, name))
    return tuple(ports)


def _input(b: Builder, name: str) -> Port:
    """A tensor as the host lays it out: tokens x features, pixels x channels, indices one a row."""
    shape, kind = b.graph.types[name]
    if not all(shape):
        raise ModelError(
            f"its shape is {list(shape)}, which holds nothing", where=name, hint="a cache holds one token at least"
        )
    dtype = _DTYPES.get(kind, "int32")
    real = dtype == "float32"
    if not real:
        rows, columns, axes = int(np.prod(shape)), 1, ()
    elif len(shape) in (3, 4) and _is_image(b.graph, name):
        rows, columns = int(np.prod(shape[2:])), shape[1]
        axes = (0, *range(2, len(shape)), 1)
    else:
        rows, columns, axes = int(np.prod(shape[:-1])), (shape[-1] if shape else 1), ()
    tensor = Tensor(b.free(name), rows, columns, "float32" if real else "int32")
    b.written(name, "real", tensor)
    plain = View.plain(name, tuple(shape[a] for a in axes) if axes else shape)
    b.views[name] = plain.transposed(tuple(int(i) for i in np.argsort(axes))) if axes else plain
    tables = [b.graph.constants[n.inputs[0]] for n, place, _ in b.readers(name) if n.op == "Gather" and place == 1
              and n.inputs[0] in b.graph.constants]  # fmt: skip
    rows = min((len(table) for table in tables), default=0)
    return Port(name=name, dtype=dtype, shape=shape, tensor=tensor.name, axes=axes, rows=rows)


def _is_image(graph: FloatGraph, name: str) -> bool:
    """Whether an input of channels before pixels goes into a convolution or pooling."""
    return any(node.op in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool") for node in graph.readers.get(name, ()))


def _outputs(b: Builder, refused: dict[str, str]) -> tuple[Port, ...]:
    """The outputs as ports; where one cannot be handed out, the node that makes it is refused."""
    ports: list[Port] = []
    for name, value in b.graph.outputs:
        maker = b.graph.makers.get(value)
        if maker is not None and maker.op == "Cached":
            continue
        try:
            ports.append(_output(b, name, value))
        except RefusedError as problem:
            if maker is None:
                raise ModelError(f"output {name} cannot be handed out: {problem}", where=b.graph.name) from None
            refused[maker.name] = str(problem)
    return tuple(ports)


def _output(b: Builder, name: str, value: str) -> Port:
    shape, kind = b.graph.types[value]
    if kind not in (FLOAT, INT32, INT64):
        raise RefusedError("its result is neither of real nor of whole numbers")
    view = b.view(value)
    rows, columns = b.sizes[view.base]
    axes: tuple[int, ...] = ()
    if view.matrix(rows, columns) == (0, columns) and view.base not in b.graph.inputs:
        order = [axis for axis, _ in view.order()]
        rest = [axis for axis in range(len(shape)) if axis not in order]
        axes = () if order == sorted(order) else (*rest, *order)
        tensor = b.tensor(view.base, "real")
    else:
        tensor = b.tensor(b.moved(value), "real")
    if (kind == FLOAT) != (b.tensors[tensor].dtype == "float32"):
        raise RefusedError("its result is not of the type that the chip has there")
    return Port(name=name, dtype=_DTYPES[kind], shape=shape, tensor=tensor, axes=axes)


# Steps ----------------------------------------------------------------------------------------------------------------


def _steps(b: Builder, reasons: Mapping[str, str]) -> dict[str, str]:
    """Lowers all nodes; those that are refused, with the reason. What they would make is then taken as an input."""
    refused: dict[str, str] = {}
    for node in b.graph.nodes:
        inputs = b.graph.depends(node.outputs[0])
        if inputs and all(name in b.roles for name in inputs):
            continue  # a table by position, or a mask: what reads it knows
        try:
            rule = RULES.get(node.op) if not node.domain else None
            if rule is None:
                other = node.domain == OTHER_FORM
                raise RefusedError(
                    "its form is none that the compiler knows" if other else "the compiler has no rule for this operator"
                )
            rule(b, node)
        except RefusedError as problem:
            refused[node.name] = reasons.get(node.name, str(problem))
            for name in filter(None, node.outputs):
                b.pending.pop(name, None)
                _input(b, name)
    return refused


def _report(
    imported: Imported,
    graph: FloatGraph,
    origin: Mapping[str, tuple[str, ...]],
    refused: Mapping[str, str],
    status: Status,
    how: str,
) -> SupportReport:
    """What became of each node of the file; ``status`` of those that are refused."""
    steps: dict[str, list[str]] = {}
    for step, sources in origin.items():
        for source in sources:
            steps.setdefault(source, []).append(step)
    reason = {source: refused[node.name] for node in graph.nodes if node.name in refused for source in node.sources}
    known = {source for node in graph.nodes for source in node.sources}
    rows: list[NodeSupport] = []
    for name, op in imported.raw.all_nodes:
        if name in reason:
            rows.append(NodeSupport(name, op, status, (), reason[name]))
        elif name in steps:
            rows.append(NodeSupport(name, op, "on-chip", tuple(steps[name])))
        else:
            rows.append(NodeSupport(name, op, "arranged" if name in known else "folded"))
    return SupportReport(tuple(rows), how)
