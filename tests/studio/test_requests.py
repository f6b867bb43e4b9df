"""What the studio answers to requests that no page would send: other hosts, other sites, paths, nonsense."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import Served, end, start

from presilicon.cli import main
from presilicon.errors import PresiliconError
from presilicon.studio.asked import Asked, library_chip, model


@pytest.fixture(scope="module")
def client(studio: Served):
    with httpx.Client(base_url=studio.url) as found:
        yield found


def raw(url: str, request: bytes) -> bytes:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as made:
        made.sendall(request)
        made.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: made.recv(65536), b""))


def test_page_allows_no_other_host(client) -> None:
    for path in ("/", "/static/main.js", "/api/library"):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", ""])
def test_other_names_are_refused(studio: Served, host: str) -> None:
    answer = raw(studio.url, f"GET /api/library HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"403", b"400")


@pytest.mark.parametrize("headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}])
def test_other_sites_may_not_ask(client, headers: dict[str, str]) -> None:
    assert client.post("/api/estimate", json={}, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e%2fapp.py", "/static//etc/passwd", "/etc/passwd",
        "/api/jobs/..%2f..%2fetc", "/api/jobs/0123456789abcdef", "/api/jobs/%00", "/api/controls?chip=file:../../etc/passwd",
        "/api/controls?chip=/etc/passwd", "/api/controls?chip=pyproject.toml", "/api/controls?chip=file:0123456789abcdef",
    ],
)  # fmt: skip
def test_paths_lead_nowhere(client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    assert "root:" not in answer.text
    assert "def " not in answer.text


def test_models_and_chips_are_names_and_never_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "mine.toml").write_text(library_chip("l4").to_toml())
    monkeypatch.chdir(tmp_path)
    for name in (".", str(tmp_path), "config.json", "x.onnx", "~"):
        with pytest.raises(PresiliconError, match="no model of the library"):
            model(name)
    for name in ("mine.toml", str(tmp_path / "mine.toml"), "MINE.TOML "):
        with pytest.raises(PresiliconError, match="not a chip of the library"):
            library_chip(name)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([], "not a state"),
        ({"modell": "x"}, "unknown key"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"batch": True}, "batch is True"),
        ({"chips": 65}, "chips is 65"),
        ({"changes": {"cores": "many"}}, "cores is 'many'"),
        ({"changes": []}, "not a table"),
        ({"model": "x" * 300}, "model is"),
    ],
)
def test_nonsense_is_told_in_a_sentence(client, body: object, told: str) -> None:
    answer = client.post("/api/estimate", json=body)
    assert answer.status_code == 422
    assert told in answer.json()["refused"]["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_bodies_that_are_no_json(client, content: bytes) -> None:
    answer = client.post("/api/estimate", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert client.post("/api/estimate", content=b"{}", headers={"content-type": "text/plain"}).status_code == 422


def test_too_large_a_body(studio: Served) -> None:
    head = f"POST /api/traces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {2**40}\r\nConnection: close\r\n\r\n"
    assert raw(studio.url, head.encode()).split(b" ", 2)[1] == b"413"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(list(Asked.__dataclass_fields__)) | st.text(max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(keys, json_values, max_size=5))
def test_any_state_is_a_state_or_a_sentence(table: dict[str, object]) -> None:
    with contextlib.suppress(PresiliconError):
        Asked.of(table)


def test_elsewhere_a_token_is_asked_for(tmp_path: Path) -> None:
    served = start(tmp_path / "workspace", "--token", "sesame-of-a-test")
    try:
        url = served.url.partition("?")[0]
        assert served.url.endswith("?token=sesame-of-a-test")
        with httpx.Client(base_url=url) as client:
            assert client.get("/").status_code == 401
            assert client.get("/?token=wrong").status_code == 401
            assert client.post("/api/estimate", json={}).status_code == 401
            client.cookies.set("presilicon_token", "wrong")
            assert client.get("/").status_code == 401
            client.cookies.clear()
            known = client.get("/?token=sesame-of-a-test")
            assert known.status_code == 303
            assert known.headers["location"] == "/"
            cookie = known.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            client.cookies.set("presilicon_token", "sesame-of-a-test")
            assert client.get("/").status_code == 200
    finally:
        end(served)


def test_other_addresses_get_a_token_of_their_own() -> None:
    from presilicon.studio import token_for

    assert token_for("127.0.0.1", "") == ""
    first, second = token_for("0.0.0.0", ""), token_for("0.0.0.0", "")
    assert len(first) >= 20
    assert first != second
    assert token_for("0.0.0.0", "mine") == "mine"


HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\u202eb", "'; drop table", "]]>", "&lt;b&gt;"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_everywhere(client, name: str) -> None:
    toml = library_chip("l4").to_toml().replace("NVIDIA L4", "NAME").replace("nvidia-l4", "NAME")
    kept = client.post("/api/chips", json={"text": toml.replace('"NAME"', json.dumps(name))}).json()
    state = {"chip": kept["name"], "model": "llama-3.1-8b"}
    found = client.post("/api/estimate", json=state).json()
    report = client.get("/download/report.html", params={"state": json.dumps(state)}).text
    for page in (*found["pictures"].values(), report):
        assert "<script" not in page
        assert "<img" not in page
        assert "\u202e" not in page
    assert "alert(1)" not in report or "&lt;" in report
    attached = client.get("/download/chip.toml", params={"state": json.dumps(state)}).headers["content-disposition"]
    assert attached.isascii()
    assert attached.count('"') == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port", "70000"], "port 70000 does not exist"),
        (["--host", "no.such.host.example", "--port", "0"], "no address of this computer"),
        (["--workspace", "FILE/below"], "cannot be written"),
    ],
)
def test_a_studio_that_cannot_start_says_why(options: list[str], told: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    given = [option.replace("FILE", str(tmp_path / "file")) for option in options]
    if "--workspace" not in given:
        given += ["--workspace", str(tmp_path / "workspace")]
    assert main(["studio", *given]) == 2
    assert told in capsys.readouterr().err
