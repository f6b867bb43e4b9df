"""What the routes answer, over a real socket."""

import json
import re

import pytest

from presilicon.serve.schemas import ChatCompletion, ErrorReply, ModelList, TextCompletion
from serve.conftest import MODEL, Live


def events(text: str) -> list[dict]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def refused(response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    error = ErrorReply.model_validate(response.json()).error
    assert error.code == code
    return error.message


def test_models(live: Live) -> None:
    found = ModelList.model_validate(live.client.get("/v1/models").json())
    assert [card.id for card in found.data] == [MODEL]
    assert found.data[0].max_model_len == 8192
    assert live.client.get(f"/v1/models/{MODEL}").json()["id"] == MODEL
    refused(live.client.get("/v1/models/another/model"), 404, "model_not_found")


def test_a_chat(live: Live) -> None:
    found = ChatCompletion.model_validate(live.chat(max_tokens=7, seed=3).json())
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == 7
    assert found.usage.total_tokens == found.usage.prompt_tokens + 7
    assert len(found.choices[0].message.content.split()) == 7
    again = ChatCompletion.model_validate(live.chat(max_tokens=7, seed=3).json())
    assert again.choices[0].message.content == found.choices[0].message.content


def test_a_response_says_that_its_text_is_filler(live: Live) -> None:
    found = live.chat().json()
    assert found["system_fingerprint"] == "presilicon-filler"
    assert found["presilicon"]["text"] == "filler"
    assert "no model was run" in found["presilicon"]["note"]


def test_a_stream(live: Live) -> None:
    response = live.chat(stream=True, max_tokens=5, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response.text)
    assert [e["choices"][0]["delta"].get("role") for e in found[:2]] == ["assistant", None]
    pieces = [e["choices"][0]["delta"]["content"] for e in found[1:6]]
    assert all(pieces)
    assert found[6]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert found[6]["presilicon"]["text"] == "filler"
    assert found[7]["choices"] == []
    assert found[7]["usage"]["completion_tokens"] == 5
    assert len(found) == 8


def test_usage_in_every_event(live: Live) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    found = events(live.chat(stream=True, max_tokens=3, stream_options=options).text)
    assert [e["usage"]["completion_tokens"] for e in found[1:4]] == [1, 2, 3]


def test_a_completion_of_each_kind_of_prompt(live: Live) -> None:
    for prompt, tokens, answers in (("abcdefgh", 2, 1), ([1, 2, 3], 3, 1), (["abcd", "efgh"], 2, 2), ([[1, 2], [3]], 3, 2)):
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 2}
        found = TextCompletion.model_validate(live.client.post("/v1/completions", json=body).json())
        assert found.usage.prompt_tokens == tokens
        assert [choice.index for choice in found.choices] == list(range(answers))
        assert found.usage.completion_tokens == 2 * answers


def test_a_streamed_completion(live: Live) -> None:
    body = {"model": MODEL, "prompt": "a", "max_tokens": 3, "stream": True}
    found = events(live.client.post("/v1/completions", json=body).text)
    assert len([e for e in found if e["choices"][0]["text"]]) == 3


def test_several_answers(live: Live) -> None:
    found = ChatCompletion.model_validate(live.chat(n=3, max_tokens=4).json())
    assert len({choice.message.content for choice in found.choices}) == 3
    assert found.usage.completion_tokens == 12
    streamed = events(live.chat(n=2, max_tokens=4, stream=True).text)
    for index in range(2):
        own = [e["choices"][0] for e in streamed if e["choices"][0]["index"] == index]
        assert len([c for c in own if c["delta"].get("content")]) == 4
        assert own[-1]["finish_reason"] == "length"


def test_lengths(live: Live) -> None:
    def count(**fields: object) -> tuple[int, str]:
        found = live.chat(**fields).json()
        return found["usage"]["completion_tokens"], found["choices"][0]["finish_reason"]

    assert count(max_tokens=3, max_completion_tokens=2) == (2, "length")
    assert count(max_tokens=None) == (256, "stop")
    assert count(max_tokens=None, min_tokens=300) == (300, "stop")
    assert count(max_tokens=300, ignore_eos=True) == (300, "length")


