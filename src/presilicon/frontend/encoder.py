"""Encoders of text, pictures and speech: BERT, ViT and Whisper, by their sizes and by name.

In int8 and fp8 their linears and attention both multiply in ``formats.activations``; norms read and write that format too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from presilicon.dtypes import Formats
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend.network import Builder, Feature, Network
from presilicon.graph import Graph, Size


def feed_forward(b: Builder, rows: Size, hidden: int, ffn: int, activation_ops: float = 8.0) -> None:
    """Two linears with an activation (GELU: about 8 operations) between, shared by chips along the inner width."""
    b.linear("ffn1", rows, hidden, ffn, split="output")
    b.epilogue("activation", rows * ffn, ops=activation_ops, split="output")
    b.linear("ffn2", rows, ffn, hidden, split="input")


def self_attention(b: Builder, sequences: Size, tokens: Size, hidden: int, heads: int, *, causal: bool = False) -> None:
    """Q, K and V in one matmul, attention, and the output projection, shared by chips along the heads."""
    rows = b.batch * sequences * tokens
    b.linear("qkv", rows, hidden, 3 * hidden, split="output")
    b.attention("attention", query=tokens, context=tokens, heads=heads, head_dim=hidden // heads, causal=causal,
                sequences=sequences)  # fmt: skip
    b.linear("out", rows, hidden, hidden, split="input")


def pre_norm_layer(b: Builder, tokens: Size, hidden: int, heads: int, ffn: int, *, causal: bool = False) -> None:
    """Attention and feed-forward with the norm before each; the norms add the residual and pass the sum on."""
    rows = b.batch * tokens
    b.norm("norm1", rows * hidden, 2 * hidden, reads=2.0, writes=2.0)
    self_attention(b, 1, tokens, hidden, heads, causal=causal)
    b.norm("norm2", rows * hidden, 2 * hidden, reads=2.0, writes=2.0)
    feed_forward(b, rows, hidden, ffn)


def check_heads(name: str, hidden: int, heads: int) -> None:
    """Raise ModelError where the hidden size does not divide into the heads."""
    if heads < 1 or hidden % heads:
        raise ModelError(f"a hidden size of {hidden} does not divide into {heads} heads", where=name)


def bert(
    *,
    name: str,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    vocabulary: int,
    positions: int = 512,
    token_types: int = 2,
    head: Literal["pooler", "span", "none"] = "pooler",
    tokens: int = 128,
    title: str = "",
    source: str = "",
) -> Network:
    """A BERT encoder: embeddings, ``layers`` of attention and feed-forward with the norm after each, and a head.

    ``head``: "pooler" (a linear and tanh on the first token), "span" (start and end scores of each token, for SQuAD)
    or "none". ``tokens`` is the length where none is asked for: 128 is an assumption, MLPerf's 384 is not. Layers:
    transformers/models/bert/modeling_bert.py. Raises ModelError where the heads do not divide.
    """
    check_heads(name, hidden, heads)

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        rows = batch * tokens
        # One kernel looks up word, position and type and adds them; only the words' rows differ from sample to sample.
        b.embedding("embedding", rows, hidden, vocabulary + positions + token_types)
        b.norm("embedding.norm", rows * hidden, 2 * hidden)
        with b.block("layer", times=layers):
            self_attention(b, 1, tokens, hidden, heads)
            b.norm("norm1", rows * hidden, 2 * hidden, reads=2.0)
            feed_forward(b, rows, hidden, ffn)
            b.norm("norm2", rows * hidden, 2 * hidden, reads=2.0)
        if head == "pooler":
            b.linear("pooler", batch, hidden, hidden)
            b.epilogue("pooler.tanh", batch * hidden, ops=8.0)
        elif head == "span":
            b.linear("span", rows, hidden, 2)
        return b.graph(name)

    return Network(name, title or f"BERT encoder, {layers} layers of {hidden}", source, build, tokens=tokens,
                   max_tokens=positions, sample="one sequence")  # fmt: skip


_BERT_CONFIG = "transformers/models/bert/configuration_bert.py (BertConfig's defaults are bert-base-uncased)"


def bert_base() -> Network:
    """bert-base-uncased with its pooler."""
    return bert(name="bert-base", layers=12, hidden=768, heads=12, ffn=3072, vocabulary=30522, title="BERT-base, uncased",
                source=_BERT_CONFIG)  # fmt: skip


def bert_large() -> Network:
    """MLPerf's BERT-large: 384 tokens, start and end scores of each token (SQuAD 1.1)."""
    return bert(name="bert-large", layers=24, hidden=1024, heads=16, ffn=4096, vocabulary=30522, head="span", tokens=384,
                title="BERT-large, uncased, SQuAD head",
                source="mlcommons/inference:language/bert/bert_config.json")  # fmt: skip


