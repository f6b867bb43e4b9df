"""Clients that vanish, stall, flood or send garbage: the right status, nothing held, nobody else disturbed."""

import json
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from presilicon.cli import main
from presilicon.serve.schemas import ErrorReply
from serve.conftest import MODEL, Live, request_bytes

LONG = {"model": MODEL, "messages": [{"role": "user", "content": "hello " * 400}], "max_tokens": 5000, "ignore_eos": True}


MAIN = "import sys; from presilicon.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-c", MAIN, "serve", "llama-3.1-8b", "--chip", "h100", "--port", "0"]


def body(**fields: object) -> bytes:
    return json.dumps(LONG | fields).encode()


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of an answer that ends with its connection or by its length."""
    data = b""
    while True:
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            break
        data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not more or (length and len(rest) >= int(length)):
            break
    return int(data[9:12] or 0), data.partition(b"\r\n\r\n")[2]


def told(connection: socket.socket, status: int, code: str) -> None:
    found, text = answer(connection)
    assert found == status, text
    assert ErrorReply.model_validate_json(text).error.code == code


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_client_that_vanishes_frees_its_blocks(live: Live, stream: bool, how: str) -> None:
    gone = live.metric("presilicon:exchanges_gone_total")
    connections = [live.connect() for _ in range(5)]
    for connection in connections:
        connection.sendall(request_bytes(body(stream=stream)))
    live.wait_for("vllm:num_requests_running", 5)
    assert live.metric("vllm:kv_cache_usage_perc") > 0
    for connection in connections:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "half":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()
    live.wait_for("vllm:num_requests_running", 0)
    live.wait_for("vllm:kv_cache_usage_perc", 0)
    assert live.metric("presilicon:exchanges_gone_total") == gone + 5
    for connection in connections:
        connection.close()


def test_a_client_that_vanishes_while_it_waits(serve) -> None:
    live = serve(limits={"max_running": 1})
    first, second = live.connect(), live.connect()
    first.sendall(request_bytes(body(stream=True)))
    live.wait_for("vllm:num_requests_running", 1)
    second.sendall(request_bytes(body(stream=True)))
    live.wait_for("vllm:num_requests_waiting", 1)
    second.close()
    live.wait_for("vllm:num_requests_waiting", 0)
    first.close()
    live.wait_for("vllm:kv_cache_usage_perc", 0)


def test_a_slow_reader_is_closed_and_its_blocks_freed(serve) -> None:
    live = serve(speedup=1000.0, stream_buffer=64)
    with live.connect(SO_RCVBUF=4096) as connection:
        connection.sendall(request_bytes(body(stream=True, max_tokens=100_000)))
        live.wait_for("presilicon:exchanges_slow_total", 1, 15)
        live.wait_for("vllm:kv_cache_usage_perc", 0)
        text = rest(connection)
    assert not text.endswith(b"0\r\n\r\n")  # the stream ends broken: no token is left out in silence
    assert b"[DONE]" not in text
    assert live.chat().status_code == 200


def test_a_reader_that_stalls_is_closed(serve) -> None:
    live = serve(speedup=1000.0, stream_buffer=10**6, stall_timeout_s=0.4)
    with live.connect(SO_RCVBUF=4096) as connection:
        connection.sendall(request_bytes(body(stream=True, max_tokens=30_000)))
        live.wait_for("presilicon:requests_in_flight", 1)
        live.wait_for("presilicon:requests_in_flight", 0, 15)
        live.wait_for("vllm:kv_cache_usage_perc", 0)


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_ten_megabytes(live: Live, how: str) -> None:
    large = b'{"x": "' + b"x" * 10_000_000 + b'"}'
    content = large if how == "length" else iter([large[i : i + 65536] for i in range(0, len(large), 65536)])
    response = live.client.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert ErrorReply.model_validate(response.json()).error.code == "request_too_large"


def test_a_body_that_never_comes(serve) -> None:
    live = serve(body_timeout_s=0.2)
    with live.connect() as connection:
        connection.sendall(request_bytes(body())[:-10])
        told(connection, 408, "request_timeout")


def test_a_client_that_vanishes_within_its_body(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with live.connect() as connection:
            connection.sendall(request_bytes(body())[:-10])
    live.chat()
    assert caplog.text == ""


def test_many_large_bodies_at_once(serve) -> None:
    live = serve(max_waiting_bytes=100_000, body_timeout_s=1.0)
    with live.connect() as first, live.connect() as second:
        first.sendall(request_bytes(b"x" * 90_000)[:-10])
        time.sleep(0.1)
        second.sendall(request_bytes(b"x" * 90_000))
        told(second, 429, "rate_limit_exceeded")
        told(first, 408, "request_timeout")
    assert live.chat().status_code == 200


@pytest.mark.parametrize(
    "flood",
    [
        "".join(f"x-{i}: y\r\n" for i in range(100_000)).encode(),
        b"x-large: " + b"y" * 1_000_000 + b"\r\n",
        b"x-endless: " + b"y" * 1_000_000,
        b"y" * 1_000_000,
    ],
    ids=["many", "large", "endless value", "endless name"],
)
def test_header_floods(live: Live, flood: bytes) -> None:
    with live.connect() as connection:
        try:
            connection.sendall(b"GET /health HTTP/1.1\r\nhost: here\r\n" + flood + b"\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pytest.fail("the connection was closed before its answer could be read")
        told(connection, 431, "headers_too_large")
    assert live.client.get("/health").status_code == 200


def test_an_endless_address(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(b"GET /" + b"y" * 300_000)
        told(connection, 431, "headers_too_large")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\nhost: a\r\n\r\n"],
)
def test_what_is_not_http(live: Live, garbage: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(garbage + b"\r\n" * 4)
        told(connection, 400, "invalid_http")


def test_more_than_is_served_at_once(serve) -> None:
    live = serve(max_concurrency=2)
    with live.connect() as first, live.connect() as second:
        for connection in (first, second):
            connection.sendall(request_bytes(body(stream=True)))
        live.wait_for("presilicon:requests_in_flight", 2)
        response = live.chat()
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert ErrorReply.model_validate(response.json()).error.type == "rate_limit_error"
    live.wait_for("presilicon:requests_in_flight", 0)
    assert live.chat().status_code == 200


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic secret", "secret", "Bearer secret2", "Bearer " + "x" * 5000]
)
def test_nothing_is_served_without_the_key(serve, header: str | None) -> None:
    live = serve(api_keys=("secret",))
    del live.client.headers["authorization"]
    headers = {"authorization": header} if header else {}
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/health"), ("GET", "/openapi.json"), ("GET", "/"),
                         ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/nothing")):  # fmt: skip
        response = live.client.request(method, path, headers=headers)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert ErrorReply.model_validate(response.json()).error.code == "invalid_api_key"
    assert live.client.get("/v1/models", headers={"authorization": "bearer secret"}).status_code == 200


class Process:
    """``presilicon serve`` as users start it."""

    def __init__(self, *arguments: str) -> None:
        command = [*COMMAND, "--json"]
        self.process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        lines = []
        while not lines or lines[-1].strip() != "}":
            lines.append(self.process.stdout.readline())
            assert lines[-1], self.process.stderr and self.process.stderr.read()
        self.setting = json.loads("".join(lines))
        self.port = int(self.setting["url"].rpartition(":")[2].partition("/")[0])

    def stream(self, max_tokens: int) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.sendall(request_bytes(body(stream=True, max_tokens=max_tokens)))
        assert b"200 OK" in connection.recv(4096)
        return connection

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


def rest(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


def test_sigterm_lets_requests_finish() -> None:
    server = Process("--speedup", "5")
    with server.stream(300) as connection:
        code, errors = server.end(signal.SIGTERM)
        text = rest(connection)
    assert (code, errors) == (0, "")
    assert text.count(b'"delta":{"content":"') >= 299  # the first may have come with the head
    assert b"data: [DONE]" in text


def test_sigterm_tells_what_does_not_finish() -> None:
    server = Process("--drain-s", "0.3")
    with server.stream(5000) as connection:
        code, errors = server.end(signal.SIGTERM)
        text = rest(connection)
    assert (code, errors) == (0, "")
    assert b'"code":"server_shutting_down"' in text
    assert b"[DONE]" not in text
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_interrupt() -> None:
    assert Process().end(signal.SIGINT) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "no.such.host.invalid"], "no address of this computer"),
        (["--host", "203.0.113.7"], "cannot listen there"),
        (["--port", "70000"], "port 70000 does not exist"),
        (["--speedup", "1e10"], "the clock cannot run"),
        (["--api-key", "a b"], "API key"),
        (["--max-model-len", "10000000"], "context is 131,072 tokens"),
        (["--chips", "3"], "chips"),
        (["--routing", "nowhere"], "no routing is called"),
    ],
)
def test_settings_that_cannot_be(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    code, errors = refusal(capsys, *arguments)
    assert code == 2
    assert said in errors
    assert len(errors.splitlines()) == 1


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = refusal(capsys, "--port", str(port))
    assert (code, errors) == (2, f"presilicon: 127.0.0.1:{port}: another program listens there (--port 0 takes a free one)\n")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["serve", "llama-3.1-8b", "--chip", "h100", "--port", "0", *arguments])
    return code, capsys.readouterr().err
