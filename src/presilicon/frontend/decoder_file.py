"""Writes decoders with a KV cache as ONNX files, from a checkpoint's weights by their names.

Inputs: ``input_ids`` and ``position_ids`` int64 (1, sequence), ``past_key_values.N.key`` and ``.value`` fp32
(1, kv_heads, past, dim). Outputs: ``logits`` fp32 (1, sequence, vocabulary), ``token`` int64 (1, sequence), the arg-max of
each row, and ``present.N.key`` and ``.value``, (1, kv_heads, past + sequence, dim). These are the names of Hugging Face
Optimum's exports; the operators are those of opset 20 and no others, so every ONNX runtime takes the file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError, ModelError
from presilicon.frontend.decoder_shape import DecoderShape

OPSET, IR_VERSION = 20, 9
# Contents of more bytes than this go to a file of their own beside the graph: a protobuf message ends at 2 GiB.
MOST_INSIDE_BYTES = 1 << 30
MASKED = float(np.finfo(np.float32).min)
STORED = {"float32": np.float32, "float16": np.float16}


def write_decoder(
    path: str | Path, shape: DecoderShape, weights: Mapping[str, NDArray[Any]], *, stored: str = "float32"
) -> tuple[Path, ...]:
    """Writes the decoder at ``path``; the files that were written: the graph and, of large models, its ``.data``.

    ``weights`` are asked for one at a time, by the names of ``shape.weights()``. ``stored`` float16 halves the file: the
    graph casts what it reads to fp32. ModelError where a weight is missing or of another shape, or not finite; InputError
    where the files cannot be written, and then nothing is left behind.
    """
    if stored not in STORED:
        raise ModelError(f"weights cannot be stored as {stored!r}", hint=", ".join(STORED))
    target = Path(path)
    outside = shape.parameters * np.dtype(STORED[stored]).itemsize > MOST_INSIDE_BYTES
    beside = f"{target.name}.data" if outside else ""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.absolute().parent) as part:
            writer = _Writer(shape, weights, STORED[stored], Path(part) / beside if beside else None)
            content = writer.model()
            (Path(part) / target.name).write_bytes(content)
            made = [name for name in (beside, target.name) if name]
            for name in made:
                os.replace(Path(part) / name, target.parent / name)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(path), hint="an existing folder one may write in"
        ) from None
    return tuple(target.parent / name for name in reversed(made))


class _Writer:
    """Collects nodes; a value is named after what made it."""

    def __init__(self, shape: DecoderShape, weights: Mapping[str, Any], stored: type, outside: Path | None) -> None:
        self.shape, self.weights, self.stored, self.outside = shape, weights, stored, outside
        self.shapes = shape.weights()
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.outputs: list[Any] = []
        self.offset = 0

    # Pieces -----------------------------------------------------------------------------------------------------------

    def node(self, op: str, inputs: list[str], name: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; its output's name, or names."""
        from onnx import helper

        made = [name] if outputs == 1 else [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, name: str, values: Any) -> str:
        """A small constant, once for all who ask for the name."""
        from onnx import numpy_helper

        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def number(self, value: float) -> str:
        """An fp32 scalar."""
        return self.constant(f"number.{np.float32(value)!s}", np.float32(value))

    def sizes(self, *values: int) -> str:
        """An int64 list: the sizes of a Reshape, axes, bounds of a Slice."""
        return self.constant("sizes." + ".".join(map(str, values)), np.array(values, np.int64))

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A weight of the checkpoint as an fp32 value."""
        from onnx import TensorProto

        if name in self.initializers:
            return name if self.stored is np.float32 else f"{name}.fp32"
        try:
            found = np.asarray(self.weights[name])
        except KeyError:
            raise ModelError("the checkpoint has no such weight", where=name) from None
        if found.shape != self.shapes[name]:
            raise ModelError(f"has shape {found.shape}, not {self.shapes[name]}", where=name)
        if not np.isfinite(found).all():
            raise ModelError("has a NaN or an infinity", where=name)
        values: NDArray[Any] = np.ascontiguousarray(found.T if transposed else found, self.stored)
        tensor = TensorProto(name=name, dims=values.shape)
        tensor.data_type = TensorProto.FLOAT if self.stored is np.float32 else TensorProto.FLOAT16
        if self.outside is None:
            tensor.raw_data = values.tobytes()
        else:
            self._write_outside(tensor, values)
        self.initializers[name] = tensor
        if self.stored is np.float32:
            return name
        return str(self.node("Cast", [name], f"{name}.fp32", to=TensorProto.FLOAT))

    def _write_outside(self, tensor: Any, values: NDArray[Any]) -> None:
        from onnx import TensorProto

        assert self.outside is not None
        with self.outside.open("ab") as file:
            file.write(values.data)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.outside.name), ("offset", self.offset), ("length", values.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.offset += values.nbytes

    def linear(self, x: str, name: str, at: str) -> str:
        """A matrix of the checkpoint, with its bias where GPT-2 has one."""
        llama = self.shape.family == "llama"
        made = self.node("MatMul", [x, self.weight(f"{name}.weight", transposed=llama)], at)
        return str(made if llama else self.node("Add", [made, self.weight(f"{name}.bias")], f"{at}.bias"))

    def norm(self, x: str, name: str, at: str) -> str:
        """RMS norm or layer norm over the last axis."""
        if self.shape.family == "gpt2":
            inputs = [x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
            return str(self.node("LayerNormalization", inputs, at, axis=-1, epsilon=self.shape.epsilon))
        square = self.node("Mul", [x, x], f"{at}.square")
        mean = self.node("ReduceMean", [square, self.sizes(-1)], f"{at}.mean", keepdims=1)
        root = self.node("Sqrt", [self.node("Add", [mean, self.number(self.shape.epsilon)], f"{at}.epsilon")], f"{at}.root")
        unit = self.node("Mul", [x, self.node("Reciprocal", [root], f"{at}.reciprocal")], f"{at}.unit")
        return str(self.node("Mul", [unit, self.weight(f"{name}.weight")], at))

    # Attention --------------------------------------------------------------------------------------------------------

    def heads(self, x: str, count: int, at: str) -> str:
        """(1, sequence, count * dim) to (1, count, sequence, dim)."""
        split = self.node("Reshape", [x, self.sizes(0, 0, count, self.shape.dim)], f"{at}.split")
        return str(self.node("Transpose", [split], f"{at}.heads", perm=[0, 2, 1, 3]))

    def rotate(self, x: str, at: str) -> str:
        """Rotary positions: the two halves of a head are the parts of its pairs."""
        half = self.shape.dim // 2
        low = self.node("Slice", [x, self.sizes(0), self.sizes(half), self.sizes(-1)], f"{at}.low")
        high = self.node("Slice", [x, self.sizes(half), self.sizes(2 * half), self.sizes(-1)], f"{at}.high")
        turned = self.node("Concat", [self.node("Neg", [high], f"{at}.negative"), low], f"{at}.turned", axis=-1)
        parts = [self.node("Mul", [x, "cos"], f"{at}.cos"), self.node("Mul", [turned, "sin"], f"{at}.sin")]
        return str(self.node("Add", parts, f"{at}.rotated"))

    def cached(self, new: str, layer: int, what: str) -> str:
        """Keys or values of all positions, each query head with its own."""
        shape, at = self.shape, f"layers.{layer}.{what}"
        present = self.node("Concat", [f"past_key_values.{layer}.{what}", new], f"present.{layer}.{what}", axis=2)
        share = shape.heads // shape.kv_heads
        if share == 1:
            return str(present)
        apart = self.node("Unsqueeze", [present, self.sizes(2)], f"{at}.apart")
        repeated = self.node("Expand", [apart, self.sizes(1, 1, share, 1, 1)], f"{at}.repeated")
        return str(self.node("Reshape", [repeated, self.sizes(0, shape.heads, -1, shape.dim)], f"{at}.shared"))

    def attention(self, q: str, k: str, v: str, layer: int) -> str:
        """Softmax attention over the cache and the new tokens: (1, sequence, heads * dim)."""
        shape, at = self.shape, f"layers.{layer}.attention"
        q = self.heads(q, shape.heads, f"layers.{layer}.q")
        k = self.heads(k, shape.kv_heads, f"layers.{layer}.k")
        v = self.heads(v, shape.kv_heads, f"layers.{layer}.v")
        if shape.family == "llama":
            q, k = self.rotate(q, f"layers.{layer}.q"), self.rotate(k, f"layers.{layer}.k")
        k, v = self.cached(k, layer, "key"), self.cached(v, layer, "value")
        if layer == 0:
            self._mask()
        scores = self.node("MatMul", [q, self.node("Transpose", [k], f"{at}.keys", perm=[0, 1, 3, 2])], f"{at}.products")
        scaled = self.node("Mul", [scores, self.number(shape.dim**-0.5)], f"{at}.scaled")
        masked = self.node("Add", [scaled, "mask"], f"{at}.masked")
        mixed = self.node("MatMul", [self.node("Softmax", [masked], f"{at}.softmax", axis=-1), v], f"{at}.mixed")
        back = self.node("Transpose", [mixed], f"{at}.tokens", perm=[0, 2, 1, 3])
        return str(self.node("Reshape", [back, self.sizes(0, 0, shape.heads * shape.dim)], at))

    def _mask(self) -> None:
        """``mask`` (1, 1, sequence, keys): nothing looks at later positions than its own."""
        length = self.node("Shape", ["present.0.key"], "mask.length", start=2, end=3)
        zero, one = self.constant("zero", np.int64(0)), self.constant("one", np.int64(1))
        keys = self.node("Range", [zero, self.node("Squeeze", [length], "mask.keys"), one], "mask.positions")
        own = self.node("Unsqueeze", ["position_ids", self.sizes(1, 3)], "mask.own")
        seen = self.node("LessOrEqual", [keys, own], "mask.seen")
        self.node("Where", [seen, self.number(0.0), self.number(MASKED)], "mask")

    # The whole --------------------------------------------------------------------------------------------------------

    def llama(self) -> str:
        """Nodes up to the last norm; the embedding's name."""
        shape = self.shape
        angles = np.outer(np.arange(shape.context), shape.rope_base ** -(np.arange(0, shape.dim, 2) / shape.dim))
        for name, values in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
            table = self.constant(f"{name}.table", np.tile(values, 2).astype(np.float32))
            row = self.node("Gather", [table, "position_ids"], f"{name}.rows")
            self.node("Unsqueeze", [row, self.sizes(1)], name)
        x = self.node("Gather", [self.weight("model.embed_tokens.weight"), "input_ids"], "embedding")
        for i in range(shape.layers):
            of, at = f"model.layers.{i}", f"layers.{i}"
            h = self.norm(x, f"{of}.input_layernorm", f"{at}.norm")
            q, k, v = (self.linear(h, f"{of}.self_attn.{c}_proj", f"{at}.{c}") for c in "qkv")
            out = self.linear(self.attention(q, k, v, i), f"{of}.self_attn.o_proj", f"{at}.o")
            x = self.node("Add", [x, out], f"{at}.residual")
            h = self.norm(x, f"{of}.post_attention_layernorm", f"{at}.post_norm")
            gate = self.linear(h, f"{of}.mlp.gate_proj", f"{at}.gate")
            silu = self.node("Mul", [gate, self.node("Sigmoid", [gate], f"{at}.sigmoid")], f"{at}.silu")
            mixed = self.node("Mul", [silu, self.linear(h, f"{of}.mlp.up_proj", f"{at}.up")], f"{at}.gated")
            x = self.node("Add", [x, self.linear(mixed, f"{of}.mlp.down_proj", f"{at}.down")], f"{at}.out")
        self.norm(x, "model.norm", "norm")
        return "model.embed_tokens.weight"

    def gpt2(self) -> str:
        """Nodes up to the last norm; the embedding's name."""
        token = self.node("Gather", [self.weight("wte.weight"), "input_ids"], "embedding.token")
        position = self.node("Gather", [self.weight("wpe.weight"), "position_ids"], "embedding.position")
        x = self.node("Add", [token, position], "embedding")
        for i in range(self.shape.layers):
            of, at = f"h.{i}", f"layers.{i}"
            h = self.linear(self.norm(x, f"{of}.ln_1", f"{at}.norm"), f"{of}.attn.c_attn", f"{at}.qkv")
            q, k, v = self.node("Split", [h], f"{at}.parts", outputs=3, axis=-1, num_outputs=3)
            out = self.linear(self.attention(q, k, v, i), f"{of}.attn.c_proj", f"{at}.o")
            x = self.node("Add", [x, out], f"{at}.residual")
            h = self.linear(self.norm(x, f"{of}.ln_2", f"{at}.post_norm"), f"{of}.mlp.c_fc", f"{at}.up")
            h = self.node("Gelu", [h], f"{at}.gelu", approximate="tanh")
            x = self.node("Add", [x, self.linear(h, f"{of}.mlp.c_proj", f"{at}.down")], f"{at}.out")
        self.norm(x, "ln_f", "norm")
        return "wte.weight"

    def model(self) -> bytes:
        """The file's content."""
        from onnx import TensorProto, helper

        shape = self.shape
        embedding = self.llama() if shape.family == "llama" else self.gpt2()
        if shape.tied:
            output = self.node("Transpose", [self.weight(embedding)], "lm_head.tied", perm=[1, 0])
        else:
            output = self.weight("lm_head.weight", transposed=True)
        self.node("MatMul", ["norm", output], "logits")
        self.node("ArgMax", ["logits"], "token", axis=-1, keepdims=0)
        cache = [f"{i}.{what}" for i in range(shape.layers) for what in ("key", "value")]

        def values(prefix: str, length: str) -> list[Any]:
            sizes = (1, shape.kv_heads, length, shape.dim)
            return [helper.make_tensor_value_info(f"{prefix}.{name}", TensorProto.FLOAT, sizes) for name in cache]

        ids = [helper.make_tensor_value_info(n, TensorProto.INT64, (1, "sequence")) for n in ("input_ids", "position_ids")]
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, "sequence", shape.vocabulary))
        token = helper.make_tensor_value_info("token", TensorProto.INT64, (1, "sequence"))
        graph = helper.make_graph(
            self.nodes,
            f"{shape.family}-decoder",
            ids + values("past_key_values", "past"),
            [logits, token, *values("present", "total")],
            list(self.initializers.values()),
        )
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="presilicon"
        )
        return bytes(made.SerializeToString())
