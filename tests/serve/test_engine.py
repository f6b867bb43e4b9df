"""Replicas, routing, waiting, speculation and the clock."""

import gc
import threading
import time

import pytest

from presilicon.errors import InputError
from presilicon.replay import Fleet, Speculation
from presilicon.serve import Endpoint, Settings
from presilicon.serve.clock import LEAST_BEHIND_S, VirtualClock
from presilicon.serve.engine import prefix_hashes
from serve.conftest import MODEL, Live, deployment, request_bytes
from serve.test_broken_requests import body, rest


def replicas_of(live: Live, messages: list[str]) -> list[int]:
    found = [live.chat(messages=[{"role": "user", "content": text}]).json() for text in messages]
    return [reply["presilicon"]["timing"][0]["replica"] for reply in found]


def test_round_robin(serve) -> None:
    live = serve(replicas=3, speedup=50.0)
    assert replicas_of(live, ["hello"] * 6) == [0, 1, 2, 0, 1, 2]
    assert 'engine="2"' in live.client.get("/metrics").text


def test_prefix_aware_routing(serve) -> None:
    live = serve(replicas=2, routing="prefix-aware", speedup=50.0)
    long = ["first " * 400, "other " * 400]
    first, second = replicas_of(live, long)
    assert first != second
    assert replicas_of(live, [long[0] + "a", long[0] + "b", long[1] + "c"]) == [first, first, second]


def test_least_loaded_counts_what_waits_for_a_step(serve) -> None:
    live = serve(replicas=2, routing="least-loaded")
    connections = [live.connect() for _ in range(8)]
    for connection in connections:
        connection.sendall(request_bytes(body(stream=True)))
    live.wait_for("vllm:num_requests_running", 8)
    assert [replica.scheduler.running for replica in live.endpoint.engine.replicas] == [4, 4]
    for connection in connections:
        connection.close()


def test_more_may_not_wait(serve) -> None:
    live = serve(limits={"max_running": 1, "max_waiting": 1})
    connections = [live.connect() for _ in range(2)]
    connections[0].sendall(request_bytes(body(stream=True)))
    live.wait_for("vllm:num_requests_running", 1)
    connections[1].sendall(request_bytes(body(stream=True)))
    live.wait_for("vllm:num_requests_waiting", 1)
    response = live.chat()
    assert response.status_code == 429
    assert "wait for their turn" in response.json()["error"]["message"]
    for connection in connections:
        connection.close()


def test_speculation_gives_every_token(serve) -> None:
    live = serve(limits={"speculation": Speculation(3, 0.7)}, speedup=10.0)
    reply = live.chat(max_tokens=50).json()
    assert reply["usage"]["completion_tokens"] == 50
    assert len(reply["choices"][0]["message"]["content"].split()) == 50
    streamed = live.chat(max_tokens=50, stream=True).text
    assert streamed.count('"delta":{"content":') == 50


def test_real_time_is_the_chips(serve) -> None:
    live = serve()
    begin = time.perf_counter()
    timing = live.chat(max_tokens=60).json()["presilicon"]["timing"][0]
    took = time.perf_counter() - begin
    assert timing["end_to_end_s"] <= took < timing["end_to_end_s"] + 0.3


def test_speedup_divides_time(serve) -> None:
    live = serve(speedup=10.0)
    begin = time.perf_counter()
    timing = live.chat(max_tokens=1000).json()["presilicon"]["timing"][0]
    took = time.perf_counter() - begin
    assert timing["end_to_end_s"] / 10 <= took < timing["end_to_end_s"] / 10 + 0.5


def test_no_token_is_lost_under_load(serve) -> None:
    live = serve(speedup=5.0)
    counts, threads = [], []
    for _ in range(40):
        threads.append(
            threading.Thread(target=lambda: counts.append(live.chat(max_tokens=40, stream=True).text.count('"delta":{"c')))
        )
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert counts == [40] * 40
    live.wait_for("vllm:kv_cache_usage_perc", 0)


