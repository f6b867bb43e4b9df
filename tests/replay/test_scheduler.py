"""The scheduler's laws: every request ends once, blocks never exceed memory, tokens out equal tokens asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driving import check_memory, drive, language_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from presilicon import chip as chips
from presilicon.errors import WorkloadError
from presilicon.replay import Deployment, Limits, Request, Speculation, deploy

Deploy = Callable[..., Deployment]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def loads(draw: Any, most: int = 24) -> list[Request]:
    """Requests with lengths from 1 up, some with common prefixes, some at the same time."""
    number = draw(st.integers(1, most))
    time_s, found = 0.0, []
    for i in range(number):
        time_s += draw(st.sampled_from([0.0, 0.0, 0.01, 0.1, 1.0]))
        prompt = draw(st.sampled_from([1, 2, 15, 16, 17, 100, 512, 700, 1500]))
        answer = draw(st.sampled_from([1, 2, 3, 16, 40, 130]))
        units = min(draw(st.integers(0, 8)), prompt // 64)
        text = draw(st.sampled_from("ab"))
        found.append(Request(i, time_s, prompt, answer, tuple((text, unit) for unit in range(units)), 64))
    return found


limits = st.fixed_dictionaries(
    {
        "max_running": st.sampled_from([1, 3, 1024]),
        "max_batched_tokens": st.sampled_from([1024, 2048, 8192]),
        "preemption": st.sampled_from(["recompute", "swap"]),
        "prefix_caching": st.booleans(),
        "chunked_prefill": st.booleans(),
    }
)
blocks = st.sampled_from([110, 130, 200, 10_000])


@QUICK
@given(load=loads(), options=limits, blocks=blocks, gain=st.sampled_from([1.0, 1.0, 2.3]))
def test_every_request_ends_once_with_all_its_tokens(
    with_blocks: Deploy, load: list[Request], options: dict[str, Any], blocks: int, gain: float
) -> None:
    scheduler = with_blocks(blocks, gain, **options).scheduler()
    seen = drive(scheduler, load, many=False)
    assert sorted([*seen.ended, *seen.refused]) == [r.id for r in load]
    for request in load:
        if request.id not in seen.refused:
            assert seen.tokens[request.id] == request.output_tokens
            assert request.arrival_s < seen.first_s[request.id] <= seen.end_s[request.id]
    assert scheduler.idle
    assert scheduler.kv_usage == 0.0
    assert scheduler.load_tokens == 0


@QUICK
@given(load=loads(), options=limits, blocks=blocks)
def test_many_steps_at_once_are_the_same_as_each(
    with_blocks: Deploy, load: list[Request], options: dict[str, Any], blocks: int
) -> None:
    deployment = with_blocks(blocks, **options)
    one, many = deployment.scheduler(), deployment.scheduler()
    slow, fast = drive(one, load, many=False), drive(many, load, many=True)
    assert fast.steps == slow.steps
    assert one.preemptions == many.preemptions
    assert one.prefix_hit_tokens == many.prefix_hit_tokens
    assert fast.energy_j == pytest.approx(slow.energy_j, rel=1e-9)
    assert fast.first_s == pytest.approx(slow.first_s, rel=1e-9)
    assert fast.end_s == pytest.approx(slow.end_s, rel=1e-9)


@QUICK
@given(load=loads(), options=limits, blocks=blocks, who=st.lists(st.integers(0, 23), max_size=6), many=st.booleans())
def test_a_request_that_leaves_frees_its_blocks(
    with_blocks: Deploy, load: list[Request], options: dict[str, Any], blocks: int, who: list[int], many: bool
) -> None:
    scheduler = with_blocks(blocks, **options).scheduler()
    seen = drive(scheduler, load, many=many, aborted=who)
    assert scheduler.idle
    assert scheduler.kv_usage == 0.0
    assert scheduler.load_tokens == 0
    assert len(set(seen.ended)) == len(seen.ended)


def test_preempted_requests_come_back(with_blocks: Deploy) -> None:
    load = [Request(i, 0.0, 160, 400) for i in range(8)]
    for preemption in ("recompute", "swap"):
        scheduler = with_blocks(120, preemption=preemption).scheduler()
        seen = drive(scheduler, load, many=False)
        assert scheduler.preemptions > 0
        assert seen.tokens == {r.id: 400 for r in load}
        assert seen.ended[0] == 0  # who came first is never set back


def test_memory_that_is_short_costs_time(with_blocks: Deploy) -> None:
    load = [Request(i, 0.0, 160, 400) for i in range(8)]
    roomy = drive(with_blocks(10_000).scheduler(), load, many=True).now_s
    for preemption in ("recompute", "swap"):
        assert drive(with_blocks(120, preemption=preemption).scheduler(), load, many=True).now_s > roomy


def test_requests_too_long_are_refused(with_blocks: Deploy) -> None:
    scheduler = with_blocks(100).scheduler()
    refusal = scheduler.add(Request("a", 0.0, 100_000, 100_000), 0.0)
    assert refusal is not None
    assert refusal.reason == "context"
    refusal = scheduler.add(Request("b", 0.0, 1601, 1), 0.0)
    assert refusal is not None
    assert refusal.reason == "memory"
    assert scheduler.add(Request("c", 0.0, 1600, 1), 0.0) is None  # the last token is never written
    refusal = with_blocks(chunked_prefill=False, max_batched_tokens=1024).scheduler().add(Request("d", 0.0, 1025, 1), 0.0)
    assert refusal is not None
    assert refusal.reason == "memory"


def test_a_full_queue_refuses(with_blocks: Deploy) -> None:
    scheduler = with_blocks(max_running=1, max_waiting=1).scheduler()
    assert scheduler.add(Request(0, 0.0, 10, 10), 0.0) is None
    refusal = scheduler.add(Request(1, 0.0, 10, 10), 0.0)
    assert refusal is not None
    assert refusal.reason == "queue"
    scheduler.step(0.0)
    assert scheduler.add(Request(2, 0.0, 10, 10), 0.0) is None
    refusal = scheduler.add(Request(3, 0.0, 10, 10), 0.0)
    assert refusal is not None
    assert refusal.reason == "queue"


def test_a_common_prefix_is_computed_once(with_blocks: Deploy) -> None:
    text = tuple(range(15))
    first, second = Request(0, 0.0, 1000, 2, text, 64), Request(1, 10.0, 1000, 2, text, 64)
    scheduler = with_blocks(10_000).scheduler()
    seen = drive(scheduler, [first, second], many=False)
    assert scheduler.prefix_queries_tokens == 2000
    assert scheduler.prefix_hit_tokens == 15 * 64
    assert seen.first_s[1] - 10.0 < 0.5 * seen.first_s[0]
    without = with_blocks(10_000, prefix_caching=False).scheduler()
    assert drive(without, [first, second], many=False).first_s[1] - 10.0 == pytest.approx(seen.first_s[0], rel=1e-6)
    # A prompt that is there whole has its last unit computed again: a token must come from somewhere.
    whole = Request(2, 0.0, 960, 2, text, 64)
    assert scheduler.prefix_tokens(whole) == 14 * 64


def test_kept_prefixes_make_room(with_blocks: Deploy) -> None:
    scheduler = with_blocks(100).scheduler()
    for i in range(6):
        drive(scheduler, [Request(i, 0.0, 640, 4, tuple((i, unit) for unit in range(10)), 64)], many=False)
        assert scheduler.kv_usage == 0.0
    assert scheduler.prefix_tokens(Request("last", 0.0, 641, 1, tuple((5, unit) for unit in range(10)), 64)) == 640
    assert scheduler.prefix_tokens(Request("first", 0.0, 641, 1, tuple((0, unit) for unit in range(10)), 64)) == 0


def test_long_prompts_are_cut(with_blocks: Deploy) -> None:
    scheduler = with_blocks(max_batched_tokens=1024).scheduler()
    scheduler.add(Request("long", 0.0, 5000, 5), 0.0)
    worked = []
    while not scheduler.idle:
        step = scheduler.step(0.0)
        assert step is not None
        worked.append(step.prefill_tokens)
        check_memory(scheduler)
    assert worked == [1024] * 4 + [904, 0, 0, 0, 0]


def test_speculation_makes_fewer_steps() -> None:
    model, chip = language_model("llama-3.1-8b"), chips.load("l40s")
    load = [Request(i, 0.0, 100, 200) for i in range(4)]
    plain = drive(deploy(model, chip).scheduler(), load, many=False)
    guessed = deploy(model, chip, speculation=Speculation(3, 0.7))
    assert guessed.gain == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    seen = drive(guessed.scheduler(), load, many=False)
    assert seen.tokens == plain.tokens
    assert seen.steps == pytest.approx(plain.steps / guessed.gain, rel=0.05)
    assert seen.now_s < plain.now_s
    drafted = deploy(model, chip, speculation=Speculation(3, 0.7, language_model("llama-3.2-1b")))
    assert seen.now_s < drive(drafted.scheduler(), load, many=False).now_s
    none = deploy(model, chip, speculation=Speculation(3, 0.0))
    assert drive(none.scheduler(), load, many=False).now_s > plain.now_s  # three tokens checked in vain


def test_a_prefilled_request_is_only_decoded(with_blocks: Deploy) -> None:
    scheduler = with_blocks(10_000).scheduler()
    scheduler.add(Request("there", 0.0, 1000, 5), 0.0, prefilled=True)
    steps = []
    while not scheduler.idle:
        step = scheduler.step(0.0)
        assert step is not None
        steps.append((step.tokens, step.prefill_tokens, step.first))
    assert steps == [((("there", 1),), 0, ())] * 4


def test_what_cannot_be_scheduled_is_said(with_blocks: Deploy) -> None:
    scheduler = with_blocks().scheduler()
    assert scheduler.step(0.0) is None
    assert scheduler.advance(0.0) is None
    assert not scheduler.abort("nobody")
    scheduler.add(Request("twice", 0.0, 10, 10), 0.0)
    with pytest.raises(WorkloadError, match="already in flight"):
        scheduler.add(Request("twice", 0.0, 10, 10), 0.0)
    with pytest.raises(WorkloadError, match="whole blocks"):
        scheduler.add(Request("odd", 0.0, 100, 10, ("x",), 24), 0.0)
    for bad in ({"max_running": 0}, {"block_tokens": -1}, {"watermark": 2.0}, {"preemption": "forget"}, {"max_waiting": -1}):
        with pytest.raises(WorkloadError):
            Limits(**bad)  # type: ignore[arg-type]
    for prompt, answer, time_s in ((0, 1, 0.0), (1, 0, 0.0), (1, 1, -1.0), (1, 1, float("nan")), (10**10, 1, 0.0)):
        with pytest.raises(WorkloadError):
            Request("bad", time_s, prompt, answer)
    with pytest.raises(WorkloadError, match="from 1 to 7"):
        Speculation(8, 0.5)
    with pytest.raises(WorkloadError, match="acceptance"):
        Speculation(3, 1.0)
    with pytest.raises(WorkloadError, match="decode"):
        deploy(language_model("llama-3.1-8b"), chips.load("l40s"), limits=Limits(max_running=10, max_batched_tokens=5))
