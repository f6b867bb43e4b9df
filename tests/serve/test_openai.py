"""The openai package and curl as clients."""

import json
import subprocess

import openai
import pytest

from serve.conftest import MODEL, Live

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(live: Live):
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=6, n=2, seed=1, temperature=0.5)
    assert [choice.finish_reason for choice in found.choices] == ["length", "length"]
    assert len(found.choices[0].message.content.split()) == 6
    assert found.usage.completion_tokens == 12
    assert found.presilicon["text"] == "filler"


def test_stream(client: openai.OpenAI) -> None:
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, stream=True, stream_options=options)
    )
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) == 6
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 6


def test_streamed_completion(client: openai.OpenAI) -> None:
    extra = {"ignore_eos": True, "min_tokens": 2}
    chunks = list(client.completions.create(model=MODEL, prompt="a b c", max_tokens=5, stream=True, extra_body=extra))
    assert len([chunk for chunk in chunks if chunk.choices[0].text]) == 5


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "presilicon"


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=10**9)
    assert long.value.code == "context_length_exceeded"
    assert long.value.param == "max_tokens"


def test_keys(serve) -> None:
    live = serve(api_keys=("right", "other"), speedup=100.0)
    for key in ("right", "other"):
        with openai.OpenAI(base_url=f"{live.url}/v1", api_key=key) as client:
            assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2).usage.completion_tokens == 2
    with (
        openai.OpenAI(base_url=f"{live.url}/v1", api_key="wrong") as client,
        pytest.raises(openai.AuthenticationError) as wrong,
    ):
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)
    assert wrong.value.code == "invalid_api_key"


def curl(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, check=True
    )
    body, _, code = done.stdout.rpartition("\n")
    return int(code), body


def test_curl(live: Live) -> None:
    body = json.dumps({"model": MODEL, "messages": HELLO, "max_tokens": 3})
    code, text = curl(f"{live.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body)
    assert code == 200
    assert json.loads(text)["usage"]["completion_tokens"] == 3
    streamed = body.replace("}", "}", 1)[:-1] + ', "stream": true}'
    code, text = curl("-N", f"{live.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", streamed)
    assert (code, text.count('"delta":{"content":')) == (200, 3)
    code, text = curl("--http2", f"{live.url}/v1/chat/completions", "-H", "content-type: application/json", "-d", body)
    assert code == 200, text
