"""Encoders of text and of pictures: BERT and ViT, by their sizes and by name."""

from __future__ import annotations

from typing import Literal

from presilicon.dtypes import Formats
from presilicon.errors import ModelError
from presilicon.frontend.network import Builder, Network
from presilicon.graph import Graph, Size


def feed_forward(b: Builder, rows: Size, hidden: int, ffn: int, activation_ops: float = 8.0) -> None:
    """Two linears with an activation (GELU: about 8 operations) between, shared by chips along the inner width."""
    b.linear("ffn1", rows, hidden, ffn, split="output")
    b.epilogue("activation", rows * ffn, ops=activation_ops)
    b.linear("ffn2", rows, ffn, hidden, split="input")


def self_attention(b: Builder, sequences: Size, tokens: Size, hidden: int, heads: int, *, causal: bool = False) -> None:
    """Q, K and V in one matmul, attention, and the output projection, shared by chips along the heads."""
    rows = b.batch * sequences * tokens
    b.linear("qkv", rows, hidden, 3 * hidden, split="output")
    b.attention("attention", query=tokens, context=tokens, heads=heads, head_dim=hidden // heads, causal=causal,
                sequences=sequences)  # fmt: skip
    b.linear("out", rows, hidden, hidden, split="input")


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
    or "none". Layers: transformers/models/bert/modeling_bert.py. Raises ModelError where the heads do not divide.
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
