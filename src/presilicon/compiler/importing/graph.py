"""The float graph that is compiled: nodes in order, every value's shape known, everything constant there as an array."""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import CheckError, ModelError

Array = NDArray[Any]
Type = tuple[tuple[int, ...], int]
"""Shape and ONNX element type."""

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
# Constants from so many bytes on stay outside of a model for ONNX Runtime: a protobuf message ends at 2 GiB.
APART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Node:
    """One operator; ``sources`` are the nodes of the file that it stands for, itself where it is none of ours."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    domain: str = ""
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        given = ", ".join(f"{k}={_short(v)}" for k, v in sorted(self.attributes.items()))
        return f"{', '.join(self.outputs)} = {self.op}({', '.join(self.inputs)}{'; ' if given else ''}{given})"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True)
class FloatGraph:
    """An inference graph without control flow.

    ``types`` holds every value, constants too. ``steps``: for a constant that the file keeps quantised, the step between
    two of its levels at each element (an array of its shape). ``given``: scale and int8 zero point of a value that the file
    quantises. ``versions``: operator set by domain. ``all_nodes``: name and operator of the file's nodes, the folded ones too.
    ``bounds``: of a value that the file does not have, the one whose range it has, or the range.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    types: Mapping[str, Type]
    versions: Mapping[str, int]
    steps: Mapping[str, Array] = field(default_factory=dict)
    given: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    all_nodes: tuple[tuple[str, str], ...] = ()
    bounds: Mapping[str, str | tuple[float, float]] = field(default_factory=dict)

    # Look-ups ---------------------------------------------------------------------------------------------------------

    @cached_property
    def makers(self) -> Mapping[str, Node]:
        """The node that makes each value."""
        return {output: node for node in self.nodes for output in node.outputs if output}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value."""
        return self.types[name][0]

    def is_float(self, name: str) -> bool:
        """Whether a value is of real numbers."""
        return self.types[name][1] == FLOAT

    def number(self, name: str) -> float | None:
        """The number that a constant holds in all its elements; None where it is no such constant."""
        found = self.constants.get(name)
        if found is None or not found.size or found.dtype == np.bool_:
            return None
        first = found.reshape(-1)[0]
        return float(first) if found.size == 1 or bool((found == first).all()) else None

    def depends(self, name: str) -> frozenset[str]:
        """The graph's inputs that a value is computed from."""
        return self._dependencies.get(name, frozenset())

    @cached_property
    def _dependencies(self) -> Mapping[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {name: frozenset((name,)) for name in self.inputs}
        for node in self.nodes:
            of = frozenset().union(*(found.get(name, frozenset()) for name in node.inputs))
            found |= dict.fromkeys(node.outputs, of)
        return found

    # Changes ----------------------------------------------------------------------------------------------------------

    def rewritten(
        self, nodes: Iterable[Node], constants: Mapping[str, Array] | None = None, types: Mapping[str, Type] | None = None
    ) -> FloatGraph:
        """The graph with other nodes (what nothing reads is dropped), and more constants and values."""
        more = constants or {}
        known = {**self.types, **{name: type_of(array) for name, array in more.items()}, **(types or {})}
        kept = _live(tuple(nodes), {value for _, value in self.outputs})
        read = {name for node in kept for name in node.inputs} | {value for _, value in self.outputs}
        all_constants = {name: array for name, array in {**self.constants, **more}.items() if name in read}
        made = {name for node in kept for name in node.outputs} | set(self.inputs) | all_constants.keys()
        graph = replace(self, nodes=kept, constants=all_constants, types={n: t for n, t in known.items() if n in made})
        return graph.verified()

    def verified(self) -> FloatGraph:
        """Itself; CheckError where a node reads what nothing before it makes, or a value has no shape."""
        known = set(self.inputs) | set(self.constants)
        for node in self.nodes:
            for name in node.inputs:
                if name and name not in known:
                    raise CheckError(f"{name} is read before it is made", where=node.name)
            known |= set(node.outputs)
        for name in known - {""}:
            if name not in self.types:
                raise CheckError(f"{name} has no shape", where=self.name)
        for name, value in self.outputs:
            if value not in known:
                raise CheckError(f"output {name} is never made", where=self.name)
        return self

    def __str__(self) -> str:
        lines = [f"input {name} {list(self.shape(name))}" for name in self.inputs]
        lines += [f"{node}  : {list(self.shape(node.outputs[0]))}" for node in self.nodes]
        return "\n".join([*lines, *(f"output {name} = {value}" for name, value in self.outputs)])

    # ONNX -------------------------------------------------------------------------------------------------------------

    def model(self, inputs: Sequence[str], outputs: Sequence[str], apart: Apart | None = None) -> Any:
        """The nodes between some values and others as an onnx ModelProto, its constants inside, large ones in ``apart``."""
        import onnx
        from onnx import helper, numpy_helper

        nodes = between(self, set(inputs), outputs)
        read = {name for node in nodes for name in node.inputs} | set(outputs)
        stored, halves = [], dict[str, str]()
        for name in sorted(read & self.constants.keys()):
            array = self.constants[name]
            half = array.dtype == np.float16 and self.is_float(name)
            if apart is None or array.nbytes < APART_BYTES:
                stored.append(numpy_helper.from_array(np.asarray(array, np.float32 if half else None, order="C"), name))
                continue
            key = f"{name}.stored" if half else name
            stored.append(apart.tensor(key, array))
            if half:
                halves[name] = key
        made = []
        for n in nodes:
            # Each is cast just before it is read first, so that few are there in fp32 at a time.
            casts = [(name, halves.pop(name)) for name in n.inputs if name in halves]
            made += [helper.make_node("Cast", [key], [name], name=f"{name}.cast", to=FLOAT) for name, key in casts]
            made.append(helper.make_node(n.op, n.inputs, n.outputs, name=n.name, domain=n.domain, **n.attributes))
        graph = helper.make_graph(
            made,
            "part",
            [helper.make_tensor_value_info(name, self.types[name][1], self.shape(name)) for name in inputs],
            [helper.make_tensor_value_info(name, self.types[name][1], self.shape(name)) for name in outputs],
            initializer=stored,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.versions.items()]
        model: Any = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = min(model.ir_version, onnx.IR_VERSION, 10)
        return model


@dataclass(slots=True)
class Apart:
    """Large constants that stay outside of a model for ONNX Runtime, as they are stored.

    ``folder``: of the files that hold those which are mapped into memory; ``arrays``: the others by name.
    """

    folder: str = ""
    arrays: dict[str, Array] = field(default_factory=dict)

    def tensor(self, name: str, array: Array) -> Any:
        """The external TensorProto of a constant."""
        import onnx

        tensor = onnx.TensorProto(
            name=name, dims=array.shape, data_type=onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        )  # fmt: skip
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": "apart"}
        # A view of a mapping does not say where it begins.
        if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.filename is not None:
            folder, file = os.path.split(array.filename)
            if self.folder in ("", folder):
                self.folder = folder
                place = {"location": file, "offset": str(array.offset), "length": str(array.nbytes)}
        if "offset" not in place:
            self.arrays[name] = np.ascontiguousarray(array)
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        return tensor


def let_go(array: Array) -> None:
    """Gives back the memory of a constant that is mapped from a file: it is read again when it is needed."""
    whole: Any = array
    while isinstance(whole, np.ndarray):
        whole = whole.base
    if isinstance(whole, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        whole.madvise(mmap.MADV_DONTNEED)


def type_of(array: Array) -> Type:
    """Shape and element type of an array."""
    from onnx import helper

    return tuple(array.shape), int(helper.np_dtype_to_tensor_dtype(array.dtype))


def _live(nodes: tuple[Node, ...], wanted: set[str]) -> tuple[Node, ...]:
    """The nodes that lead to wanted values."""
    kept: list[Node] = []
    wanted = set(wanted)
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return tuple(reversed(kept))


def between(graph: FloatGraph, inputs: set[str], outputs: Sequence[str]) -> list[Node]:
    """The nodes that make some values from others, in order; ModelError where they need more than those and constants."""
    kept: list[Node] = []
    wanted = set(outputs) - inputs
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs) - inputs
    missing = wanted & set(graph.inputs)
    if missing:
        raise ModelError(f"needs input {', '.join(sorted(missing))}", where=graph.name)
    return kept[::-1]
