"""The scenarios in virtual time, and the laws of a server's rate."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.systems import TIMES, system
from presilicon import scenario
from presilicon.bench import _chips, _virtual, bench
from presilicon.bench import _rules as rules
from presilicon.errors import WorkloadError
from presilicon.scenario import BatchTimes

QUERIES = 8192


def test_one_at_a_time_is_the_estimate():
    found = bench(system(), "single-stream", virtual=True).measured
    assert found.value == 0.010
    assert found.queries == 60_000  # 600 s of them
    assert set(found.percentiles.values()) == {0.010}
    assert bench(system(), "multi-stream", virtual=True).measured.value == 0.024
    assert bench(system(4), "multi-stream", virtual=True).measured.value == 0.012
    assert bench(system(3), "multi-stream", virtual=True).measured.value == pytest.approx(0.014)


@pytest.mark.parametrize("chips", [1, 3, 8])
def test_offline_is_the_scenario_s_rate(chips):
    found = bench(system(chips), "offline", virtual=True).measured
    assert found.value == pytest.approx(scenario.offline_per_s(TIMES, chips), rel=1e-9)
    assert found.samples % (16 * chips) == 0
    assert found.samples >= rules.LEAST_OFFLINE_SAMPLES
    assert found.duration_s >= 600.0


curves = st.lists(st.floats(0.9, 4.0), min_size=4, max_size=4).map(
    lambda growth: BatchTimes((1.0, 2.0, 4.0, 8.0, 16.0), tuple(0.01 * np.cumprod([1.0, *growth])))
)


@given(curves, st.floats(2.0, 30.0), st.floats(1.0, 3.0), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_a_looser_bound_never_lowers_the_rate(times, factor, looser, chips):
    one, bound = system(chips, times), 0.01 * factor
    try:
        found = _virtual.find_rate(one, bound, QUERIES)
    except WorkloadError:
        return
    assert _virtual.server(one, found, bound, QUERIES).valid
    assert found.rate_per_s <= scenario.offline_per_s(times, chips)
    assert _virtual.find_rate(one, bound * looser, QUERIES).rate_per_s >= found.rate_per_s


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.1, 1.0])
def test_more_chips_never_lower_the_rate(bound):
    rates = [_virtual.find_rate(system(chips), bound, QUERIES).rate_per_s for chips in (1, 2, 3, 4, 8)]
    assert all(b > a for a, b in pairwise(rates))


def test_the_rate_is_that_of_the_scenario():
    for bound in (0.03, 0.05, 0.1):
        ours = _virtual.find_rate(system(), bound, 8 * QUERIES).rate_per_s
        # Other arrivals, 8 times as many (a short run lets a backlog through), and early stopping.
        assert ours == pytest.approx(scenario.server_per_s(TIMES, 1, bound), rel=0.08)


def test_a_fixed_rate_is_judged_as_loadgen_does():
    one = system(2)
    easy = bench(one, "server", virtual=True, rate_per_s=300.0).measured
    assert easy.valid
    assert easy.rate_per_s == easy.value == 300.0
    hard = bench(one, "server", virtual=True, rate_per_s=795.0).measured
    assert not hard.valid
    assert "over the bound" in hard.reasons[0]
    assert hard.percentiles["p99"] > 0.1
    # A share of late queries just below one in a hundred is not sure enough.
    late = np.array([0.2] * 81 + [0.05] * (QUERIES - 81))
    assert rules.percentile_of(np.sort(late), 99.0) == 0.05
    assert "99 % sure" in _virtual._judged(late, 0.1, 99.0)[0]
    assert _virtual._judged(late[20:], 0.1, 99.0) == ()


def test_a_bound_that_cannot_be_met_says_what_can(monkeypatch):
    monkeypatch.setattr(_virtual, "SERVER_QUERIES", QUERIES)
    with pytest.raises(WorkloadError, match="one sample alone takes 10 ms") as told:
        bench(system(), "server", virtual=True, latency_s=0.009)
    assert told.value.hint.startswith("0.02 can be met")
    assert bench(system(), "server", virtual=True, latency_s=0.02).measured.valid


@given(curves, st.integers(1, 3), st.integers(1, 16), st.floats(20.0, 500.0))
@settings(max_examples=30, deadline=None)
def test_chips_told_step_by_step_serve_as_virtual_time_does(times, chips, largest, rate):
    """The system under test of LoadGen and the scenario are one law."""
    queries = 500
    arrivals, chosen = rules.unit_schedule(queries) / rate, rules.assignment(queries, chips)
    one = _chips.Chips([0.0, *(times.at(b) for b in range(1, largest + 1))], largest, chips)
    found = np.zeros(queries)

    def end(until: float) -> None:
        while one.running and one.next_s <= until:
            due, _, samples = one.end()
            found[samples] = due - arrivals[samples]
            one.begin(due)

    for query in range(queries):
        # A chip that becomes free just now takes what comes just now: it is told of all that by the same moment.
        end(np.nextafter(arrivals[query], 0.0))
        one.arrive(int(chosen[query]), [query], float(arrivals[query]))
        one.begin(float(np.nextafter(arrivals[query], 0.0)))
        if query == queries - 1 or arrivals[query + 1] > arrivals[query]:
            one.begin(float(arrivals[query]))
    end(np.inf)
    expected = _virtual.server_latencies(system(chips, times), rate, queries, largest)
    assert np.allclose(found, expected, rtol=0, atol=1e-9)
