"""Step times from tables are those of the estimate, computed directly."""

from __future__ import annotations

import numpy as np
import pytest
from driving import language_model
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import chip as chips
from presilicon.estimate import Load, machine, service_cost
from presilicon.frontend.language import LanguageModel
from presilicon.mapping import Parallelism
from presilicon.replay.steps import Chunk, StepTimes
from presilicon.replay.tables import SEGMENT, Tables

SYSTEMS = (
    ("llama-3.1-8b", "l40s", Parallelism()),
    ("llama-3.1-70b", "h100", Parallelism(tensor=8)),
    ("llama-3.1-70b", "h200", Parallelism(tensor=2, pipeline=4)),
    ("openai/gpt-oss-120b", "h100", Parallelism(tensor=2, expert=2)),
    ("deepseek-ai/DeepSeek-V3", "h200", Parallelism(tensor=8)),
    ("deepseek-ai/DeepSeek-V3", "h200", Parallelism(data=8, expert=8)),
)
_BUILT: dict[int, tuple[LanguageModel, StepTimes]] = {}


def system(index: int) -> tuple[LanguageModel, StepTimes]:
    if index not in _BUILT:
        name, chip, p = SYSTEMS[index]
        model = language_model(name)
        _BUILT[index] = model, StepTimes(Tables(machine(chips.load(chip)), model, model.default_formats, p))
    return _BUILT[index]


def direct(index: int, batch: int, prompt: int, answer: int) -> tuple[float, float, float, float]:
    """Decode's time and energy, prefill's time and energy, as the estimate says of a batch."""
    model, times = system(index)
    cost = service_cost(
        times.tables.machine, model, Load(batch, prompt, answer), formats=model.default_formats, parallelism=SYSTEMS[index][2]
    )
    return tuple(float(np.max(v)) for v in (cost.time_per_output_token_s, cost.decode_j, cost.prefill_s, cost.prefill_j))  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, len(SYSTEMS) - 1), each=st.integers(1, 70), context=st.integers(2, 9000))
def test_a_decode_step_is_the_estimates(index: int, each: int, context: int) -> None:
    times = system(index)[1]
    batch = each * times.ranks  # as many on each rank: the estimate takes the fullest for all
    took = times.step(batch, batch * context)
    seconds, joules, _, _ = direct(index, batch, context - 1, 1)
    assert took.seconds == pytest.approx(seconds, rel=1e-9)
    assert took.joules == pytest.approx(joules, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(index=st.sampled_from([0, 1, 3, 4]), tokens=st.integers(1, 8192))
def test_a_prompt_alone_is_the_estimates(index: int, tokens: int) -> None:
    took = system(index)[1].step(0, 0, [Chunk(tokens, 0)], 1)
    _, _, seconds, joules = direct(index, 1, tokens, 1)
    assert took.seconds == pytest.approx(seconds, rel=1e-9)
    assert took.joules == pytest.approx(joules, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(index=st.sampled_from([0, 1, 3, 4]), prompts=st.integers(2, 32), tokens=st.integers(9, 2000))
def test_equal_prompts_together_are_the_estimates(index: int, prompts: int, tokens: int) -> None:
    """Within 1 %: how attention of several prompts fills the cores is taken from one of them and from many."""
    took = system(index)[1].step(0, 0, [Chunk(tokens, 0)] * prompts, prompts)
    _, _, seconds, joules = direct(index, prompts, tokens, 1)
    assert took.seconds == pytest.approx(seconds, rel=0.01)
    assert took.joules == pytest.approx(joules, rel=0.03)


@settings(max_examples=60, deadline=None)
@given(index=st.sampled_from([0, 1, 3, 4]), tokens=st.integers(1, 8192), prior=st.integers(0, 100_000))
def test_what_precedes_a_chunk_is_interpolated_closely(index: int, tokens: int, prior: int) -> None:
    """The whole step within 0.5 % of attention evaluated at exactly these tokens."""
    times = system(index)[1]
    table = times.tables.chunk(tokens, prior)
    exact = [float(v[0]) for v in times.tables.attending(np.array([float(tokens)]), float(prior))]
    whole = times.step(0, 0, [Chunk(tokens, prior)], 1)
    assert abs(table.start_s + table.alone_s - exact[0] - exact[1]) <= 0.005 * whole.seconds
    assert abs(table.among_s - exact[2]) <= 0.005 * whole.seconds
    assert abs(table.alone_j - exact[3]) * times.chips <= 0.005 * whole.joules
    assert abs(table.among_j - exact[4]) * times.chips <= 0.005 * whole.joules


@settings(max_examples=60, deadline=None)
@given(
    index=st.integers(0, len(SYSTEMS) - 1), batch=st.integers(1, 40), steps=st.integers(2, 300), data=st.data(),
)  # fmt: skip
def test_many_steps_add_up(index: int, batch: int, steps: int, data: st.DataObject) -> None:
    times = system(index)[1]
    most = batch * (2 * SEGMENT - steps)
    contexts = data.draw(st.integers(batch * 2, most))
    whole = times.run(batch, contexts, steps)
    each = [times.run(batch, contexts + batch * i, 1) for i in range(steps)]
    assert whole.seconds == pytest.approx(sum(took.seconds for took in each), rel=1e-9)
    assert whole.joules == pytest.approx(sum(took.joules for took in each), rel=1e-9)
    span = data.draw(st.floats(0.0, 1.2)) * whole.seconds
    fewest = times.steps_within(batch, contexts, span, steps)
    assert fewest == steps or times.run(batch, contexts, fewest).seconds >= span
    assert fewest == 1 or times.run(batch, contexts, fewest - 1).seconds < span


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, len(SYSTEMS) - 1), batch=st.integers(1, 64), tokens=st.integers(1, 4000))
def test_a_mixed_step_is_between_its_parts(index: int, batch: int, tokens: int) -> None:
    """Weights are read once for prompts and tokens: no less than either alone, no more than both (and what tiles round up)."""
    times = system(index)[1]
    mixed = times.step(batch, batch * 500, [Chunk(tokens, 0)], 1).seconds
    alone, prompt = times.step(batch, batch * 500).seconds, times.step(0, 0, [Chunk(tokens, 0)], 1).seconds
    assert mixed >= 0.999 * max(alone, prompt)
    assert mixed <= 1.15 * (alone + prompt)


def test_the_head_is_taken_for_the_tokens_that_need_one() -> None:
    times = system(0)[1]
    without = times.step(0, 0, [Chunk(4096, 0)], 0).seconds
    assert without < times.step(0, 0, [Chunk(4096, 0)], 1).seconds


def test_swapping_takes_the_host_link() -> None:
    times = system(0)[1]
    assert times.swap_s(2000) == pytest.approx(2 * times.swap_s(1000))
    assert 1e-3 < times.swap_s(1000) < 1.0
