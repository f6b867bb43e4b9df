"""Language models: virtual time over the replay's scheduler, laws of the server, and the real LoadGen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.bench import _replicas, _rules, _token_plans, _tokens, bench, loaded, token_system
from presilicon.bench._rules import Bounds
from presilicon.chip import load as load_chip
from presilicon.errors import CapacityError, ModelError, WorkloadError

REQUESTS = 512


@pytest.fixture(autouse=True, scope="module")
def _small_runs():
    """Runs of a few hundred requests: the laws hold for any number."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LEAST_REQUESTS", REQUESTS), ("MOST_REQUESTS", REQUESTS), ("MOST_OFFLINE", 2 * REQUESTS)):
            patch.setattr(_tokens, name, value)
        yield


def system(chips: int = 1, model: str = "llama-3.1-8b", **lengths):
    found, benchmark = loaded(model)
    return token_system(found, benchmark, load_chip("h100"), chips, **lengths)


def short(chips: int = 1):
    return system(chips, input_tokens=128, output_tokens=32)


def test_a_benchmark_has_mlperf_s_lengths_and_bounds():
    found = system()
    assert found.benchmark == "llama3.1-8b"
    assert found.input_tokens == 778
    assert found.bounds == Bounds(2.0, 0.1)
    assert system(model="llama2-70b-99", chips=2).bounds == Bounds(2.0, 0.2)
    gpt = system(model="gptj-99")
    assert gpt.bounds == Bounds(latency_s=20.0)
    own = short()
    assert own.benchmark == ""
    assert not own.bounds
    assert set(own.lengths(10)) == {(128, 32)}


def test_answers_have_the_mean_length_and_none_is_too_long():
    found = system(model="llama2-70b-99", chips=2)
    lengths = np.array(found.lengths(4096))[:, 1]
    assert lengths.mean() == pytest.approx(294.45, rel=0.01)
    assert lengths.max() <= 1024
    assert lengths.min() >= 2
    own = system(given=[(10, 20), (30, 40)])
    assert own.lengths(3) == ((10, 20), (30, 40), (10, 20))
    assert (own.input_tokens, own.output_tokens, own.benchmark) == (20, 30, "")
    assert found.lengths(4096) == found.lengths(4096)


def test_ways_are_those_that_hold_the_model():
    assert [way.chips for way in system(8).ways] == [1, 2, 4, 8]
    assert [way.chips for way in system(8, "llama2-70b-99").ways] == [1, 2, 4, 8]
    assert [way.chips for way in system(16, "llama-3.1-405b").ways] == [8, 16]
    with pytest.raises(CapacityError):
        system(1, "llama-3.1-405b")


def test_single_stream_is_one_request_after_the_other():
    found, way = _tokens.single_stream(short(2), 64)
    alone = found.ttft_s["p50"] + 31 * found.tpot_s["p50"]
    assert found.value == pytest.approx(alone)
    assert found.duration_s == pytest.approx(64 * alone)
    assert way.chips == 2  # two chips answer sooner than one


@given(st.floats(0.02, 1.0), st.floats(0.005, 0.05), st.floats(1.0, 4.0), st.sampled_from(["ttft_s", "tpot_s", "latency_s"]))
@settings(max_examples=4, deadline=None)
def test_looser_bounds_never_lower_the_rate(ttft, tpot, looser, which):
    one, bounds = short(), {"ttft_s": ttft, "tpot_s": tpot, "latency_s": ttft + 32 * tpot}
    try:
        found = _tokens.find_rate(one, Bounds(**bounds), REQUESTS)
    except WorkloadError:
        return
    assert _tokens.server(one, found.way, found.rate_per_s, Bounds(**bounds), REQUESTS).valid
    bounds[which] *= looser
    assert _tokens.find_rate(one, Bounds(**bounds), REQUESTS).rate_per_s >= found.rate_per_s


def test_more_chips_never_lower_the_rate():
    rates = [_tokens.find_rate(short(chips), Bounds(0.5, 0.03), 2 * REQUESTS).rate_per_s for chips in (1, 2, 4)]
    assert rates == sorted(rates)
    assert rates[2] > 3 * rates[0]


