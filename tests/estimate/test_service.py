from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimate.drawn import LIBRARY, NOISE, at, launched_faster, machines, more_cores
from presilicon.dtypes import FP8, Formats
from presilicon.errors import CapacityError, ParallelismError, WorkloadError
from presilicon.estimate import Load, service_cost, steady_cost
from presilicon.estimate.service import USABLE_MEMORY
from presilicon.frontend import load
from presilicon.mapping import Parallelism

H100 = LIBRARY["nvidia-h100-sxm-80gb"]
LLAMA, GPT_OSS = load("llama-3.1-8b"), load("openai/gpt-oss-120b")
MODELS = {"llama": LLAMA, "gpt-oss": GPT_OSS, "deepseek": load("deepseek-v3")}
BF16, EIGHT = Formats(), Formats(FP8, FP8, FP8)
FIGURES = ("prefill_s", "time_per_output_token_s", "latency_s", "energy_j", "memory_bytes", "power_w", "tokens_per_s")

loads = st.builds(Load, st.integers(1, 200), st.integers(1, 6000), st.integers(1, 1500))
PIPELINES = [Parallelism(pipeline=2), Parallelism(pipeline=4)]
ways = st.sampled_from([Parallelism(), Parallelism(tensor=4), *PIPELINES, Parallelism(tensor=2, data=2, expert=4)])
often = settings(max_examples=20, deadline=None)


@given(machines(), st.sampled_from(sorted(MODELS)), loads, ways)
@often
def test_figures_are_finite_and_add_up(m, name, load_, p):
    model = MODELS[name]
    if model.layers % p.pipeline:
        p = Parallelism(tensor=p.chips)
    cost = service_cost(m, model, load_, formats=BF16, parallelism=p)
    for figure in FIGURES:
        value = float(getattr(cost, figure))
        assert np.isfinite(value), figure
        assert value > 0, figure
    steps = load_.output_tokens - 1
    assert float(cost.latency_s) == float(cost.prefill_s) + steps * float(cost.time_per_output_token_s)
    assert float(cost.tokens_per_s) == pytest.approx(load_.batch * load_.output_tokens / float(cost.latency_s))
    assert float(cost.power_w) * float(cost.latency_s) == pytest.approx(float(cost.energy_j))


@given(machines(), st.sampled_from(sorted(MODELS)), loads, ways, st.floats(1.0, 8.0))
@often
def test_more_of_the_machine_is_never_slower_and_fits_no_less(m, name, load_, p, factor):
    model = MODELS[name]
    if model.layers % p.pipeline:
        p = Parallelism(tensor=p.chips)

    def cost(machine):
        return service_cost(machine, model, load_, formats=EIGHT, parallelism=p)

    before, unlimited = cost(m), cost(replace(m, tdp_w=np.inf))
    for better, base in (
        (replace(m, memory_bytes_per_s=m.memory_bytes_per_s * factor), before),
        (replace(m, memory_bytes=m.memory_bytes * factor), before),
        (replace(m, shared_sram_bytes=m.shared_sram_bytes * factor), before),
        (replace(m, link_bytes_per_s=m.link_bytes_per_s * factor), before),
        (launched_faster(m, factor), before),
        (more_cores(m, (m.cores + np.ceil(factor)) / m.cores), unlimited),
    ):
        found = cost(better)
        assert float(found.prefill_s) <= float(base.prefill_s) * NOISE
        assert float(found.time_per_output_token_s) <= float(base.time_per_output_token_s) * NOISE
        assert bool(found.fits) >= bool(base.fits)


@given(machines(), st.sampled_from(sorted(MODELS)), loads, ways, st.integers(1, 500))
@often
def test_more_requests_and_more_tokens_are_never_faster_and_need_no_less_memory(m, name, load_, p, more):
    model = MODELS[name]
    if model.layers % p.pipeline:
        p = Parallelism(tensor=p.chips)

    def cost(**other):
        return service_cost(m, model, replace(load_, **other), formats=BF16, parallelism=p)

    before = cost()
    for larger in (
        cost(batch=load_.batch + more),
        cost(input_tokens=load_.input_tokens + more),
        cost(output_tokens=load_.output_tokens + more),
    ):
        for figure in ("prefill_s", "time_per_output_token_s", "latency_s", "memory_bytes"):
            assert float(getattr(larger, figure)) * NOISE >= float(getattr(before, figure)), figure


