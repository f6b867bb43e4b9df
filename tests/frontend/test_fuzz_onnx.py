"""Damaged and hostile ONNX files: nothing but an error of presilicon may come of them, soon and in little memory."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper
from onnx_models import BOOL, FLOAT, INT64, Net, cnn, last, mlp, qdq, subgraph, transformer

from presilicon.dtypes import Formats
from presilicon.errors import PresiliconError
from presilicon.frontend.onnx_file import load_onnx

MOST_S = 2.0
"""One file may take this long (about 1 s on an idle machine)."""

MOST_KIB = 500 * 1024
"""Peak memory of all files together may grow by this."""

SIZES = (0, 1, -1, -(2**31), 7, 2**20, 2**31, 2**40, 2**53, 2**62, -(2**63))


def _control() -> Net:
    net = Net()
    x, flag = net.input("x", "batch", 8), net.input("flag", kind=BOOL)
    net.weight("w", 8, 8)
    then = subgraph([helper.make_node("Relu", [x], ["r"])], {}, ["r"])
    other = subgraph([helper.make_node("MatMul", [x, "w"], ["r"])], {}, ["r"])
    x = net.op("If", flag, then_branch=then, else_branch=other)
    body = subgraph(
        [helper.make_node("Identity", ["c"], ["go"]), helper.make_node("MatMul", ["h", "w"], ["m"])],
        {"i": (INT64, ()), "c": (BOOL, ()), "h": (FLOAT, (1, 8))}, ["go", "m"],
    )  # fmt: skip
    x = net.op("Loop", net.constant("trips", 5), "", x, body=body)
    step = subgraph([helper.make_node("Relu", ["t"], ["y"])], {"t": (FLOAT, (1,))}, ["y"])
    net.op("Scan", x, body=step, num_scan_inputs=1, scan_input_axes=[1])
    return net


def _zoo() -> Net:
    """One of each kind of operator that reads its sizes from data or from attributes."""
    net = Net(com_microsoft=1)
    x = net.input("x", "batch", 8, 12, 12)
    x = net.op("Resize", x, "", net.constant("scales", [1, 1, 2, 2], np.float32), mode="linear")
    x = net.op("ConvTranspose", x, net.weight("ct", 8, 4, 3, 3), strides=[2, 2], group=1)
    x = net.op("AveragePool", net.op("Pad", x, net.constant("pads", [0, 0, 1, 1, 0, 0, 1, 1])), kernel_shape=[3, 3])
    x = net.op("Reshape", x, net.constant("shape", [0, 4, -1]))
    x = net.op("Slice", x, net.constant("a", [0]), net.constant("b", [64]), net.constant("axes", [2]))
    x = net.op("TopK", x, net.constant("k", [5]), outputs=2)
    x = net.op("Tile", net.op("Expand", x, net.constant("e", [1, 4, 5])), net.constant("times", [1, 2, 1]))
    w, r = net.weight("w", 1, 16, 5), net.weight("r", 1, 16, 4)
    x = net.op("LSTM", net.op("Transpose", x, perm=[1, 0, 2]), w, r, hidden_size=4)
    x = net.op("Einsum", net.op("Squeeze", x, net.constant("one", [1])), net.weight("ein", 4, 6), equation="tbh,hk->tbk")
    y = net.op("Range", net.constant("r0", 0), net.constant("r1", 8), net.constant("r2", 1))
    x = net.op("Gather", x, y, axis=0)
    x = net.op("MatMulNBits", x, net.weight("q", 6, 1, 8, kind=np.uint8), net.weight("qs", 6), K=6, N=6, bits=4, block_size=16,
               domain="com.microsoft")  # fmt: skip
    net.op("ReduceSum", x, net.op("Cast", net.op("ConstantOfShape", net.constant("n", [1])), to=INT64))
    return net


MODELS: dict[str, Callable[[], Net]] = {
    "mlp": mlp, "cnn": cnn, "transformer": transformer, "qdq": qdq, "control": _control, "zoo": _zoo,
}  # fmt: skip


def _shrunk(net: Net) -> onnx.ModelProto:
    model = net.model(last(net))
    assert len(model.graph.node) > 2
    return model


def _nodes(model: onnx.ModelProto) -> list[Any]:
    inner = [n for node in model.graph.node for a in node.attribute for n in a.g.node]
    return [*model.graph.node, *inner]


def _edit(model: onnx.ModelProto, rng: random.Random) -> str:
    """One field of the model changed; what was done."""
    graph, node = model.graph, rng.choice(_nodes(model))
    what = rng.choice(
        ["dims", "input", "op", "drop attribute", "attribute", "dangle", "cycle", "domain", "opset", "delete", "duplicate",
         "weights", "type", "swap", "output", "ints", "many inputs", "nest", "shuffle", "external", "empty"]
    )  # fmt: skip
    weights = graph.initializer
    if what == "dims" and weights:
        tensor = rng.choice(weights)
        if tensor.dims:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
            if rng.random() < 0.7:
                tensor.ClearField("raw_data")
    elif what == "input":
        dims = rng.choice(graph.input).type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice(SIZES)
    elif what == "op":
        others = ["Tile", "Range", "ConstantOfShape", "Expand", "NonZero", "OneHot", "EyeLike", "GRU", "Attention", "Scan",
                  "If", "Einsum", "Split", "Unique", *(n.op_type for n in _nodes(model))]  # fmt: skip
        node.op_type = rng.choice(others)
    elif what == "drop attribute" and node.attribute:
        del node.attribute[rng.randrange(len(node.attribute))]
    elif what == "attribute" and node.attribute:
        attribute = rng.choice(node.attribute)
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(SIZES)
        elif attribute.type == onnx.AttributeProto.INT:
            attribute.i = rng.choice(SIZES)
        else:
            attribute.type = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8])
    elif what == "ints":
        name = rng.choice(["axis", "group", "kernel_shape", "strides", "pads", "perm", "axes", "hidden_size", "block_size"])
        size = rng.choice(SIZES)
        node.attribute.append(helper.make_attribute(name, rng.choice([size, [size] * rng.randrange(1, 9)])))
    elif what == "dangle" and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(["nowhere", "", *(t.name for t in weights)])
    elif what == "cycle" and node.input:
        node.input[0] = rng.choice(_nodes(model)).output[0]
    elif what == "domain":
        node.domain = rng.choice(["com.microsoft", "ai.onnx", "ai.onnx.ml", "x", "\0"])
    elif what == "opset":
        model.opset_import[0].version = rng.choice([0, 1, 6, 9, 11, 13, 17, 99, -1, 2**40])
    elif what == "delete":
        del graph.node[rng.randrange(len(graph.node))]
    elif what == "duplicate":
        graph.node.append(rng.choice(graph.node))
    elif what == "weights" and weights:
        tensor = rng.choice(weights)
        tensor.raw_data = bytes(rng.randrange(256) for _ in range(rng.choice([0, 1, 8, min(len(tensor.raw_data), 64)])))
    elif what == "type" and weights:
        rng.choice(weights).data_type = rng.choice([0, 2, 7, 8, 9, 14, 22, 99])
    elif what == "swap" and len(node.input) > 1:
        node.input[0], node.input[1] = node.input[1], node.input[0]
    elif what == "output" and node.output:
        node.output[0] = rng.choice(["", "x", rng.choice(_nodes(model)).output[0]])
    elif what == "many inputs":
        node.input.extend([node.input[0] if node.input else "x"] * rng.choice([1, 5, 300]))
    elif what == "nest":
        body = onnx.GraphProto()
        body.CopyFrom(graph)
        node.op_type, node.domain = "If", ""
        del node.attribute[:]
        node.attribute.extend([helper.make_attribute("then_branch", body), helper.make_attribute("else_branch", body)])
    elif what == "shuffle":
        nodes = list(graph.node)
        rng.shuffle(nodes)
        del graph.node[:]
        graph.node.extend(nodes)
    elif what == "external" and weights:
        tensor = rng.choice(weights)
        tensor.data_location = 1
        place = rng.choice(["/etc/hosts", "..", ".", "m.onnx"])
        tensor.external_data.add(key=rng.choice(["location", "x"]), value=place)
    elif what == "empty":
        graph.ClearField(rng.choice(["node", "input", "output", "initializer"]))
    return what


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes cut off, copied or dropped."""
    result = bytearray(data)
    how = rng.randrange(4)
    if how == 0:
        for _ in range(rng.choice([1, 2, 8, 64])):
            at = rng.randrange(len(result))
            result[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        del result[rng.randrange(len(result)) :]
    elif how == 2:
        at = rng.randrange(len(result))
        result[at:at] = result[: rng.randrange(200)]
    else:
        at = rng.randrange(len(result))
        del result[at : at + rng.randrange(1, 50)]
    return bytes(result)


def _try(path: Path, data: bytes) -> bool:
    """Whether the file loads; raises whatever presilicon does not answer for."""
    path.write_bytes(data)
    start = time.perf_counter()
    try:
        network = load_onnx(path, {"tokens": 6} if b"tokens" in data else {})
        for batch in (1, 3, np.array([2, 5])):
            graph = network.inference(batch=batch, formats=Formats())
            assert np.all(np.isfinite(np.asarray(graph.macs, dtype=float)))
            assert np.all(np.isfinite(np.asarray(graph.unique_bytes, dtype=float)))
        return True
    except PresiliconError:
        return False
    finally:
        assert time.perf_counter() - start < MOST_S


@pytest.mark.parametrize("name", MODELS)
def test_the_sound_model_loads(name: str, tmp_path: Path) -> None:
    assert _try(tmp_path / "m.onnx", _shrunk(MODELS[name]()).SerializeToString())


@pytest.mark.parametrize("name", MODELS)
def test_edited_fields(name: str, tmp_path: Path) -> None:
    rng = random.Random(f"edit {name}")
    sound = _shrunk(MODELS[name]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = 0
    for _ in range(150):
        model = onnx.ModelProto()
        model.CopyFrom(sound)
        try:
            done = [_edit(model, rng) for _ in range(rng.choice([1, 1, 2, 4]))]
        except (ValueError, TypeError, IndexError):  # protobuf itself refuses the edit
            continue
        try:
            loaded += _try(tmp_path / "m.onnx", model.SerializeToString())
        except Exception as problem:
            problem.add_note(f"{name}: {done}")
            raise
    assert loaded  # some edits do no harm
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


@pytest.mark.parametrize("name", MODELS)
def test_damaged_bytes(name: str, tmp_path: Path) -> None:
    rng = random.Random(f"bytes {name}")
    sound = _shrunk(MODELS[name]())
    for tensor in sound.graph.initializer:  # small weights: damage should hit the structure
        if len(tensor.raw_data) > 4096:
            del tensor.dims[:]
            tensor.dims.append(1)
            tensor.raw_data = tensor.raw_data[:4]
    data = sound.SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(120):
        _try(tmp_path / "m.onnx", _damaged(data, rng))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


@pytest.mark.parametrize("size", [2**31, 2**40, 2**52])
@pytest.mark.parametrize("kind", ["ConstantOfShape", "Expand", "Tile", "Range", "Resize", "OneHot", "Pad", "EyeLike"])
def test_huge_shapes_are_only_multiplied(kind: str, size: int, tmp_path: Path) -> None:
    net = Net()
    n = net.constant("n", [size])
    if kind == "ConstantOfShape":
        y = net.op(kind, n)
    elif kind in ("Expand", "Tile"):
        y = net.op(kind, net.constant("v", [1.0], np.float32), n)
    elif kind == "Range":
        y = net.op(kind, net.constant("a", 0), net.constant("b", size), net.constant("c", 1))
    elif kind == "Resize":
        y = net.op(kind, net.weight("v", 1), "", "", n)
    elif kind == "OneHot":
        y = net.op(kind, net.constant("i", [1]), net.constant("d", size), net.constant("o", [0, 1]))
    elif kind == "EyeLike":
        y = net.op(kind, net.op("ConstantOfShape", net.constant("m", [1, size])))
    else:
        y = net.op(kind, net.constant("v", [1.0], np.float32), net.constant("p", [0, size]))
    net.op("Mul", net.op("Cast", y, to=FLOAT), net.input("x", 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _try(tmp_path / "m.onnx", net.model(last(net)).SerializeToString())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KIB


def test_a_chain_of_doublings_is_refused(tmp_path: Path) -> None:
    net = Net()
    x = net.input("x", 1, 2)
    for _ in range(64):
        x = net.op("Concat", x, x, axis=1)
    assert not _try(tmp_path / "m.onnx", net.model(last(net)).SerializeToString())


def test_a_long_chain_is_quick(tmp_path: Path) -> None:
    net = Net()
    x = net.op("MatMul", net.input("x", "batch", 8), net.weight("w", 8, 8))
    for _ in range(2000):
        x = net.op("Relu", x)
    path = net.save(tmp_path / "m.onnx", last(net))
    start = time.perf_counter()
    load_onnx(path)
    assert time.perf_counter() - start < 4 * MOST_S