def test_bounds_that_cannot_be_met_say_what_can():
    with pytest.raises(WorkloadError, match="a request alone has its first token after") as told:
        bench(short(), "server", virtual=True, ttft_s=1e-4, tpot_s=1.0)
    given = told.value.hint.split()
    assert given[0] == "--ttft-s"
    assert _tokens.find_rate(short(), Bounds(float(given[1]), float(given[3].rstrip(","))), REQUESTS).rate_per_s > 0


def test_what_has_no_meaning_is_refused():
    with pytest.raises(WorkloadError, match="multi-stream"):
        bench(short(), "multi-stream", virtual=True)
    with pytest.raises(WorkloadError, match="needs a latency bound"):
        bench(short(), "server", virtual=True)
    with pytest.raises(WorkloadError, match="no latency bound"):
        bench(short(), "offline", virtual=True, ttft_s=1.0)
    with pytest.raises(ModelError):
        loaded("bert-98")


@pytest.mark.parametrize("ahead", [False, True])
def test_replicas_told_step_by_step_serve_as_the_replay_does(ahead):
    one, requests, rate = short(2), 200, 60.0
    way = one.ways[0]
    arrivals = np.zeros(requests) if ahead else _rules.unit_schedule(requests) / rate
    told = _replicas.Replicas(_unpacked(way), 2, one.lengths(requests), ahead)
    first, last = np.zeros(requests), np.zeros(requests)
    for number, came in enumerate(arrivals):
        told.arrive(number % 2, [(number, 1000 + number)], float(came))
    told.begin(0.0)
    while told.waiting[0] or told.waiting[1] or told.running:
        # Time goes on to the next end of a step, or to the next arrival at a replica that is idle.
        nexts = [told.next_s, *(q[0][0] for q, busy in zip(told.waiting, told.busy, strict=True) if q and not busy)]
        now = min(nexts)
        while told.next_s <= now:
            due, begun, ended = told.end()
            first[[n for n, _ in begun]] = due
            last[[n for n, _ in ended]] = due
            told.begin(due)
        told.begin(now)
    report = _tokens._replayed(one, way, _tokens._requests(one, arrivals))
    assert np.allclose(first, report.records["first_token_s"], rtol=0, atol=1e-9)
    assert np.allclose(last, report.records["end_s"], rtol=0, atol=1e-9)


def _unpacked(way):
    """A deployment as the process of LoadGen gets it."""
    import pickle
    from base64 import b64decode

    return pickle.loads(b64decode(_token_plans.packed(way)))


def test_loadgen_agrees_with_virtual_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_token_plans, "LEAST_REQUESTS", 1024)
    monkeypatch.setattr(_token_plans, "MOST_REQUESTS", 1024)
    offline = bench(short(), "offline", seconds=2.0, out=tmp_path / "offline")
    assert offline.metric == "tokens_per_s"
    assert offline.measured.value == pytest.approx(offline.virtual.value, rel=0.02)
    assert "Tokens per second" in (tmp_path / "offline" / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    rate = 0.6 * offline.virtual.value / 32
    for attempt in range(3):
        served = bench(short(), "server", ttft_s=0.5, tpot_s=0.05, rate_per_s=rate, seconds=3.0, out=tmp_path / f"{attempt}")
        pairs = [(served.measured.percentiles[p], served.virtual.percentiles[p]) for p in ("p50", "p90", "p99")]
        if all(abs(a / b - 1) < 0.05 for a, b in pairs) or not any("busy" in note for note in served.notes):
            break
    assert served.measured.valid
    assert served.measured.value == pytest.approx(rate * 32)
    for a, b in pairs:
        assert a == pytest.approx(b, rel=0.05)
    assert served.measured.tpot_s["p50"] == pytest.approx(served.virtual.tpot_s["p50"], rel=0.05)
    # A first token comes after some 40 ms of real time.
    assert served.measured.ttft_s["p50"] == pytest.approx(served.virtual.ttft_s["p50"], rel=0.10)