def test_arrays_of_loads_give_the_bits_of_each_alone():
    batch, tokens = np.array([1, 8, 200]), np.array([[100], [4096]])
    together = service_cost(H100, GPT_OSS, Load(batch, tokens, 128), formats=EIGHT)
    for i in range(2):
        for j in range(3):
            alone = service_cost(H100, GPT_OSS, Load(int(batch[j]), int(tokens[i, 0]), 128), formats=EIGHT)
            for figure in FIGURES:
                assert at(getattr(together, figure), (2, 3), (i, j)) == float(getattr(alone, figure)), figure


def test_memory_holds_weights_cache_and_working_space():
    cost = service_cost(H100, LLAMA, Load(8, 1024, 128), formats=BF16)
    assert float(cost.weight_bytes) == LLAMA.parameters * 2
    assert float(cost.kv_cache_bytes) == 8 * (1024 + 128) * LLAMA.kv_bytes_per_token(BF16.kv_cache)
    assert float(cost.memory_limit_bytes) == H100.memory_bytes * USABLE_MEMORY
    assert float(cost.memory_bytes) == float(cost.weight_bytes + cost.kv_cache_bytes + cost.activation_bytes)
    narrow = service_cost(H100, LLAMA, Load(8, 1024, 128), formats=EIGHT)
    assert float(narrow.kv_cache_bytes) == float(cost.kv_cache_bytes) / 2


def test_long_prompts_are_worked_on_in_parts():
    short, long = (service_cost(H100, LLAMA, Load(n, 8192, 1), formats=BF16) for n in (1, 16))
    assert float(long.activation_bytes) == pytest.approx(float(short.activation_bytes), rel=1e-6)


@pytest.mark.parametrize(
    "p", [Parallelism(tensor=8), Parallelism(pipeline=4), Parallelism(tensor=2, pipeline=2), Parallelism(data=4)]
)
def test_chips_share_the_memory(p):
    one, many = (service_cost(H100, LLAMA, Load(64, 1024, 128), formats=BF16, parallelism=q) for q in (Parallelism(), p))
    shards = p.tensor * p.pipeline
    # Norms, positions and the like are kept by each.
    assert float(many.weight_bytes) == pytest.approx(float(one.weight_bytes) / shards, rel=0.01)
    assert float(many.kv_cache_bytes) == pytest.approx(float(one.kv_cache_bytes) / p.chips)


def test_chips_together_are_faster_and_less_than_proportionally():
    one, two, eight = (
        service_cost(H100, LLAMA, Load(64, 1024, 128), formats=BF16, parallelism=Parallelism(tensor=n)) for n in (1, 2, 8)
    )
    assert one.latency_s > two.latency_s > eight.latency_s > one.latency_s / 8
    assert one.energy_j < two.energy_j * 1.01


def test_data_parallel_replicas_run_alike():
    one = service_cost(H100, LLAMA, Load(16, 1024, 128), formats=BF16)
    four = service_cost(H100, LLAMA, Load(64, 1024, 128), formats=BF16, parallelism=Parallelism(data=4))
    assert float(four.latency_s) == float(one.latency_s)
    assert float(four.energy_j) == pytest.approx(4 * float(one.energy_j))


