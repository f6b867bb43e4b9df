import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import scenario
from presilicon.scenario import BatchTimes, TokenTimes

ONE = BatchTimes((1.0,), (0.01,))
BATCHED = BatchTimes((1.0, 2.0, 4.0, 8.0, 16.0), (0.010, 0.012, 0.016, 0.024, 0.040))
TOKENS = TokenTimes((1.0, 4.0, 16.0, 64.0), (0.010, 0.011, 0.014, 0.026), (0.02, 0.05, 0.17, 0.65), most=64)


def md1_wait_percentile(load: float, service_s: float, percentile: float) -> float:
    """Percentile of an M/D/1 queue's waiting time, from Erlang's exact distribution (1909):

    P(W <= t) = (1 - a) sum_{i <= t/D} (a (i - t/D))^i / i! exp(-a (i - t/D)), a the load and D the service time.
    """

    def below(t: float) -> float:
        from math import exp, factorial, floor

        x = t / service_s
        return (1 - load) * sum((load * (i - x)) ** i / factorial(i) * exp(-load * (i - x)) for i in range(floor(x) + 1))

    low, high = 0.0, 12 * service_s  # the alternating sum is exact in doubles this far
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < percentile / 100 else (low, middle)
    return low


@pytest.mark.parametrize("bound", [2.0, 4.0, 8.0])
@pytest.mark.parametrize("percentile", [90.0, 99.0])
def test_a_server_of_single_requests_is_an_md1_queue(bound, percentile):
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        late = md1_wait_percentile(middle, 0.01, percentile) + 0.01
        low, high = (middle, high) if late <= bound * 0.01 else (low, middle)
    rates = [scenario.server_per_s(ONE, 1, bound * 0.01, percentile, seed) * 0.01 for seed in range(5)]
    # The search resolves 2 %; the sample of 8,192 arrivals says the rest.
    assert np.mean(rates) == pytest.approx(low, abs=0.035)


def test_an_idle_system_answers_in_its_service_time():
    assert scenario.single_stream_s(BATCHED) == 0.010
    assert scenario.multi_stream_s(BATCHED, 1) == 0.024
    assert scenario.multi_stream_s(BATCHED, 4) == 0.012
    assert scenario.multi_stream_s(BATCHED, 100) == 0.010


def test_offline_is_the_best_batch_on_every_chip():
    assert scenario.offline_per_s(BATCHED, 1) == 400.0
    assert scenario.offline_per_s(BATCHED, 8) == 3200.0
    worse = BatchTimes((1.0, 2.0), (0.01, 0.05))
    assert scenario.offline_per_s(worse, 1) == 100.0


def test_times_between_batches_lie_on_lines_and_beyond_them_in_proportion():
    assert BATCHED.at(3) == pytest.approx(0.014)
    assert BATCHED.at(32) == pytest.approx(0.080)
    assert TOKENS.decode_at(10) == pytest.approx(0.0125)
    assert TOKENS.prefill_at(1) == 0.02


def test_streams_are_the_most_samples_within_the_interval():
    assert scenario.streams(BATCHED, 1, 0.024) == 8
    assert scenario.streams(BATCHED, 2, 0.050) == 40
    assert scenario.streams(BATCHED, 1, 0.009) == 0


def test_a_bound_below_the_service_time_is_never_met():
    assert scenario.server_per_s(BATCHED, 4, 0.009) == 0.0


def test_chips_serve_alike():
    assert scenario.server_per_s(BATCHED, 8, 0.1) == 8 * scenario.server_per_s(BATCHED, 1, 0.1)


# Twice the batch may take less than the time of one, or four times as long.
curves = st.lists(st.floats(0.9, 4.0), min_size=4, max_size=4).map(
    lambda growth: BatchTimes((1.0, 2.0, 4.0, 8.0, 16.0), tuple(0.01 * np.cumprod([1.0, *growth])))
)