def minilm() -> Network:
    """all-MiniLM-L6-v2: a sentence to a vector of 384 (mean over tokens, unit length: left out, 2 operations an element)."""
    return bert(name="all-MiniLM-L6-v2", layers=6, hidden=384, heads=12, ffn=1536, vocabulary=30522,
                title="MiniLM sentence encoder, 6 layers",
                source="sentence-transformers/all-MiniLM-L6-v2:config.json")  # fmt: skip


def vit(
    *,
    name: str,
    layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    patch: int = 16,
    image: int = 224,
    channels: int = 3,
    classes: int = 1000,
    title: str = "",
    source: str = "",
) -> Network:
    """A vision transformer: square patches, a class token, pre-norm layers, a classifier (0 ``classes``: none).

    Layers: transformers/models/vit/modeling_vit.py. Raises ModelError where heads or patches do not divide.
    """
    check_heads(name, hidden, heads)
    if patch < 1 or image % patch:
        raise ModelError(f"an image of {image} does not divide into patches of {patch}", where=name)
    positions = (image // patch) ** 2 + 1

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        b = Builder(batch, formats)
        b.conv(Feature(channels, image, image), "patches", hidden, kernel=patch, stride=patch, bias=True, norm=False,
               activation=False)  # fmt: skip
        b.epilogue("positions", batch * positions * hidden, parameters=(positions + 1) * hidden)
        with b.block("layer", times=layers):
            pre_norm_layer(b, positions, hidden, heads, ffn)
        b.norm("norm", batch * positions * hidden, 2 * hidden, reads=2.0)
        if classes:
            b.linear("classifier", batch, hidden, classes)
        return b.graph(name)

    return Network(name, title or f"Vision transformer, {layers} layers of {hidden}", source, build, sample="one image")


_VIT_CODE = "pytorch/vision:torchvision/models/vision_transformer.py"


def vit_base() -> Network:
    """ViT-B/16 at 224 x 224, 1,000 classes."""
    return vit(name="vit-base-patch16-224", layers=12, hidden=768, heads=12, ffn=3072, title="ViT-Base, 16x16 patches, 224x224",
               source=f"{_VIT_CODE} (vit_b_16); ViTConfig's defaults")  # fmt: skip


def vit_large() -> Network:
    """ViT-L/16 at 224 x 224, 1,000 classes."""
    return vit(name="vit-large-patch16-224", layers=24, hidden=1024, heads=16, ffn=4096,
               title="ViT-Large, 16x16 patches, 224x224", source=f"{_VIT_CODE} (vit_l_16)")  # fmt: skip


def whisper(
    *,
    name: str,
    encoder_layers: int,
    decoder_layers: int,
    hidden: int,
    heads: int,
    ffn: int,
    vocabulary: int,
    mel_bins: int = 80,
    audio_positions: int = 1500,
    text_positions: int = 448,
    tokens: int = 224,
    title: str = "",
    source: str = "",
) -> Network:
    """Whisper on one window of 30 s: two convolutions, the encoder, and ``tokens`` decoder steps of one token each.

    The keys and values that the decoder makes from the encoder's result are made once and kept; in step i the decoder also
    attends to its own i positions, here to their mean in every step. The usual ``tokens`` are the most that the reference
    code samples for a window (text_positions / 2, openai/whisper:whisper/decoding.py, sample_len). Layers:
    transformers/models/whisper/modeling_whisper.py. Raises ModelError where the heads do not divide; its graphs take one
    number of tokens, else WorkloadError, as steps are repeats.
    """
    check_heads(name, hidden, heads)

    def build(batch: Size, tokens: Size, formats: Formats) -> Graph:
        steps = np.unique(np.asarray(tokens))
        if steps.size != 1:
            raise WorkloadError("its decoder steps are repeats, so it takes one number of tokens", where=name)
        b = Builder(batch, formats)
        _listen(b)
        with b.block("decoder.cross", times=decoder_layers):
            b.linear("kv", batch * audio_positions, hidden, 2 * hidden, bias=False, split="output")
            b.epilogue("kv.bias", batch * audio_positions * hidden, parameters=hidden, split="output")  # keys have none
        b.hold(2 * decoder_layers * batch * (audio_positions + steps[0]) * hidden)
        with b.block("decoder", passes=int(steps[0])):
            _write(b, (steps[0] + 1) / 2)
        return b.graph(name)

    def _listen(b: Builder) -> None:
        x = Feature(mel_bins, 1, 2 * audio_positions)
        for i in (1, 2):
            x = b.conv(x, f"encoder.conv{i}", hidden, kernel=(1, 3), stride=(1, i), padding=(0, 1), bias=True, norm=False)
        b.epilogue("encoder.positions", b.batch * x.elements, parameters=audio_positions * hidden)
        with b.block("encoder.layer", times=encoder_layers):
            b.norm("norm1", b.batch * x.elements, 2 * hidden, reads=2.0, writes=2.0)
            _attend_to_self(b, x.width, x.width)
            b.norm("norm2", b.batch * x.elements, 2 * hidden, reads=2.0, writes=2.0)
            feed_forward(b, b.batch * x.width, hidden, ffn)
        b.norm("encoder.norm", b.batch * x.elements, 2 * hidden, reads=2.0)

    def _attend_to_self(b: Builder, query: Size, context: Size) -> None:
        rows = b.batch * query
        b.linear("qkv", rows, hidden, 3 * hidden, bias=False, split="output")
        b.epilogue("qkv.bias", rows * 2 * hidden, parameters=2 * hidden, split="output")  # keys have none
        b.attention("attention", query=query, context=context, heads=heads, head_dim=hidden // heads)
        b.linear("out", rows, hidden, hidden, split="input")

    def _write(b: Builder, context: Size) -> None:
        rows = b.batch
        b.embedding("embedding", rows, hidden, vocabulary + text_positions)
        with b.block("layer", times=decoder_layers):
            b.norm("norm1", rows * hidden, 2 * hidden, reads=2.0, writes=2.0)
            _attend_to_self(b, 1, context)
            b.norm("norm2", rows * hidden, 2 * hidden, reads=2.0, writes=2.0)
            with b.block("cross"):
                b.linear("q", rows, hidden, hidden, split="output")
                b.attention("attention", query=1, context=audio_positions, heads=heads, head_dim=hidden // heads)
                b.linear("out", rows, hidden, hidden, split="input")
            b.norm("norm3", rows * hidden, 2 * hidden, reads=2.0, writes=2.0)
            feed_forward(b, rows, hidden, ffn)
        b.norm("norm", rows * hidden, 2 * hidden, reads=2.0)
        b.linear("logits", rows, hidden, vocabulary, bias=False, split="output", held=False)  # the embedding's table
        b.sampling("sampling", rows, vocabulary)

    return Network(name, title or f"Whisper, {encoder_layers} + {decoder_layers} layers of {hidden}", source, build,
                   tokens=tokens, max_tokens=text_positions, sample="one window of 30 s")  # fmt: skip


def whisper_tiny() -> Network:
    """whisper-tiny, multilingual."""
    return whisper(name="whisper-tiny", encoder_layers=4, decoder_layers=4, hidden=384, heads=6, ffn=1536, vocabulary=51865,
                   title="Whisper tiny, 30 s of speech",
                   source="transformers/models/whisper/configuration_whisper.py (WhisperConfig's defaults)")  # fmt: skip


def whisper_large() -> Network:
    """whisper-large-v3: 128 mel bins and one language more than its forerunners."""
    return whisper(name="whisper-large-v3", encoder_layers=32, decoder_layers=32, hidden=1280, heads=20, ffn=5120,
                   vocabulary=51866, mel_bins=128, title="Whisper large v3, 30 s of speech",
                   source="openai/whisper:model-card.md, sizes confirmed by its parameter count")  # fmt: skip
