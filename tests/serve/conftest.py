"""A real endpoint on a real socket: uvicorn in a thread of this process, over the real scheduler."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest

from presilicon import chip, frontend
from presilicon.replay import Deployment, Fleet, Limits, Speculation, deploy
from presilicon.serve import Endpoint, Settings, bind
from presilicon.serve.server import Server

MODEL = "llama-3.1-8b"


@cache
def deployment(speculation: Speculation | None = None, **limits: Any) -> Deployment:
    chosen = Limits(**({"max_running": 64} | limits))
    return deploy(frontend.load(MODEL), chip.load("h100"), limits=chosen, speculation=speculation)


@dataclass
class Live:
    """A running endpoint and ways to talk to it."""

    endpoint: Endpoint
    server: Server
    port: int
    client: httpx.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chat(self, **fields: Any) -> httpx.Response:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4} | fields
        return self.client.post("/v1/chat/completions", json=body)

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))

    def wait_for(self, name: str, value: float, most_s: float = 5.0) -> None:
        until = time.monotonic() + most_s
        while self.metric(name) != value:
            assert time.monotonic() < until, f"{name} stays {self.metric(name)}, not {value}"
            time.sleep(0.02)

    def connect(self, **options: int) -> socket.socket:
        made = socket.socket()
        for name, value in options.items():
            made.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        made.settimeout(10)
        made.connect(("127.0.0.1", self.port))
        return made


def request_bytes(body: bytes, *, path: str = "/v1/chat/completions", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@contextlib.contextmanager
def running(
    *,
    context_tokens: int | None = None,
    replicas: int = 1,
    routing: Any = "round-robin",
    limits: Any = None,
    source: Any = None,
    **settings: Any,
) -> Iterator[Live]:
    chosen = Settings(**{"port": 0, "drain_s": 2.0} | settings)
    endpoint = Endpoint(
        Fleet(deployment=deployment(**(limits or {})), replicas=replicas, routing=routing),
        names=(MODEL,),
        chip="h100",
        settings=chosen,
        context_tokens=context_tokens,
        source=source,
    )
    listener = bind(chosen)
    server = Server(endpoint)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    headers = {"authorization": f"Bearer {chosen.api_keys[0]}"} if chosen.api_keys else {}
    port = listener.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
        until = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.01)
        try:
            yield Live(endpoint, server, port, client)
        finally:
            client.close()
            server.should_exit = True
            thread.join(15)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    """One endpoint for all that only asks; twenty times real time."""
    with running(speedup=20.0, context_tokens=8192) as started:
        yield started


@pytest.fixture
def serve() -> Iterator[Callable[..., Live]]:
    """Start endpoints with settings of their own."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(**settings))
