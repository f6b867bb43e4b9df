"""The builder's arithmetic, shared parameters, and what a Network refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.dtypes import BF16, FP8, FP16, FP32, INT8, Formats
from presilicon.errors import ModelError, WorkloadError
from presilicon.frontend.network import Builder, Feature, Network, SharedConvolution, SharedMatmul
from presilicon.frontend.zoo import CANONICAL, NETWORKS
from presilicon.graph import Attention, Convolution, Elementwise, Matmul

INT8_FORMATS = Formats(INT8, INT8, INT8)


@given(
    size=st.integers(1, 40), kernel=st.integers(1, 7), stride=st.integers(1, 4), padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)  # fmt: skip
def test_convolution_counts_the_places_where_the_kernel_fits(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    reach = dilation * (kernel - 1) + 1
    fits = len(range(0, size + 2 * padding - reach + 1, stride))
    b = Builder(1, Formats())
    shape = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if not fits:
        with pytest.raises(ModelError, match="does not fit"):
            b.conv(Feature(3, size, size), "c", 4, **shape)
        return
    assert b.conv(Feature(3, size, size), "c", 4, **shape) == Feature(4, fits, fits)


@given(size=st.integers(1, 100), stride=st.integers(1, 4), kernel=st.integers(1, 5))
def test_same_padding_divides_by_the_stride_and_rounds_up(size: int, stride: int, kernel: int) -> None:
    b = Builder(1, Formats())
    out = b.conv(Feature(2, size, size), "c", 2, kernel=kernel, stride=stride, padding="same")
    assert out.height == out.width == -(-size // stride)


def test_batch_norm_costs_two_parameters_a_channel() -> None:
    plain, normed = Builder(1, Formats()), Builder(1, Formats())
    plain.conv(Feature(3, 8, 8), "c", 16, kernel=3, norm=False)
    normed.conv(Feature(3, 8, 8), "c", 16, kernel=3)
    assert plain.graph("a").parameters == 3 * 9 * 16
    assert normed.graph("b").parameters == 3 * 9 * 16 + 2 * 16


def test_epilogues_move_nothing_and_pools_do() -> None:
    b = Builder(2, INT8_FORMATS)
    x = b.conv(Feature(8, 10, 10), "c", 16, padding=0)
    x = b.add(x, "add")
    x = b.pool(x, "pool", kernel=2, stride=2)
    assert b.global_pool(x, "global") == Feature(16, 1, 1)
    conv, epilogue, add, pool, last = b.graph("g").operators
    assert epilogue.unique_bytes == 4 * 16  # the scales of the norm, kept in fp32
    assert add.unique_bytes == 0
    assert pool.input_bytes == conv.output_bytes == 2 * 16 * 100
    assert pool.output_bytes == last.input_bytes == 2 * 16 * 25


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ModelError, match="groups"):
        Builder(1, Formats()).conv(Feature(6, 4, 4), "c", 8, groups=4)


@pytest.mark.parametrize("wrong", [{"times": 0}, {"passes": 0}, {"sharers": 0}])
def test_blocks_are_done_at_least_once(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError), Builder(1, Formats()).block("x", **wrong):
        pass


def _layer(b: Builder) -> None:
    b.linear("linear", b.batch * 5, 8, 16)
    b.conv(Feature(4, 6, 6), "conv", 8, kernel=3)
    b.norm("norm", b.batch * 16, 16)
    b.embedding("embedding", b.batch, 8, 10)
    b.attention("attention", query=5, context=5, heads=2, head_dim=4)


def test_passes_hold_parameters_once_and_read_them_every_time() -> None:
    once, often = Builder(3, Formats()), Builder(3, Formats())
    _layer(once)
    with often.block("loop", passes=7):
        _layer(often)
    one, many = once.graph("one"), often.graph("many")
    assert many.parameters == pytest.approx(one.parameters, rel=1e-12)
    assert many.weight_bytes == pytest.approx(one.weight_bytes, rel=1e-12)
    assert many.macs == 7 * one.macs
    kinds = [type(o) for o in many if isinstance(o, Matmul | Convolution)]
    assert kinds == [SharedMatmul, SharedConvolution]
    for single, repeated in zip(one, many, strict=True):
        assert repeated.count == 7
        assert repeated.kind == single.kind
        assert repeated.macs == single.macs
        if not isinstance(single, Elementwise):
            assert repeated.touched_weight_bytes == pytest.approx(single.touched_weight_bytes, rel=1e-12)


def test_times_hold_parameters_every_time_and_blocks_nest() -> None:
    b = Builder(1, Formats())
    with b.block("outer", times=2), b.block("inner", times=3, passes=5):
        b.linear("l", 1, 4, 4)
    (only,) = b.graph("g").operators
    assert only.name == "outer.inner.l"
    assert only.count == 30
    assert b.graph("g").parameters == pytest.approx(2 * 3 * 20)


def test_copies_multiply_the_batch_and_end() -> None:
    b = Builder(np.array([1, 4]), Formats())
    with b.copies(2):
        b.attention("a", query=3, context=3, heads=1, head_dim=2)
    assert b.batch.tolist() == [1, 4]
    graph = b.graph("g")
    assert graph.samples.tolist() == [1, 4]
    assert graph.operators[0].batch.tolist() == [2, 8]


def test_held_activations_are_added_to_the_largest_operator() -> None:
    b = Builder(1, Formats())
    b.linear("l", 10, 4, 4)
    before = b.graph("g").activation_bytes
    b.hold(100)
    assert b.graph("g").activation_bytes == before + 200


@pytest.mark.parametrize("name", CANONICAL)
def test_every_network_is_one_inference_in_the_formats_asked_for(name: str) -> None:
    network = NETWORKS[name]()
    assert network.source
    assert network.title
    graph = network.inference(batch=2, formats=INT8_FORMATS)
    assert graph.phase == "inference"
    assert graph.samples == 2
    assert graph.kv_cache_bytes == 0
    names = [o.name for o in graph]
    assert len(set(names)) == len(names)
    narrowed = 0
    for operator in graph:
        if isinstance(operator, Matmul | Convolution):
            formats = {operator.weights, operator.activations, operator.source, operator.output}
            # A diffusion model keeps 16 bits between its operators, and all of its text encoders and decoder in them.
            assert formats == {INT8} or (name == "stable-diffusion-xl" and formats <= {INT8, FP16})
            narrowed += INT8 in formats
        if isinstance(operator, Attention):
            assert operator.activations is operator.kv_cache
            assert operator.activations in ((INT8, FP16) if name == "stable-diffusion-xl" else (INT8,))
            assert not operator.cached
    assert narrowed > len(names) / 8


@pytest.mark.parametrize("name", CANONICAL)
def test_batches_broadcast_as_if_asked_one_by_one(name: str) -> None:
    network = NETWORKS[name]()
    batches = np.array([1, 3, 64])
    grid = network.inference(batch=batches, formats=Formats())
    for i, batch in enumerate(batches):
        one = network.inference(batch=int(batch), formats=Formats())
        for attribute in ("macs", "unique_bytes", "activation_bytes", "parameters"):
            whole = np.broadcast_to(np.asarray(getattr(grid, attribute), dtype=float), batches.shape)
            assert whole[i] == pytest.approx(float(getattr(one, attribute)), rel=1e-12), attribute
    assert np.asarray(grid.macs) == pytest.approx(network.macs_per_sample * batches, rel=1e-9)


@pytest.mark.parametrize("name", CANONICAL)
def test_weights_take_their_format_and_parameters_do_not_change(name: str) -> None:
    network = NETWORKS[name]()
    graphs = {f.name: network.inference(batch=1, formats=Formats(f, f, f)) for f in (INT8, FP8, FP16, BF16, FP32)}
    for graph in graphs.values():
        assert round(float(graph.parameters)) == network.parameters
    assert graphs["fp16"].weight_bytes == pytest.approx(2 * network.parameters)
    assert graphs["int8"].weight_bytes == graphs["fp8"].weight_bytes
    # Norms, scales and positions stay wide; so do a diffusion model's text encoders and decoder.
    assert graphs["int8"].weight_bytes < (1.3 if name == "stable-diffusion-xl" else 1.05) * network.parameters


def test_every_alias_makes_the_network_of_its_first_name() -> None:
    assert {make().name for make in NETWORKS.values()} == set(CANONICAL)
    for name in ("resnet-50", "microsoft/resnet-50", "bert", "google-bert/bert-large-uncased", "openai/whisper-tiny",
                 "google/vit-base-patch16-224", "stabilityai/stable-diffusion-xl-base-1.0"):  # fmt: skip
        assert isinstance(NETWORKS[name](), Network)


@pytest.mark.parametrize("batch", [0, -1, 1.5, float("nan"), float("inf"), np.array([1, 0]), np.array([]), "4"])
def test_a_batch_is_a_whole_number_of_one_or_more(batch: object) -> None:
    with pytest.raises(WorkloadError):
        NETWORKS["resnet50"]().inference(batch=batch, formats=Formats())  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "tokens"), [("bert", 513), ("bert", 0), ("bert", np.array([5, 600])), ("resnet50", 10)])
def test_tokens_are_refused_where_they_do_not_fit(name: str, tokens: object) -> None:
    with pytest.raises(WorkloadError):
        NETWORKS[name]().inference(batch=1, formats=Formats(), tokens=tokens)  # type: ignore[arg-type]
