"""BERT, ViT and Whisper against published counts and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.dtypes import Formats
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend.encoder import bert, vit, whisper
from presilicon.frontend.zoo import NETWORKS
from presilicon.graph import Attention, Matmul

PARAMETERS = {
    "bert-base": 109_482_240,  # BertModel of bert-base-uncased ("110 M")
    "bert-large": 334_094_338,  # BertForQuestionAnswering of bert-large-uncased ("340 M" with pooler and masked-token head)
    "all-MiniLM-L6-v2": 22_713_216,  # counted from its weights
    "vit-base-patch16-224": 86_567_656,  # torchvision vit_b_16
    "vit-large-patch16-224": 304_326_632,  # torchvision vit_l_16
    "whisper-tiny": 37_760_640,  # its checkpoint, with the fixed positions of the encoder ("39 M" in the paper)
    "whisper-large-v3": 1_543_490_560,  # its checkpoint ("1550 M")
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_published_ones(name: str) -> None:
    assert NETWORKS[name]().parameters == PARAMETERS[name]


@pytest.mark.parametrize(("name", "gmacs"), [("vit-base-patch16-224", 17.56), ("vit-large-patch16-224", 61.55)])
def test_vit_macs_are_torchvisions(name: str, gmacs: float) -> None:
    assert NETWORKS[name]().macs_per_sample / 1e9 == pytest.approx(gmacs, abs=0.006)


def test_bert_large_at_384_tokens_is_within_4_percent_of_mlperfs_round_figure() -> None:
    """MLPerf's 128e9 of docs/index.md is a round figure; layers, attention and head sum to 123.2e9."""
    macs = NETWORKS["bert-large"]().macs_per_sample
    assert macs == 24 * (12 * 1024**2 * 384 + 2 * 384**2 * 1024) + 2 * 1024 * 384
    assert macs == pytest.approx(128e9, rel=0.04)


def test_minilm_at_32_tokens_is_344_mmac() -> None:
    graph = NETWORKS["all-MiniLM-L6-v2"]().inference(batch=1, formats=Formats(), tokens=32)
    assert float(graph.macs) / 1e6 == pytest.approx(344.6, abs=0.1)


@given(
    layers=st.integers(1, 4), heads=st.integers(1, 4), head=st.sampled_from([8, 64]), ffn=st.integers(1, 300),
    batch=st.integers(1, 9), tokens=st.integers(1, 64),
)  # fmt: skip
def test_bert_macs_follow_the_closed_form(layers: int, heads: int, head: int, ffn: int, batch: int, tokens: int) -> None:
    hidden = heads * head
    network = bert(name="x", layers=layers, hidden=hidden, heads=heads, ffn=ffn, vocabulary=100, head="none")
    graph = network.inference(batch=batch, tokens=tokens, formats=Formats())
    rows = batch * tokens
    assert graph.macs == layers * (rows * (4 * hidden**2 + 2 * hidden * ffn) + 2 * batch * tokens**2 * hidden)


def test_tokens_and_batches_make_a_grid() -> None:
    network = NETWORKS["bert"]()
    batch, tokens = np.array([[1], [8]]), np.array([16, 128, 384])
    grid = network.inference(batch=batch, tokens=tokens, formats=Formats())
    assert np.shape(grid.macs) == (2, 3)
    one = network.inference(batch=8, tokens=128, formats=Formats())
    assert np.asarray(grid.macs)[1, 1] == one.macs
    assert np.asarray(grid.activation_bytes)[1, 1] == one.activation_bytes


def test_chips_may_share_heads_and_inner_widths() -> None:
    splits = {o.name: o.split for o in NETWORKS["bert-base"]().inference(batch=1, formats=Formats())}
    assert [splits[f"layer.{n}"] for n in ("qkv", "attention", "out", "ffn1", "ffn2")] == [
        "output", "heads", "input", "output", "input",
    ]  # fmt: skip


def test_whisper_steps_cost_the_mean_of_their_contexts() -> None:
    network = NETWORKS["whisper-tiny"]()
    five, six = (network.inference(batch=2, tokens=n, formats=Formats()) for n in (5, 6))
    hidden, layers, vocabulary = 384, 4, 51865
    step = layers * (4 * hidden**2 + 2 * hidden**2 + 8 * hidden**2 + 2 * hidden * (6 + 1500)) + hidden * vocabulary
    assert six.macs - five.macs == pytest.approx(2 * step)
    assert six.parameters == pytest.approx(five.parameters)


def test_whisper_makes_keys_and_values_of_the_speech_once() -> None:
    graph = NETWORKS["whisper-tiny"]().inference(batch=1, tokens=10, formats=Formats())
    (kv,) = [o for o in graph if o.name == "decoder.cross.kv"]
    assert isinstance(kv, Matmul)
    assert (kv.count, kv.m, kv.n) == (4, 1500, 768)
    cross = [o for o in graph if isinstance(o, Attention) and o.name == "decoder.layer.cross.attention"]
    assert [(o.count, o.kv_tokens) for o in cross] == [(40, 1500)]


def test_whisper_takes_one_number_of_tokens() -> None:
    with pytest.raises(WorkloadError, match="one number of tokens"):
        NETWORKS["whisper-tiny"]().inference(batch=1, tokens=np.array([4, 5]), formats=Formats())
    same = NETWORKS["whisper-tiny"]().inference(batch=1, tokens=np.array([4, 4]), formats=Formats())
    assert same.macs == NETWORKS["whisper-tiny"]().inference(batch=1, tokens=4, formats=Formats()).macs


def test_sizes_that_do_not_divide_are_refused() -> None:
    sizes = {"name": "x", "hidden": 100, "heads": 3, "ffn": 10}
    with pytest.raises(ModelError, match="heads"):
        bert(layers=1, vocabulary=10, **sizes)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="heads"):
        whisper(encoder_layers=1, decoder_layers=1, vocabulary=10, **sizes)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="patches"):
        vit(name="x", layers=1, hidden=64, heads=2, ffn=10, patch=15)