def test_a_pipeline_answers_later_and_holds_more():
    one = service_cost(H100, LLAMA, Load(1, 1024, 128), formats=BF16)
    four = service_cost(H100, LLAMA, Load(1, 1024, 128), formats=BF16, parallelism=Parallelism(pipeline=4))
    assert four.time_per_output_token_s > one.time_per_output_token_s
    with pytest.raises(ParallelismError, match="32 layers are not divided by 5 stages"):
        service_cost(H100, LLAMA, Load(), formats=BF16, parallelism=Parallelism(pipeline=5))


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_one_request_more_is_never_faster_in_a_pipeline(stages):
    batch = np.arange(1, 4 * stages)
    cost = service_cost(H100, LLAMA, Load(batch, 16, 16), formats=BF16, parallelism=Parallelism(pipeline=stages))
    for figure in ("prefill_s", "time_per_output_token_s", "latency_s"):
        assert np.all(np.diff(getattr(cost, figure)) >= 0), figure


def test_beams_cost_their_cache_and_their_steps():
    one, four = (service_cost(H100, LLAMA, Load(4, 512, 64, beams=b), formats=BF16) for b in (1, 4))
    assert float(four.prefill_s) == float(one.prefill_s)
    assert four.time_per_output_token_s > one.time_per_output_token_s
    assert float(four.kv_cache_bytes) == 4 * float(one.kv_cache_bytes)


def test_what_does_not_fit_is_refused_with_both_numbers_and_what_would_fit():
    cost = service_cost(H100, LLAMA, Load(4096, 2048, 128), formats=BF16)
    with pytest.raises(CapacityError, match=r"needs .* GB a chip and 72.0 GB are usable") as caught:
        cost.require_fit("h100")
    assert caught.value.where == "h100"
    fits = int(caught.value.hint.split()[3])
    assert bool(service_cost(H100, LLAMA, Load(fits, 2048, 128), formats=BF16).fits)
    assert not bool(service_cost(H100, LLAMA, Load(fits + 2, 2048, 128), formats=BF16).fits)


def test_weights_that_do_not_fit_ask_for_more_chips():
    cost = service_cost(H100, MODELS["deepseek"], Load(1, 128, 16), formats=EIGHT)
    with pytest.raises(CapacityError) as caught:
        cost.require_fit("h100")
    chips = int(caught.value.hint.split()[1])
    assert chips * H100.memory_bytes * USABLE_MEMORY >= MODELS["deepseek"].weight_bytes(EIGHT)
    assert "smaller weight format" in caught.value.hint


@pytest.mark.parametrize("values", [{"batch": 0}, {"input_tokens": -1}, {"output_tokens": 1.5}, {"beams": 0},
                                    {"batch": float("nan")}, {"input_tokens": 10**12}, {"batch": "8"}])  # fmt: skip
def test_a_load_is_of_whole_numbers(values):
    with pytest.raises(WorkloadError, match="a whole number from 1"):
        Load(**values)


def test_less_than_the_cheapest_step_is_impossible():
    """A decode step reads every weight once: no chip answers before its memory has."""
    for m in LIBRARY.values():
        if "bf16" in m.peak:
            cost = service_cost(m, LLAMA, Load(1, 16, 2), formats=BF16)
            assert float(cost.time_per_output_token_s) > 7.5e9 * 2 / m.memory_bytes_per_s


@pytest.mark.parametrize(("name", "p"), [("llama", Parallelism(tensor=2, pipeline=2)), ("gpt-oss", Parallelism())])
def test_steady_state_is_made_of_the_same_passes(name, p):
    model, batches = MODELS[name], Load(np.array([1.0, 4.0, 64.0]), 512, 100)
    steady = steady_cost(H100, model, batches, formats=model.default_formats, parallelism=p)
    whole = service_cost(H100, model, batches, formats=model.default_formats, parallelism=p)
    assert np.array_equal(steady.step_s, whole.time_per_output_token_s)
    assert np.allclose(steady.memory_bytes, whole.memory_bytes, rtol=1e-12)
    assert steady.time_to_first_token_s[0] == whole.prefill_s[0] + whole.time_per_output_token_s[0]
    assert steady.waiting_s[0] == 0.0
    assert np.all(np.diff(steady.tokens_per_s) > 0)
    assert np.all(np.diff(steady.energy_j_per_token) < 0)
