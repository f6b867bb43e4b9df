"""The fewest chips and the highest rate that meet an SLO; where none does, what can be met."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from driving import language_model

from presilicon import chip as chips
from presilicon.errors import CapacityError, WorkloadError
from presilicon.replay import Deployment, Distribution, Fleet, Lengths, Request, Slo, deploy, poisson, run
from presilicon.replay.capacity import Capacity, fewest_chips, highest_rate, saturated_per_s, share_within

LENGTHS = Lengths(Distribution("fixed", 500.0), Distribution("fixed", 50.0))
SLO = Slo(ttft_s=1.0, tpot_s=0.05)


def requests_at(rate: float) -> list[Request]:
    return poisson(rate, LENGTHS, 300, 0)


def found_on(deployment: Deployment, replicas: int = 1, slo: Slo = SLO) -> Capacity:
    found = highest_rate(Fleet(deployment=deployment, replicas=replicas, routing="least-loaded"), requests_at, slo)
    assert found is not None
    return found


def test_the_highest_rate_is_met_and_no_higher_one(with_blocks: Callable[..., Deployment]) -> None:
    deployment = with_blocks()
    found = found_on(deployment)
    assert found.rate_per_s is not None
    fleet = Fleet(deployment=deployment)
    assert share_within(run(fleet, requests_at(found.rate_per_s), slo=SLO)) >= 0.99
    most = saturated_per_s(deployment, requests_at(1.0))
    assert found.rate_per_s <= most
    if found.rate_per_s < 0.99 * most:
        assert share_within(run(fleet, requests_at(found.rate_per_s * 1.05), slo=SLO)) < 0.99


def test_more_replicas_and_looser_slos_allow_more(with_blocks: Callable[..., Deployment]) -> None:
    deployment = with_blocks()
    one, two, loose = found_on(deployment), found_on(deployment, 2), found_on(deployment, slo=Slo(4.0, 0.2))
    assert one.rate_per_s is not None
    assert two.rate_per_s is not None
    assert loose.rate_per_s is not None
    assert two.rate_per_s > 1.6 * one.rate_per_s
    assert loose.rate_per_s >= one.rate_per_s
    assert two.chips == 2
    assert highest_rate(Fleet(deployment=deployment), requests_at, SLO, beyond=one.rate_per_s * 2) is None


def test_the_fewest_chips_meet_it_and_fewer_do_not(with_blocks: Callable[..., Deployment]) -> None:
    model, chip = language_model("llama-3.1-8b"), chips.load("l40s")
    load = requests_at(20.0)

    def deployed(size: int) -> Deployment:
        return deploy(model, chip, chips=size)

    def fleet(deployment: Deployment, replicas: int) -> Fleet:
        return Fleet(deployment=deployment, replicas=replicas, routing="least-loaded")

    found = fewest_chips(deployed, (1,), fleet, load, SLO, most=64)
    assert found.chips > 1
    assert found.rate_per_s is None
    assert share_within(found.report) >= 0.99
    assert share_within(run(fleet(deployed(1), found.chips - 1), load, slo=SLO)) < 0.99
    assert fewest_chips(deployed, (1, 2), fleet, load, SLO, most=64).chips <= found.chips
    with pytest.raises(WorkloadError, match="do not meet the SLO under this load"):
        fewest_chips(deployed, (1,), fleet, load, SLO, most=found.chips - 1)


def test_what_can_be_met_is_said(with_blocks: Callable[..., Deployment]) -> None:
    with pytest.raises(WorkloadError, match="cannot be met") as told:
        found_on(with_blocks(), slo=Slo(ttft_s=1e-4))
    ttft = float(told.value.hint.split("TTFT ")[1].split(" s")[0])
    assert found_on(with_blocks(), slo=Slo(ttft_s=1.1 * ttft)).rate_per_s
    with pytest.raises(WorkloadError, match="no SLO"):
        found_on(with_blocks(), slo=Slo())
    with pytest.raises(CapacityError, match="fits none"):
        fewest_chips(lambda size: deploy(language_model("llama-3.1-70b"), chips.load("l40s"), chips=size), (1,),
                     lambda d, n: Fleet(deployment=d, replicas=n), requests_at(1.0), SLO, most=8)  # fmt: skip


def test_requests_longer_than_the_context_do_not_count(with_blocks: Callable[..., Deployment]) -> None:
    load = [*requests_at(1.0)[:20], Request("long", 1e4, 200_000, 1)]
    report = run(Fleet(deployment=with_blocks()), load, slo=SLO)
    assert report.within_slo < 0.99
    assert share_within(report) == 1.0
