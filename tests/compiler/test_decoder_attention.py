"""Attention over a KV cache: one program for every position, on cores of every kind, equal to its meaning."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.compiler.attention import CachedAttention, attention_program, cached_attention_model
from presilicon.compiler.cache_plan import Sizes, plan_cache
from presilicon.compiler.meaning import reference
from presilicon.errors import CapacityError
from presilicon.isa import verify
from presilicon.simulate.machine import run
from presilicon.template import Core
from presilicon.tiling import Region

SMALL = Core(
    rows=8, cols=8, lanes=4, bus_bytes=16, weight_rows_per_cycle=2, scratchpad_bytes=1 << 16, scratchpad_banks=8,
    accumulator_rows=128,
)  # fmt: skip
CORES = (
    SMALL,
    replace(SMALL, rows=4, cols=4, weight_rows_per_cycle=4),
    replace(SMALL, rows=12, cols=20, bus_bytes=32),
    replace(SMALL, rows=16, cols=32, lanes=32, bus_bytes=32, accumulator_rows=64),
    replace(SMALL, rows=32, cols=16, lanes=8, scratchpad_banks=4),
    replace(SMALL, rows=64, cols=64, lanes=16, bus_bytes=64, scratchpad_bytes=1 << 18),
)


def step_of(sizes):
    spread = 0.6 / (74 * 74 * np.sqrt(sizes.dim))
    return CachedAttention(sizes=sizes, score_scale=spread, value_scale=1.5, zero_point=-3)


def mismatches(core, sizes, positions, seed=0):
    """Elements that differ between program and meaning, over positions; the program is made once and verified for each."""
    step = step_of(sizes)
    program, model = attention_program(core, step), cached_attention_model(step)
    draw = np.random.default_rng(seed)
    wide, narrow = sizes.heads * sizes.dim, sizes.kv_heads * sizes.dim
    arrays = {
        "q": draw.integers(-127, 128, (sizes.tokens, wide), dtype=np.int8),
        "k": draw.integers(-127, 128, (sizes.keys, narrow), dtype=np.int8),
        "v": draw.integers(-127, 128, (sizes.keys, narrow), dtype=np.int8),
    }
    found = 0
    for position in positions:
        dram = program.memory()
        for name, value in arrays.items():
            region = program.region(name)
            dram[region.address : region.address + region.bytes] = value.view(np.uint8).reshape(-1)
        verify(program, core, {1: position})
        run(program, core, arguments={1: position}, dram=dram)
        region = program.region("y")
        got = dram[region.address : region.address + region.bytes].view(np.int8).reshape(region.shape)
        states = {"k": arrays["k"], "v": arrays["v"]}
        want = reference(model, {"q": arrays["q"]}, arguments={"position": position}, states=states)["y"]
        found += int((got != want).sum())
    return found


@pytest.mark.parametrize("core", CORES, ids=lambda c: f"{c.rows}x{c.cols}")
def test_every_position_of_one_program(core):
    """At 0, at each border of a chunk, and at the end of the cache."""
    sizes = Sizes(tokens=1, keys=50, heads=4, kv_heads=2, dim=16)
    region = Region(0, core.scratchpad_bytes // 4)
    chunk = plan_cache(core, sizes, region, region, region, region).chunk
    borders = {p for b in range(0, 50, chunk) for p in (b - 1, b) if 0 <= p < 50}
    assert mismatches(core, sizes, sorted({0, 1, 49, *borders})) == 0


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_sizes(data):
    core = data.draw(st.sampled_from(CORES))
    kv_heads, share = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    tokens = data.draw(st.sampled_from((1, 1, 2, 3, 9)))
    keys = data.draw(st.integers(tokens, 40))
    sizes = Sizes(
        tokens=tokens, keys=keys, heads=kv_heads * share, kv_heads=kv_heads, dim=data.draw(st.integers(1, 24))
    )  # fmt: skip
    position = data.draw(st.integers(0, keys - tokens))
    assert mismatches(core, sizes, [position], data.draw(st.integers(0, 99))) == 0


def test_only_what_is_valid_is_read():
    """DRAM bytes grow with the position, and the time with them."""
    sizes = Sizes(tokens=1, keys=256, heads=2, kv_heads=1, dim=32)
    program = attention_program(CORES[0], step_of(sizes))
    runs = [run(program, CORES[0], arguments={1: p}, values=False) for p in (0, 99, 255)]
    assert [r.dram_read_bytes - runs[0].dram_read_bytes for r in runs] == [0, 99 * 64, 255 * 64]
    assert runs[0].cycles < runs[1].cycles < runs[2].cycles


def test_scores_that_do_not_fit_say_both_numbers():
    sizes = Sizes(tokens=1, keys=4096, heads=4, kv_heads=1, dim=16)
    with pytest.raises(CapacityError, match="2048 accumulator rows, the core has 128"):
        attention_program(SMALL, step_of(sizes))
    with pytest.raises(CapacityError, match="4 scratchpad banks"):
        attention_program(replace(SMALL, scratchpad_banks=2), step_of(replace(sizes, keys=8)))
