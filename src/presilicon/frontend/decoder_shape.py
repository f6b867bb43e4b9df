"""The sizes of a decoder that is written as an ONNX file, and the names and shapes of its weights."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import ModelError

FAMILIES = ("llama", "gpt2")
# Standard deviation of random weights: the initializer_range of Hugging Face's configurations of both families.
SPREAD = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """A decoder of Llama's shape (RMS norm, rotary positions, SwiGLU) or GPT-2's (layer norm, learned positions, GELU).

    ``heads`` queries of ``dim`` share ``kv_heads`` keys and values; ``hidden`` is the width of the feed-forward part and
    ``context`` the most positions. ``tied``: the embedding is the output matrix too. ModelError where sizes do not match.
    """

    family: str = "llama"
    layers: int
    width: int
    heads: int
    kv_heads: int
    dim: int
    hidden: int
    vocabulary: int
    context: int
    tied: bool = True
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ModelError(f"there is no family {self.family!r} of decoders", hint=", ".join(FAMILIES))
        for name in ("layers", "width", "heads", "kv_heads", "dim", "hidden", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}", hint="at least 1")
        if self.heads % self.kv_heads:
            raise ModelError(f"{self.heads} heads cannot share {self.kv_heads} keys", hint="heads is a multiple of kv_heads")
        if self.family == "llama" and self.dim % 2:
            raise ModelError(f"dim is {self.dim}: rotary positions turn pairs", hint="an even number")
        if self.family == "gpt2" and (self.kv_heads != self.heads or self.dim * self.heads != self.width):
            raise ModelError(
                f"GPT-2's attention has {self.heads} heads of {self.dim}, {self.kv_heads} of them with keys, for {self.width}",
                hint="kv_heads = heads, and heads * dim = width",
            )

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights by their names in Hugging Face checkpoints: Llama's matrices (out, in), GPT-2's (in, out)."""
        return dict(_llama(self) if self.family == "llama" else _gpt2(self))

    @property
    def parameters(self) -> int:
        """Weights in all."""
        return sum(int(np.prod(shape)) for shape in self.weights().values())


def _llama(s: DecoderShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (s.vocabulary, s.width)
    for i in range(s.layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.input_layernorm.weight", (s.width,)
        yield f"{layer}.self_attn.q_proj.weight", (s.heads * s.dim, s.width)
        yield f"{layer}.self_attn.k_proj.weight", (s.kv_heads * s.dim, s.width)
        yield f"{layer}.self_attn.v_proj.weight", (s.kv_heads * s.dim, s.width)
        yield f"{layer}.self_attn.o_proj.weight", (s.width, s.heads * s.dim)
        yield f"{layer}.post_attention_layernorm.weight", (s.width,)
        yield f"{layer}.mlp.gate_proj.weight", (s.hidden, s.width)
        yield f"{layer}.mlp.up_proj.weight", (s.hidden, s.width)
        yield f"{layer}.mlp.down_proj.weight", (s.width, s.hidden)
    yield "model.norm.weight", (s.width,)
    if not s.tied:
        yield "lm_head.weight", (s.vocabulary, s.width)


def _gpt2(s: DecoderShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "wte.weight", (s.vocabulary, s.width)
    yield "wpe.weight", (s.context, s.width)
    for i in range(s.layers):
        yield f"h.{i}.ln_1.weight", (s.width,)
        yield f"h.{i}.ln_1.bias", (s.width,)
        yield f"h.{i}.attn.c_attn.weight", (s.width, 3 * s.width)
        yield f"h.{i}.attn.c_attn.bias", (3 * s.width,)
        yield f"h.{i}.attn.c_proj.weight", (s.width, s.width)
        yield f"h.{i}.attn.c_proj.bias", (s.width,)
        yield f"h.{i}.ln_2.weight", (s.width,)
        yield f"h.{i}.ln_2.bias", (s.width,)
        yield f"h.{i}.mlp.c_fc.weight", (s.width, s.hidden)
        yield f"h.{i}.mlp.c_fc.bias", (s.hidden,)
        yield f"h.{i}.mlp.c_proj.weight", (s.hidden, s.width)
        yield f"h.{i}.mlp.c_proj.bias", (s.width,)
    yield "ln_f.weight", (s.width,)
    yield "ln_f.bias", (s.width,)
    if not s.tied:
        yield "lm_head.weight", (s.vocabulary, s.width)


class RandomWeights(Mapping[str, NDArray[np.float32]]):
    """Weights of a shape, normally distributed; gains are 1 and biases 0.

    Each is made when it is asked for, from ``seed`` and its name: a model larger than memory can be written.
    """

    def __init__(self, shape: DecoderShape, seed: int = 0) -> None:
        self._shapes = shape.weights()
        self._seed = seed

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        shape = self._shapes[name]
        if len(shape) == 1:
            return np.full(shape, 0.0 if name.endswith(".bias") else 1.0, np.float32)
        draw = np.random.default_rng((self._seed, zlib.crc32(name.encode())))
        made = draw.standard_normal(shape, np.float32)
        made *= np.float32(SPREAD)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


# For measurements: 101 and 1,100 million weights. The second is TinyLlama-1.1B's shape, the first a narrower one of its kind.
LLAMA_100M = DecoderShape(layers=14, width=768, heads=12, kv_heads=4, dim=64, hidden=2048, vocabulary=16384, context=1024)
LLAMA_1B = DecoderShape(
    layers=22, width=2048, heads=32, kv_heads=4, dim=64, hidden=5632, vocabulary=32000, context=2048, tied=False
)
