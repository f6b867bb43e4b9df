"""An ONNX file as a float graph: sizes set, functions and branches written out, everything constant folded.

The frontend reads, checks and infers; here the values of weights are kept too. Real numbers become fp32 whatever the file
stores, but for large matrices, which stay as they are stored: external ones in the file, mapped into memory. A constant that is
dequantised keeps its levels; values that the file quantises on the way keep scale and zero point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from presilicon.compiler.importing.graph import FLOAT, Array, FloatGraph, Node, Type, type_of
from presilicon.compiler.importing.runtime import run, session
from presilicon.errors import CapacityError, ModelError
from presilicon.frontend.onnx_inputs import Inputs
from presilicon.frontend.onnx_operators import UNPREDICTABLE
from presilicon.frontend.onnx_reader import read, tensors
from presilicon.frontend.onnx_shapes import bounded, shapes
from presilicon.frontend.onnx_values import FLOAT_TYPES, Step, Value, value

MOST_FOLDED = 1 << 28
"""Elements of the largest constant that is computed: 1 GiB in fp32."""

LARGE = 1 << 20
"""Elements from which on a matrix stays as it is stored."""

# Operators that hand constants on without arithmetic: their levels go with them.
_ARRANGES = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity", "Flatten", "Concat"})
_CONTROL = frozenset({"If", "Loop", "Scan"})
_LEVELS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def read_model(path: Path) -> Any:
    """The onnx ModelProto of a file; ModelError where it is broken, or what it stores outside is missing.

    What it stores outside stays there, its location made a whole path.
    """
    import onnx
    import onnx.inliner

    read(path)  # checks the file and what it stores outside itself
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, ValueError, onnx.checker.ValidationError) as problem:
        raise ModelError(f"cannot be read: {' '.join(str(problem).split())[:200]}", where=str(path)) from problem
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    for tensor in tensors(model):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(path.resolve().parent / entry.value)
    return model


def graph_of(model: Any, name: str, dims: Mapping[str, int] | None = None, where: str = "") -> FloatGraph:
    """The float graph of an onnx ModelProto that holds its weights, of one batch and the sizes in ``dims``.

    See ``frontend.onnx_inputs`` for ``dims``. ModelError where a size is open, or a loop is left after folding.
    """
    where = where or name
    versions = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
    given = Inputs(model.graph, dict(dims or {}), where).values(1)
    try:
        return _Walk(model, versions, given).graph(name)
    except ModelError as problem:
        place = problem.where if problem.where.startswith(where) else f"{where}: {problem.where}".removesuffix(": ")
        raise ModelError(problem.message, where=place, hint=problem.hint) from problem


class _Walk:
    """Values by name while the nodes are gone through."""

    def __init__(self, model: Any, versions: Mapping[str, int], given: Mapping[str, Value]) -> None:
        self.model, self.versions, self.given = model, versions, given
        self.known: dict[str, Value] = {}
        self.levels: dict[str, Array] = {}
        self.quantised: dict[str, tuple[float, int]] = {}
        self.nodes: list[Node] = []
        self.all_nodes: list[tuple[str, str]] = []

    def graph(self, name: str) -> FloatGraph:
        inputs = []
        for i, v in self.given.items():
            self.known[i] = _as_fp32(v)
            if v.data is None:
                inputs.append(i)
        names = {i: i for i in self.given}
        self.walk(self.model.graph, names, "")
        outputs = tuple((o.name, self.look(o.name, names, f"output {o.name}")) for o in self.model.graph.output)
        graph = FloatGraph(
            name=name,
            inputs=tuple(inputs),
            outputs=outputs,
            nodes=tuple(self.nodes),
            constants={n: v.data for n, v in self.known.items() if v.data is not None},
            types={n: (v.shape, v.dtype) for n, v in self.known.items()},
            versions={domain: version for domain, version in self.versions.items() if domain != "ai.onnx"},
            steps=self.levels,
            given=self.quantised,
            all_nodes=tuple(self.all_nodes),
        )
        return graph.rewritten(graph.nodes)

    # Names ------------------------------------------------------------------------------------------------------------

    def look(self, name: str, names: Mapping[str, str], where: str) -> str:
        if name not in names:
            raise ModelError(f"nothing before it produces {name!r}", where=where, hint="nodes must stand in topological order")
        return names[name]

    def fresh(self, name: str) -> str:
        """A name that no value has yet."""
        found, number = name, 1
        while found in self.known:
            number += 1
            found = f"{name}.{number}"
        return found

    def constant(self, name: str, array: Array) -> str:
        array = np.asanyarray(array)
        kind = type_of(array)[1]
        if kind in FLOAT_TYPES:
            stays = array.ndim == 2 and array.size >= LARGE and array.dtype in (np.float16, np.float32)
            array, kind = array if stays else np.asarray(array, np.float32, order="C"), FLOAT
        self.known[name] = value(tuple(array.shape), kind, name, data=array, stored=True)
        return name

    # Nodes ------------------------------------------------------------------------------------------------------------

    def walk(self, graph: Any, names: dict[str, str], prefix: str) -> None:
        for tensor in graph.initializer:
            names[tensor.name] = self.constant(self.fresh(prefix + tensor.name), _stored(tensor))
        for sparse in graph.sparse_initializer:
            raise ModelError("sparse constants are not compiled", where=prefix + sparse.values.name)
        for position, node in enumerate(graph.node):
            self.node(node, names, prefix + (node.name or f"{node.op_type}_{position}"), prefix)

    def node(self, node: Any, names: dict[str, str], where: str, prefix: str) -> None:
        from onnx import helper

        inputs = tuple(self.look(name, names, where) if name else "" for name in node.input)
        self.all_nodes.append((where, node.op_type))
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.op_type in _CONTROL and not domain:
            self.control(node, inputs, names, where)
            return
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        outputs = tuple(self.fresh(prefix + name) if name else "" for name in node.output)
        names.update({name: ours for name, ours in zip(node.output, outputs, strict=True) if name})
        if node.op_type == "Constant" and not domain:
            self.constant(outputs[0], _constant(attributes, where))
            return
        made = Node(where, node.op_type, inputs, outputs, attributes, domain, (where,))
        step = Step(
            where, node.op_type, attributes, tuple(self.known[n] if n else None for n in inputs), (None,) * len(outputs)
        )
        if made.op in ("Shape", "Size") and not domain:
            x = step.need(0)
            sizes = x.shape[step.integer("start", 0) : step.integer("end", len(x.shape))]
            self.constant(outputs[0], np.asarray(sizes if made.op == "Shape" else x.elements, np.int64))
            return
        if made.op.startswith(("Optional", "Sequence")):
            raise ModelError("values that are optional or lists are not compiled", where=where)
        if made.op in _LEVELS and made.domain in ("", "com.microsoft") and self.known[made.inputs[0]].data is None:
            self.requantised(made, names, node)
            return
        if not domain and (made.op == "Identity" or (made.op == "Dropout" and self.inactive(made))):
            names[node.output[0]] = made.inputs[0]
            return
        self.typed(node, made, step)
        if self.passes(made):
            names[node.output[0]] = made.inputs[0]
        elif made.op not in UNPREDICTABLE and all(v is None or v.data is not None for v in step.inputs):
            self.fold(made)
        else:
            self.nodes.append(made)

    def inactive(self, dropout: Node) -> bool:
        """Whether a Dropout hands its input on: not while training, and where nobody asks what it dropped."""
        training = self.known[dropout.inputs[2]].data if len(dropout.inputs) > 2 and dropout.inputs[2] else np.zeros(1)
        return not any(dropout.outputs[1:]) and training is not None and not training.any()

    def typed(self, node: Any, made: Node, step: Step) -> None:
        types = shapes(node, step, self.versions.get(made.domain, 1), [f"i{i}" if n else "" for i, n in enumerate(made.inputs)])
        for name, found in zip(made.outputs, types, strict=False):
            if name and found is None:
                raise ModelError(f"the shape of {made.op}'s output cannot be inferred", where=made.name)
            if name and found is not None:
                kind = FLOAT if found[1] in FLOAT_TYPES else found[1]
                self.known[name] = value(bounded(step, made.op, found[0]), kind, made.name)

    def fold(self, made: Node) -> None:
        """The node's outputs as constants, computed by ONNX Runtime."""
        if sum(self.known[n].elements for n in made.outputs if n) > MOST_FOLDED:
            raise CapacityError(f"a constant of {self.known[made.outputs[0]].shape} would be computed", where=made.name)
        outputs = [n for n in made.outputs if n]
        if made.op == "DequantizeLinear":
            self.dequantised(made)
            return
        data = self.known[made.inputs[0]].data if made.inputs else None
        if made.op == "Transpose" and not made.domain and data is not None and made.inputs[0] not in self.levels:
            self.constant(outputs[0], np.transpose(data, made.attributes.get("perm")))
            return
        for name, array in zip(outputs, self.computed(made, made.inputs, outputs), strict=True):
            self.constant(name, array)
        if made.op in _ARRANGES and any(n in self.levels for n in made.inputs):
            arranged = {n: np.asarray(self.levels[n], order="C") for n in made.inputs if n in self.levels}
            for name, array in zip(outputs, self.computed(made, made.inputs, outputs, arranged), strict=True):
                self.levels[name] = array

    def computed(
        self, made: Node, inputs: Sequence[str], outputs: Sequence[str], instead: Mapping[str, Array] | None = None
    ) -> list[Array]:
        types: dict[str, Type] = {n: (self.known[n].shape, self.known[n].dtype) for n in {*inputs, *made.outputs} - {""}}
        part = FloatGraph(made.name, (), (), (made,), {}, types, self.versions)
        ready = session(part, [n for n in dict.fromkeys(inputs) if n], outputs)
        feeds = {n: (instead or {}).get(n, self.known[n].data) for n in inputs if n}
        wide = {n: np.asarray(a, np.float32) if types[n][1] == FLOAT else a for n, a in feeds.items() if a is not None}
        return run(ready, wide, made.name)

    def dequantised(self, made: Node) -> None:
        """A stored quantised tensor: its numbers, and the step between its levels at each element."""
        data, scale = (self.known[n].data for n in made.inputs[:2])
        assert data is not None
        assert scale is not None
        zero = self.known[made.inputs[2]].data if len(made.inputs) > 2 and made.inputs[2] else None
        axis, block = made.attributes.get("axis", 1), made.attributes.get("block_size", 0)
        step = _spread(np.asarray(scale, np.float32), data.shape, axis, block, made.name)
        shift = 0.0 if zero is None else _spread(np.asarray(zero).astype(np.float32), data.shape, axis, block, made.name)
        self.constant(made.outputs[0], (data.astype(np.float32) - shift) * step)
        self.levels[made.outputs[0]] = step

    # What only renames ------------------------------------------------------------------------------------------------

    def passes(self, made: Node) -> bool:
        """Whether a node hands its first input on: a cast to the same type."""
        return made.op == "Cast" and self.known[made.inputs[0]].dtype == self.known[made.outputs[0]].dtype

    def requantised(self, made: Node, names: dict[str, str], node: Any) -> None:
        """QuantizeLinear and DequantizeLinear of a value on the way: it stays as it is, its levels are noted."""
        source = made.inputs[0]
        if made.op == "QuantizeLinear":
            self.quantised[source] = self.quantisation(made)
        elif source not in self.quantised:
            raise ModelError("what it dequantises was not quantised before it", where=made.name,
                             hint="QDQ form: QuantizeLinear and DequantizeLinear in pairs")  # fmt: skip
        names[node.output[0]] = source

    def quantisation(self, made: Node) -> tuple[float, int]:
        """Scale and int8 zero point of a QuantizeLinear; uint8 is the same with a zero point less by 128."""
        scale = self.known[made.inputs[1]].data
        has_zero = len(made.inputs) > 2 and made.inputs[2] != ""
        zero = self.known[made.inputs[2]].data if has_zero else np.zeros((), np.uint8)
        if scale is None or zero is None or scale.size != 1 or zero.size != 1:
            raise ModelError("its scale differs by channel or is computed while it runs", where=made.name,
                             hint="one constant scale for a value on the way")  # fmt: skip
        if zero.dtype not in (np.uint8, np.int8):
            raise ModelError(f"it quantises to {zero.dtype}", where=made.name, hint="int8 or uint8")
        return float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]) - (128 if zero.dtype == np.uint8 else 0)

    # Control flow -----------------------------------------------------------------------------------------------------

    def control(self, node: Any, inputs: Sequence[str], names: dict[str, str], where: str) -> None:
        condition = self.known[inputs[0]].data if inputs and inputs[0] else None
        if node.op_type != "If" or condition is None or condition.size != 1:
            what = "its condition depends on data" if node.op_type == "If" else "loops are not compiled"
            raise ModelError(what, where=where, hint="set the input that decides it with --dim input=N, or unroll the loop")
        wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
        branch = next(a.g for a in node.attribute if a.name == wanted)
        inner = dict(names)
        self.walk(branch, inner, f"{where}/")
        for name, result in zip(node.output, branch.output, strict=True):
            names[name] = self.look(result.name, inner, where)