def test_a_fault_of_the_scheduler_is_told(serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    live = serve()

    def broken(now_s: float) -> None:
        raise ZeroDivisionError

    replica = live.endpoint.engine.replicas[0]
    monkeypatch.setattr(type(replica.scheduler), "step", lambda self, now_s: broken(now_s))
    for _ in range(2):
        response = live.chat()
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "internal_error"
        assert "ZeroDivision" not in response.text
    assert live.client.get("/health").status_code == 503
    assert "a replica failed: ZeroDivisionError" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_fault_while_a_stream_is_written(serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    live = serve(speedup=20.0)
    monkeypatch.setattr("presilicon.serve.replies.timing", lambda answer: 1 / 0)
    with live.connect() as connection:
        connection.sendall(request_bytes(body(stream=True, max_tokens=3)))
        text = rest(connection)
    assert text.count(b'"delta":{"content":') == 3
    assert not text.endswith(b"0\r\n\r\n")
    assert live.chat(model="gone").status_code == 404
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" not in caplog.text


def test_the_clock_waits_for_late_work() -> None:
    clock = VirtualClock(1000.0)
    time.sleep(LEAST_BEHIND_S + 0.05)
    clock.hold_back(0.0)
    assert clock.held_back_s >= 0.05
    assert clock.now() == pytest.approx(LEAST_BEHIND_S * 1000, rel=0.1)
    assert VirtualClock(1.0).most_behind_s == 1.0
    assert clock.arrival(None) == pytest.approx(clock.now(), rel=0.1)
    assert clock.arrival(0.0) < clock.now()


def test_prefix_hashes_name_whole_blocks_and_all_before_them() -> None:
    one = prefix_hashes(b"a" * 256 + b"b" * 64, 80, 16)
    other = prefix_hashes(b"a" * 256 + b"c" * 64, 80, 16)
    assert len(one) == 5
    assert one[:4] == other[:4]
    assert one[4] != other[4]
    assert len(set(one)) == 5  # equal blocks at different places differ
    assert prefix_hashes(b"a" * 63, 15, 16) == ()


@pytest.mark.parametrize(
    "wrong", [{"port": -1}, {"speedup": 0.0}, {"speedup": float("nan")}, {"api_keys": ("",)}, {"api_keys": ("a\nb",)},
              {"max_concurrency": 0}, {"drain_s": -1.0}, {"body_timeout_s": 0.0}, {"output_tokens": 0}],
)  # fmt: skip
def test_settings_that_serve_nothing(wrong: dict) -> None:
    with pytest.raises(InputError):
        Settings(**wrong)


def test_a_context_longer_than_the_models() -> None:
    with pytest.raises(InputError, match="131,072"):
        Endpoint(Fleet(deployment=deployment()), names=(MODEL,), chip="h100", context_tokens=10**6)


def test_text_of_another_source(serve) -> None:
    class Echo:
        name = "echo"

        def open(self, prompt: str, *, seed: int, choice: int):
            return iter(prompt.split())

    live = serve(speedup=100.0, source=Echo())
    found = live.client.post("/v1/completions", json={"model": MODEL, "prompt": "a b c", "max_tokens": 10}).json()
    assert found["choices"][0]["text"] == "abc"
    assert found["choices"][0]["finish_reason"] == "stop"
    assert found["system_fingerprint"] == "presilicon-echo"
    assert found["presilicon"]["text"] == "echo"
    assert "note" not in found["presilicon"]


def test_nothing_is_kept_of_what_is_over(serve) -> None:
    live = serve(speedup=1e5)

    def kept() -> int:
        gc.collect()
        return sum(
            type(one).__name__ in ("Answer", "Exchange", "Reply", "RequestResponseCycle", "Task") for one in gc.get_objects()
        )

    live.chat()
    before = kept()
    for number in range(200):
        live.chat(stream=bool(number % 2))
    assert kept() < before + 50  # of 200; tasks of other endpoints come and go
