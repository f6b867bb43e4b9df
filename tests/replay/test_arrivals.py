"""Synthetic requests have the statistics they are asked to have, and follow from their seed."""

from __future__ import annotations

import numpy as np
import pytest

from presilicon.errors import WorkloadError
from presilicon.replay import Distribution, Lengths, PrefixSharing, at_rate, gamma, poisson, together

PLAIN = Lengths(Distribution("fixed", 100.0), Distribution("fixed", 20.0))


def gaps(requests) -> np.ndarray:
    return np.diff([0.0, *(r.arrival_s for r in requests)])


def test_arrivals() -> None:
    found = gaps(poisson(5.0, PLAIN, 20_000, 1))
    assert found.mean() == pytest.approx(0.2, rel=0.03)
    assert found.std() == pytest.approx(0.2, rel=0.03)
    bursts = gaps(gamma(5.0, 3.0, PLAIN, 20_000, 1))
    assert bursts.mean() == pytest.approx(0.2, rel=0.08)
    assert bursts.std() / bursts.mean() == pytest.approx(3.0, rel=0.1)
    assert gaps(gamma(5.0, 0.0, PLAIN, 10, 1)) == pytest.approx([0.2] * 10)
    assert {r.arrival_s for r in together(PLAIN, 10, 1)} == {0.0}


def test_another_rate_stretches_the_same_requests() -> None:
    slow, fast = poisson(1.0, PLAIN, 50, 3), poisson(4.0, PLAIN, 50, 3)
    assert [r.arrival_s for r in at_rate(slow, 4.0)] == pytest.approx([r.arrival_s for r in fast])
    assert poisson(1.0, PLAIN, 50, 3) == slow
    assert poisson(1.0, PLAIN, 50, 4) != slow


@pytest.mark.parametrize(
    ("text", "mean"), [("700", 700), ("uniform:100:300", 200), ("exponential:500", 500), ("lognormal:1000:0.8", 1000)]
)
def test_lengths(text: str, mean: float) -> None:
    one = Distribution.parse(text)
    found = one.draw(50_000, np.random.default_rng(0))
    assert one.mean == mean
    assert found.mean() == pytest.approx(mean, rel=0.02)
    assert found.min() >= 1
    assert found.dtype.kind == "i"


def test_lengths_are_cut() -> None:
    found = Distribution("exponential", 100.0, 0.0, 50.0, 150.0).draw(1000, np.random.default_rng(0))
    assert (found.min(), found.max()) == (50, 150)
    assert Distribution.parse({"kind": "lognormal", "mean": 10, "sigma": 1.0}) == Distribution("lognormal", 10, 1.0)
    assert Distribution.parse({"mean": 10}) == Distribution("fixed", 10)


def test_common_prefixes() -> None:
    lengths = Lengths(Distribution("fixed", 200.0), Distribution("fixed", 1.0), PrefixSharing(0.25, 100, 4))
    found = together(lengths, 4000, 0)
    shared = [r for r in found if r.prefix]
    assert len(shared) == pytest.approx(1000, rel=0.1)
    assert {r.prefix_tokens * len(r.prefix) for r in shared} == {96}
    assert len({r.prefix for r in shared}) == 4
    short = Lengths(Distribution("fixed", 40.0), Distribution("fixed", 1.0), PrefixSharing(1.0, 100, 1))
    assert {len(r.prefix) for r in together(short, 5, 0)} == {2}


@pytest.mark.parametrize("text", ["", "many", "uniform:1", "normal:1:2", "uniform:5:1", "exponential:nan", "0", "-5", "1e99"])
def test_impossible_lengths_are_refused(text: str) -> None:
    with pytest.raises(WorkloadError):
        Distribution.parse(text)


def test_impossible_arrivals_are_refused() -> None:
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(WorkloadError):
            poisson(bad, PLAIN, 10, 0)
    for number in (0, -1, True):
        with pytest.raises(WorkloadError):
            poisson(1.0, PLAIN, number, 0)
    with pytest.raises(WorkloadError):
        gamma(1.0, -1.0, PLAIN, 10, 0)
    for bad_share in ({"share": 2.0}, {"tokens": 0}, {"groups": 1.5}):
        with pytest.raises(WorkloadError):
            PrefixSharing(**bad_share)
    with pytest.raises(WorkloadError, match="unknown key"):
        Distribution.parse({"men": 10})