def _as_fp32(v: Value) -> Value:
    return value(v.shape, FLOAT, "", data=v.data, stored=v.stored) if v.dtype in FLOAT_TYPES else v


def _stored(tensor: Any) -> Array:
    """The numbers of a TensorProto: those outside the file mapped into memory where numpy has their type."""
    from onnx import TensorProto, helper, numpy_helper

    if tensor.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    entry = {e.key: e.value for e in tensor.external_data}
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    place, start = entry["location"], int(entry.get("offset", 0))
    if dtype.isbuiltin == 1 and math.prod(tensor.dims):
        return np.memmap(place, dtype.newbyteorder("<"), "r", start, tuple(tensor.dims))
    with Path(place).open("rb") as file:
        file.seek(start)
        inside = TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=file.read(int(entry.get("length", -1))))
    return numpy_helper.to_array(inside)


def _constant(attributes: Mapping[str, Any], where: str) -> Array:
    if "value" in attributes:
        return np.asarray(_stored(attributes["value"]))
    for name, kind in (
        ("value_int", np.int64),
        ("value_ints", np.int64),
        ("value_float", np.float32),
        ("value_floats", np.float32),
    ):
        if name in attributes:
            return np.asarray(attributes[name], kind)
    raise ModelError("a Constant that holds no numbers", where=where)


def _spread(scale: Array, shape: tuple[int, ...], axis: int, block: int, where: str) -> Array:
    """A scale for each element of a tensor: one for all, by index of an axis, or by blocks along it."""
    if scale.size == 1:
        return np.broadcast_to(scale.reshape(()), shape)
    if not -len(shape) <= axis < len(shape):
        raise ModelError(f"axis {axis} is not one of {shape}", where=where)
    axis %= len(shape)
    if block:
        return np.repeat(scale, block, axis=axis).take(range(shape[axis]), axis=axis)
    if scale.shape != (shape[axis],):
        raise ModelError(f"its {scale.shape} scales do not fit {shape} along axis {axis}", where=where)
    return np.broadcast_to(scale.reshape(*(-1 if i == axis else 1 for i in range(len(shape)))), shape)
