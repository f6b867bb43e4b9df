"""One connection: uvicorn's HTTP protocol with limits on headers, on time, and on what is thrown away."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from presilicon.serve.errors import error_body

MOST_HEADER_BYTES = 64 * 1024
"""Bytes of a request's line and headers."""

MOST_HEADERS = 128
"""Headers of one request."""

HEADER_TIMEOUT_S = 30.0
"""Time that a request's headers have to arrive, from the connection's or their own first byte."""

MOST_DISCARDED_BYTES = 64 * 2**20
"""Bytes of a refused body that are read and thrown away, so that the client can read why; then the connection is closed."""

UNREAD_TIMEOUT_S = 60.0
"""Time after which the system ends a connection whose other side takes no data: its host is gone, or it stalls."""

LINGER_S = 2.0
"""Time that a client has to read the answer to a request that could not be parsed."""

RECEIVED = "presilicon.received"
"""Key of the ASGI scope that holds when the request's last byte came, by ``time.monotonic``."""

ABORT = "presilicon.abort"
"""Name of the extension of the ASGI scope that ends the connection at once."""


UPGRADE = re.compile(rb"(\r\nup)grade(?=[ \t]*:)", re.IGNORECASE)


def _without_upgrade(data: bytes) -> bytes:
    """``data`` with a request's offer to upgrade renamed: HTTP/2 clients make it, and the parser then leaves the body out."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(rb"\1-grade", head) + end + rest if UPGRADE.search(head) else data


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds on headers in size, number and time, on refused bodies, and errors as OpenAI's objects."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_TIMEOUT_S * 1e3))
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._in_head = False
        self._refused = False
        self._too_large = ""
        self._head_timer: asyncio.TimerHandle | None = self.loop.call_later(HEADER_TIMEOUT_S, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client: parsed, unless the connection is only kept for the client to read why it is closed."""
        if self._refused:
            self._discard(len(data))
            return
        began = self._in_head
        if self.cycle is None or not self.cycle.more_body:
            data = _without_upgrade(data)
        super().data_received(data)
        if began and self._in_head and not self._refused:  # a line or header without end
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEADER_BYTES:
                self._refuse(431, f"the headers are larger than {MOST_HEADER_BYTES:,} bytes", "headers_too_large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_TIMEOUT_S, self._head_late)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._grow(len(name) + len(value))
        if len(self.headers) > MOST_HEADERS:
            self._too_large = f"there are more than {MOST_HEADERS} headers"
            raise ValueError(self._too_large)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.cycle.scope[RECEIVED] = time.monotonic()  # type: ignore[literal-required]
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed, or is too large to be (uvicorn's name for the place where it does)."""
        if self._too_large:
            self._refuse(431, self._too_large, "headers_too_large")
        else:
            self._refuse(400, "this is not an HTTP request", "invalid_http")

    def _grow(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MOST_HEADER_BYTES:
            self._too_large = f"the headers are larger than {MOST_HEADER_BYTES:,} bytes"
            raise ValueError(self._too_large)

    def _discard(self, count: int) -> None:
        self._discarded_bytes += count
        if self._discarded_bytes > MOST_DISCARDED_BYTES:
            self.transport.abort()

    def _head_late(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refuse(408, f"the headers did not arrive in {HEADER_TIMEOUT_S:g} s", "request_timeout")
        elif not self.transport.is_closing():
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer, then throw away what still comes for a while: closing at once would destroy the answer on its way."""
        self._refused = True
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:  # garbage behind a request in flight
            self.transport.abort()
            return
        body = error_body(message, kind="invalid_request_error", code=code)
        head: list[Any] = [STATUS_LINE[status], b"content-type: application/json\r\nconnection: close\r\n"]
        self.transport.write(b"".join([*head, b"content-length: %d\r\n\r\n" % len(body), body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.abort)
