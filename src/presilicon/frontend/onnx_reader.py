"""Reads an ONNX file and what it stores outside itself, checks both, and drops what only the values of weights need."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import ModelError
from presilicon.frontend.onnx_operators import supported
from presilicon.frontend.onnx_values import ELEMENT_TYPES, KNOWN_ELEMENTS, MOST_ELEMENTS, stored_bytes

MOST_BYTES = (1 << 31) - 1
"""A protobuf message is at most 2 GiB; larger models keep their weights in external files."""

MOST_NODES = 200_000
"""Nodes after all functions are inlined; the largest published graphs have some 20,000."""


def read(path: Path) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The ModelProto without large contents, and the contents of small external tensors by name.

    Raises ModelError where the file is missing, too large, no ONNX file, or refers to data that is not there.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

    where = str(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError("is no file", where=where, hint="the path of an .onnx file")
        if size > MOST_BYTES:
            raise ModelError(f"has {size} bytes, more than a protobuf message can", where=where,
                             hint="save its weights as external data")  # fmt: skip
        data = path.read_bytes()
    except (OSError, ValueError) as problem:
        raise ModelError(f"cannot be read: {getattr(problem, 'strerror', None) or problem}", where=where) from problem
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as problem:
        raise ModelError("is no ONNX file, or is cut off or damaged", where=where) from problem
    if not model.HasField("graph") or not model.graph.node or not model.opset_import:
        raise ModelError("is no ONNX model: it has no graph with nodes and operator sets", where=where)
    _text_checked(model, where)
    _versions_checked(model, where)
    external = _tensors_checked(model, path)
    model = _inlined(model, where)
    _operators_checked(model, where)
    return model, external


def _text_checked(message: Any, where: str) -> None:
    """Refuses names that are not UTF-8: protobuf hands them over as bytes."""
    for field, content in message.ListFields():
        if field.type == field.TYPE_STRING:
            texts = [content] if isinstance(content, str | bytes) else content
            if any(isinstance(text, bytes) for text in texts):
                raise ModelError(f"is damaged: a {field.name} in it is no text", where=where)
        elif field.type == field.TYPE_MESSAGE:
            for part in content if hasattr(content, "append") else (content,):
                _text_checked(part, where)


def _versions_checked(model: Any, where: str) -> None:
    """Refuses operator sets that are missing, or newer than the installed onnx knows."""
    import onnx.defs

    newest = onnx.defs.onnx_opset_version()
    for o in model.opset_import:
        standard = o.domain in ("", "ai.onnx")
        if not 0 < o.version <= (newest if standard else 1 << 20):
            known = f"the installed onnx {onnx.__version__} knows versions up to {newest}" if standard else ""
            raise ModelError(f"uses version {o.version} of operator set {o.domain or 'ai.onnx'}", where=where, hint=known)


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    yield from _subgraphs(graph.node)


def _subgraphs(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for graph in attribute.graphs:
                yield from _graphs(graph)


def tensors(model: Any) -> Iterator[Any]:
    """Every TensorProto of the model, those of functions too."""
    graphs = list(_graphs(model.graph))
    for function in model.functions:
        graphs += _subgraphs(function.node)
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for nodes in (*(g.node for g in graphs), *(f.node for f in model.functions)):
        for node in nodes:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def _tensors_checked(model: Any, path: Path) -> dict[str, NDArray[Any]]:
    external: dict[str, NDArray[Any]] = {}
    for tensor in tensors(model):
        where = f"{path}: {tensor.name or 'a constant'}"
        elements = math.prod(tensor.dims)
        if any(d < 0 for d in tensor.dims) or max([elements, *tensor.dims]) > MOST_ELEMENTS:
            raise ModelError(f"its shape {list(tensor.dims)[:8]} is impossible", where=where)
        if tensor.data_location == 1:
            if tensor.data_type not in ELEMENT_TYPES:
                raise ModelError(f"external data of element type {tensor.data_type} is not counted", where=where)
            found = _external(tensor, elements, path, where)
            if found is not None:
                external[tensor.name] = found
        else:
            _in_file(tensor, elements, where)
    return external


def _in_file(tensor: Any, elements: int, where: str) -> None:
    """Checks that a tensor has as much data as its shape says, then drops what is too large to be followed."""
    if tensor.HasField("raw_data"):
        if tensor.data_type in ELEMENT_TYPES and len(tensor.raw_data) != stored_bytes(tensor.data_type, elements):
            raise ModelError(
                f"has {len(tensor.raw_data)} bytes of data, its shape needs {stored_bytes(tensor.data_type, elements)}",
                where=where,
            )
        if elements > KNOWN_ELEMENTS:
            tensor.ClearField("raw_data")
        return
    for name in ("float_data", "int64_data", "double_data", "uint64_data"):
        given = len(getattr(tensor, name))
        if given and given not in (elements, 2 * elements):  # complex numbers take two
            raise ModelError(f"has {given} elements, its shape needs {elements}", where=where)
        if elements > KNOWN_ELEMENTS:
            tensor.ClearField(name)
    if elements > KNOWN_ELEMENTS:
        tensor.ClearField("int32_data")


def _external(tensor: Any, elements: int, path: Path, where: str) -> NDArray[Any] | None:
    """Checks a tensor's external file; its contents where it is small (shapes may be kept outside too)."""
    entry = {e.key: e.value for e in tensor.external_data}
    location = entry.get("location", "")
    folder = path.parent.resolve()
    if not location or "\0" in location or Path(location).is_absolute():
        raise ModelError(f"external data at {location!r} is not a path inside the model's folder", where=where)
    try:
        offset, length = (_count(entry[key], where) if key in entry else None for key in ("offset", "length"))
        file = (folder / location).resolve()
        if not file.is_relative_to(folder):
            raise ModelError(f"external data at {location!r} lies outside the model's folder", where=where)
        if not file.is_file():
            raise ModelError(f"external data file {location!r} is missing", where=where)
        size, start, needed = file.stat().st_size, offset or 0, stored_bytes(tensor.data_type, elements)
        if length is not None and length != needed:
            raise ModelError(f"external data has a length of {length} bytes, its shape needs {needed}", where=where)
        if start + needed > size:
            raise ModelError(f"external data file {location!r} has {size} bytes, bytes {start} to {start + needed} are needed",
                             where=where)  # fmt: skip
        if elements > 1024 or tensor.data_type not in _PLAIN:
            return None
        with file.open("rb") as stream:
            stream.seek(start)
            return np.frombuffer(stream.read(needed), dtype=_PLAIN[tensor.data_type]).reshape(tuple(tensor.dims))
    except (OSError, RuntimeError) as problem:
        raise ModelError(f"external data at {location!r} cannot be read: {problem}", where=where) from problem