@given(curves, st.floats(1.0, 20.0), st.floats(1.0, 3.0), st.integers(1, 9), st.integers(0, 9))
@settings(max_examples=12, deadline=None)
def test_a_looser_bound_or_more_chips_never_lower_the_rate_of_a_server(times, factor, looser, chips, more):
    bound = times.at(1) * factor
    found = scenario.server_per_s(times, chips, bound)
    # 8,192 requests may drain a little after the last arrival: a finite run lets through what the bound's backlog holds.
    assert 0 <= found <= scenario.offline_per_s(times, chips) * 1.3
    assert scenario.server_per_s(times, chips, bound * looser) >= found
    assert scenario.server_per_s(times, chips + more, bound) >= found
    assert scenario.server_per_s(times, chips, bound) == found  # the same arrivals each time


def test_a_server_stops_at_the_batch_that_gives_most():
    # 16 at once take 40 times as long as one: with the bound that allows them, a server that took them would be slower.
    times = BatchTimes((1.0, 2.0, 4.0, 8.0, 16.0), (0.01, 0.015, 0.025, 0.08, 0.4))
    assert times.best_batch == 4
    assert scenario.caps(times, 10.0) == [4, 2, 1]
    assert scenario.caps(times, 0.02) == [2, 1]
    assert scenario.caps(times, 0.009) == []
    assert scenario.server_per_s(times, 1, 0.5) > 0.9 * scenario.offline_per_s(times, 1)


@given(st.lists(st.booleans(), min_size=64, max_size=64), st.lists(st.booleans(), min_size=64, max_size=64))
def test_a_rule_that_allows_more_is_given_no_lower_rate(strict, more):
    def answers(allowed):
        return scenario.highest_rate(lambda rate: allowed[int(rate * 63)], 1.0)

    loose = [a or b for a, b in zip(strict, more, strict=True)]
    assert answers(loose) >= answers(strict)


def test_a_stricter_percentile_allows_less():
    rates = [scenario.server_per_s(BATCHED, 1, 0.05, percentile) for percentile in (90.0, 97.0, 99.0, 99.9)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1] > 0


def test_a_long_bound_brings_a_server_to_its_steady_rate():
    assert scenario.server_per_s(BATCHED, 1, 2.0) == pytest.approx(scenario.offline_per_s(BATCHED, 1), rel=0.13)


def steady(times: TokenTimes, output: float) -> float:
    return max(b * output / (times.prefill_at(b) + (output - 1) * times.decode_at(b)) for b in range(1, times.most + 1))


def test_a_steady_stream_of_tokens():
    assert TOKENS.steady_tokens_per_s(100) == pytest.approx(steady(TOKENS, 100), rel=0.01)
    assert TOKENS.steady_tokens_per_s(100) == pytest.approx(64 * 100 / (0.65 + 99 * 0.026))
    small = TokenTimes(TOKENS.batches, TOKENS.decode_s, TOKENS.prefill_s, most=10)
    assert small.steady_tokens_per_s(100) == pytest.approx(10 * 100 / (small.prefill_at(10) + 99 * 0.0125))


@given(st.floats(20.0, 300.0), st.floats(0.05, 5.0), st.floats(0.012, 0.2))
@settings(max_examples=6, deadline=None)
def test_a_token_server_never_beats_a_steady_stream_and_gains_from_looser_bounds(output, ttft, tpot):
    best = TOKENS.steady_tokens_per_s(output)
    found = scenario.token_server_per_s(TOKENS, output, 4 * output, ttft, tpot)
    assert 0 <= found <= best * (1 + 1e-9)
    assert found == scenario.token_server_per_s(TOKENS, output, 4 * output, ttft, tpot)
    for looser in ((ttft * 2, tpot), (ttft, tpot * 2)):
        assert scenario.token_server_per_s(TOKENS, output, 4 * output, *looser) >= found


def test_a_token_server_with_loose_bounds_runs_steadily_and_with_impossible_ones_not_at_all():
    assert scenario.token_server_per_s(TOKENS, 100, 400, 1e6, 1e6) == TOKENS.steady_tokens_per_s(100)
    assert scenario.token_server_per_s(TOKENS, 100, 400, 0.01, 1.0) == 0.0  # a prefill alone takes longer
    assert scenario.token_server_per_s(TOKENS, 100, 400, 1.0, 0.005) == 0.0  # and so does a step
