"""Walks an ONNX graph once: shapes of all values, small constants folded, branches chosen, loops counted.

The result is a list of Steps, one per node that does work at run time. A node whose inputs are all there before the run
(weights that are transposed, shapes that are computed) does none. A branch that depends on data is taken as the costlier
one; a loop runs as often as its trip count says, even where its body could end it sooner.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import ModelError
from presilicon.frontend.onnx_matrix import Books
from presilicon.frontend.onnx_operators import FREE, UNPREDICTABLE, operators_of
from presilicon.frontend.onnx_shapes import Type, bounded, shapes
from presilicon.frontend.onnx_values import ELEMENT_TYPES, KNOWN_ELEMENTS, Step, Value, block_format, contents, value, words

MOST_TRIPS = 1 << 20
"""A loop whose only bound is larger than this is not counted: such bounds stand for "until the condition fails"."""

_FOLDED = frozenset(
    words(
        "Add Sub Mul Div Mod Pow Neg Abs Min Max Sum Equal Greater Less GreaterOrEqual LessOrEqual And Or Xor Not Where Cast "
        "Concat Gather GatherElements GatherND Slice Split Squeeze Unsqueeze Reshape Flatten Identity Range ConstantOfShape "
        "Expand Tile Transpose ReduceProd ReduceSum ReduceMax ReduceMin ReduceMean Ceil Floor Round Sqrt Sign NonZero CumSum "
        "ScatterND ScatterElements OneHot Trilu ArgMax ArgMin Exp Log Reciprocal Clip Pad EyeLike TopK Sin Cos "
        "HannWindow HammingWindow BlackmanWindow MelWeightMatrix"
    )
)
_MOST_DEPTH = 40


@dataclass(slots=True, eq=False)
class Trace:
    """Steps in order, what the graph returns, and the opset of each domain."""

    versions: Mapping[str, int]
    external: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    returned: list[Value] = field(default_factory=list)

    def run(self, graph: Any, inputs: Mapping[str, Value]) -> None:
        """Trace the main graph with ``inputs`` by name; ModelError where it cannot be counted."""
        self.steps, results = _Scope(self, None, "").trace(graph, inputs)
        self.returned = results


class _Scope:
    """The names of one graph, and of the graphs around it."""

    def __init__(self, trace: Trace, outer: _Scope | None, prefix: str) -> None:
        self._trace, self._outer, self._prefix = trace, outer, prefix
        self._names: dict[str, Value | None] = {}
        self._steps: list[Step] = []
        self._depth: int = outer._depth + 1 if outer else 0
        if self._depth > _MOST_DEPTH:
            raise ModelError(f"graphs are nested more than {_MOST_DEPTH} deep", where=prefix)

    def trace(self, graph: Any, inputs: Mapping[str, Value]) -> tuple[list[Step], list[Value]]:
        for tensor in graph.initializer:
            self._names[tensor.name] = self._initializer(tensor)
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            self._names[name] = value(tuple(sparse.dims), sparse.values.data_type, name, stored=True, origin=self._path(name))
        self._names.update(inputs)
        for position, node in enumerate(graph.node):
            where = self._path(node.name or f"{node.op_type}_{position}")
            self._node(node, where)
        return self._steps, [self._look(output.name, f"output {output.name}") for output in graph.output]

    def _path(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _initializer(self, tensor: Any) -> Value:
        name = self._path(tensor.name)
        data = self._trace.external.get(tensor.name) if tensor.data_location == 1 else contents(tensor)
        return value(tuple(tensor.dims), tensor.data_type, name, data=data, stored=True, origin=name)

    def _look(self, name: str, where: str) -> Value:
        scope: _Scope | None = self
        while scope is not None:
            if name in scope._names:
                found = scope._names[name]
                if found is None:
                    raise ModelError(f"the shape of {name!r} cannot be inferred", where=where)
                return found
            scope = scope._outer
        raise ModelError(f"nothing before it produces {name!r}", where=where, hint="nodes must stand in topological order")

    def _node(self, node: Any, where: str) -> None:
        inputs = tuple(self._look(name, where) if name else None for name in node.input)
        attributes = _attributes(node, where)
        step = Step(where, node.op_type, attributes, inputs, (None,) * len(node.output))
        if node.op_type in ("If", "Loop", "Scan") and node.domain in ("", "ai.onnx"):
            control = {"If": self._branch, "Loop": self._loop, "Scan": self._scan}[node.op_type]
            self._bind(node, control(step), where)
            return
        if node.op_type == "Constant":
            self._bind(node, [_constant(step, attributes)], where)
            return
        if node.op_type in ("Shape", "Size"):
            self._bind(node, [_shape(step)], where)
            return
        version = self._trace.versions.get("", 0)
        names = [f"i{i}" if v is not None else "" for i, v in enumerate(inputs)]
        types = shapes(node, step, version, names)
        self._bind(node, self._outputs(node, step, types, version, names), where)

    def _bind(self, node: Any, results: Sequence[Value | None], where: str) -> None:
        for position, name in enumerate(node.output):
            if not name:
                continue
            if name in self._names:
                raise ModelError(f"{name!r} is produced twice", where=where)
            self._names[name] = results[position] if position < len(results) else None

    def _outputs(
        self, node: Any, step: Step, types: Sequence[Type | None], version: int, names: list[str]
    ) -> Sequence[Value | None]:
        sized: list[Type | None] = []
        for t in types[: len(node.output)]:
            sized.append(None if t is None else (bounded(step, node.op_type, t[0]), t[1]))
        stored = all(v is None or v.stored for v in step.inputs) and node.op_type not in UNPREDICTABLE
        known = stored and all(v is None or v.data is not None for v in step.inputs)
        if known and node.op_type in _FOLDED and all(t and math.prod(t[0]) <= KNOWN_ELEMENTS for t in sized):
            folded = _fold(node, step, version, names)
            if folded is not None:
                return [replace(self._result(step, (a.shape, t[1]), i, True), data=a)
                        for i, (a, t) in enumerate(zip(folded, sized, strict=False)) if t is not None]  # fmt: skip
        results = [None if t is None else self._result(step, t, i, stored) for i, t in enumerate(sized)]
        if not any(results):
            raise ModelError(f"the shape of {node.op_type}'s output cannot be inferred", where=step.name)
        if not stored and step.op not in FREE:
            step.outputs = tuple(results)
            self._steps.append(step)
        return results

    def _result(self, step: Step, result: Type, position: int, stored: bool) -> Value:
        shape, dtype = result
        more: dict[str, Any] = {"stored": stored}
        source = step.input(0)
        renames = position == 0 and source is not None and step.op in FREE | {"Transpose", "Cast"}
        if stored:
            same = renames and source is not None and source.origin and math.prod(shape) == source.elements
            more["origin"] = source.origin if same and source is not None else f"{step.name}:{position}"
        if source is not None and position == 0:
            if step.op in FREE and not stored:
                more["buffer"] = source.buffer
            both_real = dtype in ELEMENT_TYPES and dtype in (1, 10, 11, 16)
            if step.op == "DequantizeLinear":
                more["format"] = block_format(source.dtype, step.integer("block_size", 0), source.format)
            elif (step.op in FREE or step.op in _SAME_BYTES) and source.is_float and both_real:
                more["format"] = source.format
        return value(shape, dtype, step.name, **more)

    def _body(self, graph: Any, inputs: Mapping[str, Value], where: str) -> tuple[list[Step], list[Value]]:
        return _Scope(self._trace, self, f"{where}/").trace(graph, inputs)

    def _branch(self, step: Step) -> list[Value]:
        condition, where = step.need(0), step.name
        then, other = _graph(step, "then_branch"), _graph(step, "else_branch")
        if condition.data is not None and condition.data.size == 1:
            steps, results = self._body(then if bool(condition.data.reshape(-1)[0]) else other, {}, where)
        else:
            paths = [self._body(graph, {}, where) for graph in (then, other)]
            if [v.shape for v in paths[0][1]] != [v.shape for v in paths[1][1]]:
                raise ModelError("its branches return different shapes and its condition depends on data", where=where,
                                 hint="set the input that decides it, --dim input=N")  # fmt: skip
            steps, results = max(paths, key=lambda path: _cost(path[0]))
            results = [replace(v, stored=False, data=None) for v in results]
        self._steps += steps
        return results

    def _loop(self, step: Step) -> list[Value]:
        where, inputs, body = step.name, step.inputs, _graph(step, "body")
        if len(body.input) != len(inputs) or len(body.output) < len(inputs) - 1:
            raise ModelError("its body does not take its inputs", where=where)
        count = _trip_count(step.input(0), step.input(1), where)
        carried = [_varying(v, where) for v in inputs[2:]]
        given = [value((), 7, where), value((), 9, where), *carried]
        steps, results = self._body(body, {i.name: v for i, v in zip(body.input, given, strict=True)}, where)
        kept, scanned = results[1 : 1 + len(carried)], results[1 + len(carried) :]
        _unchanged(carried, kept, where)
        self._repeat(steps, count)
        ends = kept if count else carried
        return [*(replace(v, stored=False, data=None) for v in ends), *(_stacked(v, 0, count, where) for v in scanned)]

    def _scan(self, step: Step) -> list[Value]:
        where, inputs, body = step.name, step.inputs, _graph(step, "body")
        scanned_inputs = step.integer("num_scan_inputs", 0)
        if self._trace.versions.get("", 0) < 9 or len(body.input) != len(inputs):
            raise ModelError("this Scan is not counted", where=where, hint="operator set 9 or later")
        states = len(inputs) - scanned_inputs
        if not 1 <= scanned_inputs <= len(inputs) or len(body.output) < states:
            raise ModelError(f"num_scan_inputs is {scanned_inputs!r}", where=where)
        axes = step.integers("scan_input_axes") or (0,) * scanned_inputs
        out_axes = step.integers("scan_output_axes") or (0,) * (len(body.output) - states)
        carried = [_varying(v, where) for v in inputs[:states]]
        slices, counts = [], set()
        for v, axis in zip(inputs[states:], axes, strict=False):
            if v is None or not -len(v.shape) <= axis < len(v.shape):
                raise ModelError(f"scan axis {axis} is not one of its input", where=where)
            axis %= len(v.shape)
            counts.add(v.shape[axis])
            slices.append(value((*v.shape[:axis], *v.shape[axis + 1 :]), v.dtype, where, format=v.format))
        if len(counts) != 1 or len(slices) != scanned_inputs:
            raise ModelError(f"its scanned inputs have different lengths {sorted(counts)}", where=where)
        count = counts.pop()
        given = [*carried, *slices]
        steps, results = self._body(body, {i.name: v for i, v in zip(body.input, given, strict=True)}, where)
        _unchanged(carried, results[:states], where)
        self._repeat(steps, count)
        stacked = [_stacked(v, axis, count, where) for v, axis in zip(results[states:], out_axes, strict=False)]
        return [*(replace(v, stored=False, data=None) for v in results[:states]), *stacked]

    def _repeat(self, steps: list[Step], count: int) -> None:
        for step in steps:
            step.times *= count
        if count:
            self._steps += steps


_SAME_BYTES = frozenset({"Transpose", "Slice", "Split", "Gather", "Concat", "Pad", "Expand", "Tile", "Cast", "MaxPool", "Relu"})


def _attributes(node: Any, where: str) -> dict[str, Any]:
    from onnx import helper

    try:
        return {a.name: helper.get_attribute_value(a) for a in node.attribute}
    except ValueError as problem:
        raise ModelError(f"an attribute of {node.op_type} has no value: {problem}", where=where) from problem


def _graph(step: Step, name: str) -> Any:
    import onnx

    found = step.attributes.get(name)
    if not isinstance(found, onnx.GraphProto) or not found.output:
        raise ModelError(f"its {name} is missing or returns nothing", where=step.name)
    return found


def _constant(step: Step, attributes: Mapping[str, Any]) -> Value:
    import onnx

    for name, kind in (("value_int", 7), ("value_ints", 7), ("value_float", 1), ("value_floats", 1)):
        if name in attributes:
            given = attributes[name]
            if not isinstance(given, int | float | list) or any(not isinstance(i, int | float) for i in np.atleast_1d(given)):
                raise ModelError(f"attribute {name} has no numbers in it", where=step.name)
            listed = np.asarray(given, dtype=np.int64 if kind == 7 else np.float32)
            known = listed if listed.size <= KNOWN_ELEMENTS else None
            return value(listed.shape, kind, step.name, data=known, stored=True, origin=step.name)
    tensor = attributes.get("value")
    sparse = attributes.get("sparse_value")
    if isinstance(tensor, onnx.TensorProto):
        data = contents(tensor) if tensor.data_location != 1 else None
        return value(tuple(tensor.dims), tensor.data_type, step.name, data=data, stored=True, origin=step.name)
    if isinstance(sparse, onnx.SparseTensorProto):
        return value(tuple(sparse.dims), sparse.values.data_type, step.name, stored=True, origin=step.name)
    raise ModelError("a Constant has no number in it", where=step.name)


def _shape(step: Step) -> Value:
    x = step.need(0)
    rank = len(x.shape)
    start, end = step.integer("start", 0), step.integer("end", rank)
    data = np.asarray(x.shape[start:end] if step.op == "Shape" else x.elements, dtype=np.int64)
    return value(data.shape, 7, step.name, data=data, stored=True, origin=step.name)


def _fold(node: Any, step: Step, version: int, names: list[str]) -> list[NDArray[Any]] | None:
    """The node's outputs by onnx's reference evaluator; None where it cannot tell (the value is then only a shape)."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    del twin.input[:], twin.output[:]
    twin.input.extend(names)
    twin.output.extend(f"o{i}" for i in range(len(node.output)))
    feeds = {name: v.data for name, v in zip(names, step.inputs, strict=True) if v is not None}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(twin, opsets={"": version}).run(None, feeds)
    except Exception:  # the evaluator runs the file's numbers through numpy: anything can come of a broken file
        return None
    arrays = [np.asarray(r) for r in results]
    return arrays if all(a.size <= KNOWN_ELEMENTS and a.dtype != object for a in arrays) else None