def test_stop(live: Live) -> None:
    text = live.chat(max_tokens=30, seed=1).json()["choices"][0]["message"]["content"]
    word = text.split()[5]
    found = live.chat(max_tokens=30, seed=1, stop=[" " + word, "never"]).json()
    said = found["choices"][0]["message"]["content"]
    assert text.startswith(said)
    assert word not in said.split()
    assert found["choices"][0]["finish_reason"] == "stop"
    assert found["usage"]["completion_tokens"] < 30
    late = live.chat(max_tokens=30, seed=1, stop=" " + word, min_tokens=20).json()
    assert late["usage"]["completion_tokens"] >= 20


def test_headers(live: Live) -> None:
    response = live.client.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    first = float(response.headers["x-presilicon-virtual-time"])
    other = live.client.get("/v1/models", headers={"x-request-id": "a b\\"})
    assert re.fullmatch("[0-9a-f]{32}", other.headers["x-request-id"])
    assert float(other.headers["x-presilicon-virtual-time"]) > first


def test_times_are_the_schedulers(live: Live) -> None:
    timing = live.chat(max_tokens=20).json()["presilicon"]["timing"][0]
    assert timing["end_to_end_s"] == pytest.approx(
        timing["time_to_first_token_s"] + 19 * timing["time_per_output_token_s"], rel=1e-6
    )
    assert 0.001 < timing["time_per_output_token_s"] < 0.1  # an 8B model on one H100


def test_metrics(live: Live) -> None:
    before = live.metric("vllm:generation_tokens_total")
    live.chat(max_tokens=9)
    assert live.metric("vllm:generation_tokens_total") == before + 9
    text = live.client.get("/metrics").text
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
                 "request_success_total", "time_to_first_token_seconds_bucket", "inter_token_latency_seconds_bucket",
                 "e2e_request_latency_seconds_count", "request_time_per_output_token_seconds_sum"):  # fmt: skip
        assert f"\nvllm:{name}{{" in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) [a-z0-9_:]+ .+|[a-z0-9_:]+\{([a-z_]+="[^"]*",?)+\} [0-9.e+-]+', line), line


def test_shared_prefixes_are_found(live: Live) -> None:
    message = [{"role": "user", "content": "the same long beginning " * 100}]
    live.chat(messages=message)
    before = live.metric("vllm:prefix_cache_hits_total")
    live.chat(messages=message)
    assert live.metric("vllm:prefix_cache_hits_total") - before > 400


def test_health(live: Live) -> None:
    assert live.client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 10**30}, "context_length_exceeded", "8,192"),
        ({"max_tokens": "5"}, "invalid_type", "max_tokens"),
        ({"max_tokens": True}, "invalid_type", "max_tokens"),
        ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
        ({"min_tokens": 5}, "invalid_value", "min_tokens"),
        ({"n": 129}, "invalid_value", "n"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"stop": [""]}, "invalid_value", "stop"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "hello"}, "invalid_type", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages.0.role"),
        ({"messages": [{"role": "user", "content": "word " * 10000}]}, "context_length_exceeded", "8,192"),
        ({"logprobs": True}, "invalid_value", "logprobs"),
        ({"seed": 2**64}, "invalid_value", "seed"),
    ],
)
def test_refused_fields(live: Live, fields: dict, code: str, said: str) -> None:
    assert said in refused(live.chat(**fields), 400, code)


def test_an_unknown_model(live: Live) -> None:
    assert "gpt-9" in refused(live.chat(model="gpt-9"), 404, "model_not_found")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b"\xff\xfe", b'{"model": "\\ud800"}', b"[" * 100_000, b'{"model": NaN}',
     b'{"model": "llama-3.1-8b", "messages": [{"role": "user", "content": "\\ud800"}]}'],
)  # fmt: skip
def test_malformed_bodies(live: Live, body: bytes) -> None:
    response = live.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    ErrorReply.model_validate(response.json())


def test_another_media_type(live: Live) -> None:
    refused(
        live.client.post("/v1/completions", content=b"a=b", headers={"content-type": "text/plain"}),
        415,
        "unsupported_media_type",
    )


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405), ("DELETE", "/v1/models", 405)]
)
def test_other_routes(live: Live, method: str, path: str, status: int) -> None:
    response = live.client.request(method, path)
    assert response.status_code == status
    ErrorReply.model_validate(response.json())
    assert (status == 405) == ("allow" in response.headers)
