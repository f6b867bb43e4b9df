"""The replay on a fleet: conservation, order, routing, separate pools, the same seed the same results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from driving import drive
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from presilicon.errors import WorkloadError
from presilicon.replay import (
    ROUTINGS,
    ClosedLoop,
    Deployment,
    Distribution,
    Fleet,
    Lengths,
    PrefixSharing,
    Request,
    Slo,
    gamma,
    poisson,
    run,
    together,
)

Deploy = Callable[..., Deployment]
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SOME = Lengths(Distribution("lognormal", 300.0, 1.0), Distribution("exponential", 40.0), PrefixSharing(0.5, 256, 3))


@QUICK
@given(
    routing=st.sampled_from(ROUTINGS), replicas=st.integers(1, 4), prefill=st.integers(0, 2), seed=st.integers(0, 99),
    concurrency=st.integers(0, 12), blocks=st.sampled_from([120, 10_000]),
)  # fmt: skip
def test_every_request_is_served_once_or_refused(
    with_blocks: Deploy, routing: Any, replicas: int, prefill: int, seed: int, concurrency: int, blocks: int
) -> None:
    fleet = Fleet(deployment=with_blocks(blocks), replicas=replicas, routing=routing, prefill_replicas=prefill)
    load = gamma(20.0, 2.0, SOME, 60, seed)
    report = run(fleet, ClosedLoop(concurrency, load) if concurrency else load, slo=Slo(0.5, 0.05))
    found = report.records
    served = np.isfinite(found["end_s"])
    assert report.requests == 60
    assert report.refused == 60 - served.sum() == sum(report.refused_by.values())
    assert np.all(found["refused"][~served] == "memory")
    assert np.all(found["first_token_s"][served] > found["arrival_s"][served])
    assert np.all(found["end_s"][served] >= found["first_token_s"][served])
    assert np.all(found["replica"][served & (found["output_tokens"] > 1)] >= prefill)
    assert 0.0 <= report.utilization <= 1.0 + 1e-9
    assert report.goodput_per_s <= report.requests_per_s + 1e-12
    assert report.energy_j > 0
    assert report.timeline["utilization"].max() <= 1.0 + 1e-9
    width = report.virtual_s / len(report.timeline["start_s"])
    tokens = float(np.sum(report.timeline["decode_tokens_per_s"]) * width)
    if not report.preemptions:  # a request computed again is given its next token by its prompt
        assert tokens == pytest.approx(float(np.sum(found["output_tokens"][served] - 1)), rel=1e-6)
    if concurrency:
        starts, ends = found["arrival_s"], np.where(served, found["end_s"], found["arrival_s"])
        assert max(np.sum((starts <= t) & (ends > t)) for t in starts) <= concurrency


@QUICK
@given(requests=st.integers(1, 40), prompt=st.integers(1, 2000), answer=st.integers(1, 60), running=st.sampled_from([1, 4, 64]),
       routing=st.sampled_from(ROUTINGS))  # fmt: skip
def test_more_replicas_never_lengthen_the_makespan_of_equal_requests(
    with_blocks: Deploy, requests: int, prompt: int, answer: int, running: int, routing: Any
) -> None:
    load = [Request(i, 0.0, prompt, answer) for i in range(requests)]
    deployment = with_blocks(max_running=running)
    spans = [run(Fleet(deployment=deployment, replicas=n, routing=routing), load).virtual_s for n in (1, 2, 3, 5)]
    assert all(more <= fewer * (1 + 1e-9) for fewer, more in pairwise(spans))


@QUICK
@given(lengths=st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 100)), min_size=1, max_size=25))
def test_more_replicas_never_lengthen_the_makespan_of_one_queue(with_blocks: Deploy, lengths: list[tuple[int, int]]) -> None:
    """Any requests, all there at the start, in one queue before servers of one request each."""
    load = [Request(i, 0.0, prompt, answer) for i, (prompt, answer) in enumerate(lengths)]
    deployment = with_blocks(max_running=1)
    spans = [run(Fleet(deployment=deployment, replicas=n, routing="one-queue"), load).virtual_s for n in range(1, 6)]
    assert all(more <= fewer * (1 + 1e-9) for fewer, more in pairwise(spans))


def test_a_fleet_of_one_is_its_scheduler(with_blocks: Deploy) -> None:
    load = poisson(10.0, SOME, 100, 1)
    deployment = with_blocks(400)
    report, seen = run(Fleet(deployment=deployment), load), drive(deployment.scheduler(), load, many=True, checked=False)
    ends = {int(id): end for id, end in zip(report.records["id"], report.records["end_s"], strict=True) if np.isfinite(end)}
    assert ends == pytest.approx(seen.end_s, rel=1e-9)


def test_the_same_seed_gives_the_same_figures(with_blocks: Deploy) -> None:
    fleet = Fleet(deployment=with_blocks(400), replicas=3, routing="prefix-aware")
    one, two = (replace(run(fleet, poisson(20.0, SOME, 200, 7)), wall_s=0.0) for _ in range(2))
    other = run(fleet, poisson(20.0, SOME, 200, 8))
    assert one.to_json() == two.to_json()
    assert all(np.array_equal(one.records[k], two.records[k], equal_nan=one.records[k].dtype.kind == "f") for k in one.records)
    assert one.ttft_s != other.ttft_s


def test_routing(with_blocks: Deploy) -> None:
    texts = [tuple((text, unit) for unit in range(20)) for text in range(4)]
    load = [Request(i, 0.3 * i, 1400, 5, texts[(i * i) % 4], 64) for i in range(64)]
    found = {r: run(Fleet(deployment=with_blocks(10_000), replicas=4, routing=r), load) for r in ROUTINGS}
    assert found["round-robin"].records["replica"].tolist() == [i % 4 for i in range(64)]
    assert found["prefix-aware"].prefix_hit_share > found["round-robin"].prefix_hit_share
    assert found["prefix-aware"].ttft_s.mean < found["round-robin"].ttft_s.mean
    uneven = [Request(i, 0.0, 4000 if i % 2 else 10, 5) for i in range(16)]
    even = run(Fleet(deployment=with_blocks(10_000), replicas=2, routing="least-loaded"), uneven)
    turns = run(Fleet(deployment=with_blocks(10_000), replicas=2), uneven)
    assert even.virtual_s < 0.7 * turns.virtual_s


def test_separate_pools_send_the_cache(with_blocks: Deploy) -> None:
    deployment = with_blocks(10_000)
    fleet = Fleet(deployment=deployment, replicas=1, prefill_replicas=1)
    report, alone = run(fleet, [Request(0, 0.0, 2000, 11)]), run(Fleet(deployment=deployment), [Request(0, 0.0, 2000, 11)])
    assert report.ttft_s.p50 == alone.ttft_s.p50
    sent = fleet.transfer_s(2000)
    assert sent > 2000 * deployment.token_bytes / float(deployment.machine.link_bytes_per_s)
    assert report.e2e_s.p50 == pytest.approx(alone.e2e_s.p50 + sent, rel=1e-6)
    # Answers are not held up by prompts that follow.
    load = [Request(0, 0.0, 100, 200), *(Request(i, 0.02 * i, 4000, 2) for i in range(1, 30))]
    apart, mixed = run(fleet, load), run(Fleet(deployment=deployment, replicas=2), load)
    assert apart.records["tpot_s"][0] < mixed.records["tpot_s"][0]


def test_goodput_counts_what_meets_the_slo(with_blocks: Deploy) -> None:
    load = [Request(0, 0.0, 100, 20), Request(1, 10.0, 100_000, 20), Request(2, 60.0, 100, 20), Request(3, 61.0, 200_000, 1)]
    report = run(Fleet(deployment=with_blocks(100_000)), load, slo=Slo(ttft_s=1.0))
    assert report.refused_by == {"context": 1}
    assert report.records["within_slo"].tolist() == [1, 0, 1, 0]
    assert report.within_slo == 0.5
    assert report.goodput_per_s == pytest.approx(2 / report.virtual_s)


def test_idle_chips_draw_power_and_cost(with_blocks: Deploy) -> None:
    deployment = with_blocks()
    short = run(Fleet(deployment=deployment), [Request(0, 0.0, 100, 20)])
    long = run(Fleet(deployment=deployment), [Request(0, 0.0, 100, 20), Request(1, 1000.0, 100, 20)])
    assert long.energy_j == pytest.approx(2 * short.energy_j + deployment.times.static_w * (1000.0 - short.virtual_s), rel=1e-6)
    assert long.usd is not None
    assert short.usd is not None
    assert long.usd > 100 * short.usd


def test_progress_and_giving_up(with_blocks: Deploy) -> None:
    told: list[tuple[int, int]] = []
    load = poisson(50.0, SOME, 1500, 3)
    run(Fleet(deployment=with_blocks()), load, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1500, 1500)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    given_up = run(Fleet(deployment=with_blocks()), load, slo=Slo(ttft_s=1e-6), most_missed=10)
    assert np.isfinite(given_up.records["end_s"]).sum() < 200


def test_what_cannot_be_replayed_is_said(with_blocks: Deploy) -> None:
    fleet = Fleet(deployment=with_blocks())
    with pytest.raises(WorkloadError, match="no requests"):
        run(fleet, [])
    with pytest.raises(WorkloadError, match="same id"):
        run(fleet, [Request(0, 0.0, 1, 1), Request(0, 1.0, 1, 1)])
    with pytest.raises(WorkloadError, match="not sorted"):
        run(fleet, [Request(0, 1.0, 1, 1), Request(1, 0.0, 1, 1)])
    with pytest.raises(WorkloadError, match="concurrency"):
        ClosedLoop(0, together(SOME, 3, 0))
    with pytest.raises(WorkloadError, match="replicas"):
        Fleet(deployment=with_blocks(), replicas=0)
    with pytest.raises(WorkloadError, match="round-robin"):
        Fleet(deployment=with_blocks(), routing="round-robbin")  # type: ignore[arg-type]
    with pytest.raises(WorkloadError, match="ttft_s"):
        Slo(ttft_s=0.0)