def _cost(steps: Sequence[Step]) -> float:
    books = Books()
    return sum(float(o.flops) * o.count * s.times for s in steps for o in operators_of(s, books))


def _trip_count(trips: Value | None, condition: Value | None, where: str) -> int:
    if condition is not None and condition.data is not None and not bool(condition.data.reshape(-1)[:1].any()):
        return 0
    if trips is None or trips.data is None or trips.data.size != 1:
        raise ModelError("how often it loops depends on data", where=where, hint="set the input that decides it, --dim input=N")
    count = int(trips.data.reshape(-1)[0])
    if count > MOST_TRIPS:
        raise ModelError(f"it loops until its condition fails; the bound of {count} trips says nothing", where=where)
    return max(0, count)


def _varying(v: Value | None, where: str) -> Value:
    if v is None:
        raise ModelError("a value carried from trip to trip is missing", where=where)
    return value(v.shape, v.dtype, where, format=v.format)


def _unchanged(before: Sequence[Value], after: Sequence[Value], where: str) -> None:
    for a, b in zip(before, after, strict=False):
        if a.shape != b.shape:
            raise ModelError(f"a carried value changes its shape from {a.shape} to {b.shape} in one trip", where=where)


def _stacked(v: Value, axis: int, count: int, where: str) -> Value:
    if not -len(v.shape) - 1 <= axis <= len(v.shape):
        raise ModelError(f"scan axis {axis} is not one of its output", where=where)
    axis %= len(v.shape) + 1
    return value((*v.shape[:axis], count, *v.shape[axis:]), v.dtype, where, format=v.format)
