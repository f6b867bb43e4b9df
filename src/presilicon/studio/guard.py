"""Who may ask the studio for what: one address, one token where it is reachable from outside, no other site's pages."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 2**20
"""Of one request's body: a trace of a day."""
COOKIE = "presilicon_token"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Scripts, styles and pictures are this host's alone, and no script stands in the page itself."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Wraps the application. ``hosts`` are the names it answers to (none: any); ``token``, where not empty, is asked for."""

    app: ASGIApp
    hosts: tuple[str, ...] = LOOPBACK
    token: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse or pass on a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, _with_headers(send))
            return
        await self.app(scope, _limited(receive), _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers, request = Headers(scope=scope), Request(scope)
        host = headers.get("host", "")
        if self.hosts and _name(host) not in self.hosts:
            return _told(403, "the studio does not answer to this name")
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and scope["method"] != "GET"
        if foreign or (origin is not None and urlsplit(origin).netloc != host):
            return _told(403, "pages of other sites may not use the studio")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MOST_BYTES:
            return _told(413, f"more than {MOST_BYTES // 2**20} MiB")
        if self.token and not self._known(request):
            return _told(401, "the studio's address with its token is needed; the terminal that runs it shows it")
        if self.token and "token" in request.query_params:
            answer = RedirectResponse(scope["path"], 303)
            answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", path="/")
            return answer
        return None

    def _known(self, request: Request) -> bool:
        given = request.query_params.get("token") or request.cookies.get(COOKIE) or ""
        return hmac.compare_digest(given.encode(), self.token.encode())


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _told(code: int, message: str) -> JSONResponse:
    return JSONResponse({"refused": {"message": message, "where": "", "hint": ""}}, code)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "no-referrer"
            headers["cross-origin-opener-policy"] = "same-origin"
            headers["cross-origin-resource-policy"] = "same-origin"
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sent


class TooLargeError(Exception):
    """A body went on beyond what its header said."""


def _limited(receive: Receive) -> Callable[[], Awaitable[Message]]:
    taken = 0

    async def received() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BYTES:
            raise TooLargeError
        return message

    return received