_PLAIN = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?"}


def _count(text: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ModelError(f"external data has an offset or length of {text[:20]!r}", where=where)
    return int(text)


def _inlined(model: Any, where: str) -> Any:
    """The model with its own functions written out; ModelError where they call each other in a circle or explode."""
    total = _expanded_nodes(model, where)
    if total > MOST_NODES:
        raise ModelError(f"has {total:.3g} nodes with its functions written out", where=where, hint=f"at most {MOST_NODES}")
    if not model.functions:
        return model
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, TypeError, onnx.checker.ValidationError) as problem:
        raise ModelError(f"its functions cannot be inlined: {' '.join(str(problem).split())[:200]}", where=where) from problem


def _expanded_nodes(model: Any, where: str) -> int:
    bodies: dict[tuple[str, str], list[Any]] = {(f.domain, f.name): [f.node, *(g.node for g in _subgraphs(f.node))]
                                                for f in model.functions}  # fmt: skip
    if len(bodies) != len(model.functions):
        raise ModelError("two of its functions have the same name", where=where)
    open_calls: set[tuple[str, str]] = set()

    @cache
    def nodes(key: tuple[str, str]) -> int:
        if key in open_calls or len(open_calls) > 200:
            raise ModelError(f"function {key[1]!r} calls itself or nests too deep", where=where)
        open_calls.add(key)
        total = sum(
            nodes((n.domain, n.op_type)) if (n.domain, n.op_type) in bodies else 1 for body in bodies[key] for n in body
        )
        open_calls.discard(key)
        return total

    main = [n for g in _graphs(model.graph) for n in g.node]
    return sum(nodes((n.domain, n.op_type)) if (n.domain, n.op_type) in bodies else 1 for n in main)


def _operators_checked(model: Any, where: str) -> None:
    """Refuses the model with all operators that have no rule, each with the nodes it stands at."""
    missing: Mapping[str, list[str]] = defaultdict(list)
    for graph in _graphs(model.graph):
        for position, node in enumerate(graph.node):
            if not supported(node.domain, node.op_type):
                key = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
                missing[key].append(node.name or f"node {position}")
    if not missing:
        return
    listed = "; ".join(
        f"{key} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})" for key, names in sorted(missing.items())
    )
    raise ModelError(f"has operators that are not supported: {listed}", where=where)
