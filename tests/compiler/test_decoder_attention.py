"""Attention over a KV cache: one program for every position, on cores of every kind, equal to its meaning."""

from dataclasses import replace

import numpy as np
import pytest
from emission_checks import SIZES, agrees, sized
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.compiler.corpus.attention import CachedAttention, cached_attention_model
from presilicon.compiler.emission import emit
from presilicon.compiler.emission.cache_plan import Room, Sizes, plan_cache
from presilicon.compiler.emission.memory import banks
from presilicon.errors import CapacityError
from presilicon.isa import verify
from presilicon.simulate.machine import run

NAMES = ("4x4", "8x8", "12x20", "16x32", "32x16", "64x64")


def model_of(sizes):
    return cached_attention_model(
        CachedAttention(sizes=sizes, score_scale=0.6 / (74 * 74 * np.sqrt(sizes.dim)), value_scale=1.5, zero_point=-3)
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_position_of_one_program(name):
    """At 0, at each border of a chunk, and at the end of the cache."""
    core, sizes = SIZES[name], Sizes(tokens=1, keys=50, heads=4, kv_heads=2, dim=16)
    model = model_of(sizes)
    own = banks(core, 1, True)[0]
    room = Room(own.moving[1], own.stationary[1], own.results[1], core.accumulator_rows)
    plan = plan_cache(core, sizes, room)
    borders = {p for b in range(0, 50, plan.chunk) for p in (b - 1, b) if 0 <= p < 50}
    images = {agrees(model, core, arguments={"position": p})[1].programs[0].to_bytes() for p in {0, 1, 49, *borders}}
    assert len(images) == 1


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_sizes(data):
    core = SIZES[data.draw(st.sampled_from(NAMES))]
    kv_heads, share = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    tokens = data.draw(st.sampled_from((1, 1, 2, 3, 9)))
    keys = data.draw(st.integers(tokens, 40))
    dim = data.draw(st.integers(1, 24))
    model = model_of(Sizes(tokens=tokens, keys=keys, heads=kv_heads * share, kv_heads=kv_heads, dim=dim))
    strands = data.draw(st.sampled_from((1, 2))) if core.scratchpad_banks >= 8 else 1
    agrees(model, core, arguments={"position": data.draw(st.integers(0, keys - tokens))}, strands=strands)


def test_two_cores_share_the_tokens():
    model = model_of(Sizes(tokens=5, keys=30, heads=4, kv_heads=2, dim=8))
    agrees(model, replace(SIZES["8x8"], cores=2), arguments={"position": 11})


def test_only_what_is_valid_is_read():
    """DRAM bytes grow with the position, and the time with them."""
    program = emit(model_of(Sizes(tokens=1, keys=256, heads=2, kv_heads=1, dim=32)), SIZES["8x8"]).programs[0]
    runs = [run(program, SIZES["8x8"], arguments={1: p}, values=False) for p in (0, 99, 255)]
    assert [r.dram_read_bytes - runs[0].dram_read_bytes for r in runs] == [0, 99 * 64, 255 * 64]
    assert runs[0].cycles < runs[1].cycles < runs[2].cycles


def test_long_cache_of_many_heads():
    """A cache far beyond the scratchpad, heads in groups that the accumulators hold."""
    model = model_of(Sizes(tokens=1, keys=1500, heads=8, kv_heads=4, dim=16))
    core = SIZES["8x8"]
    assert model.tensors["k"].bytes > core.scratchpad_bytes
    program = emit(model, replace(core, accumulator_rows=512)).programs[0]
    verify(program, replace(core, accumulator_rows=512), {1: 1499})
    agrees(model, replace(core, accumulator_rows=512), arguments={"position": 1403}, verified=False)


def test_part_of_the_heads_of_a_group():
    """Scores of all query heads that share a key do not fit the accumulators: they pass the cache in parts."""
    for tokens in (1, 3):
        model = model_of(Sizes(tokens=tokens, keys=200, heads=8, kv_heads=2, dim=8))
        agrees(model, SIZES["4x4"], arguments={"position": 150})


def test_scores_that_do_not_fit_say_both_numbers():
    with pytest.raises(CapacityError, match="512 accumulator rows of 128"):
        emit(model_of(Sizes(tokens=1, keys=4096, heads=4, kv_heads=1, dim=16)), SIZES["8x8"])
    with pytest.raises(CapacityError, match="chunks of 8 keys in 10240 bytes"):
        emit(model_of(Sizes(tokens=1, keys=64, heads=1, kv_heads=1, dim=1024)), sized(8, 8, 8, kib=16))
