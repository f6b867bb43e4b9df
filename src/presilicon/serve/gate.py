"""What every request passes before a route sees it: a name, the key, the body's limits; and what every answer carries."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from presilicon.serve import errors
from presilicon.serve.clock import VirtualClock
from presilicon.serve.connection import ABORT
from presilicon.serve.settings import KEY_BYTES, Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:/+=-]{1,128}")
"""Request ids that a client may choose; another one is replaced."""

STREAM = "presilicon.stream"
"""Key of the scope under which a route leaves a function that writes the answer itself, given ``receive`` and ``send``."""


def abort_of(scope: Scope) -> Callable[[], None]:
    """What ends the connection of a request at once."""
    abort: Callable[[], None] = scope.get("extensions", {}).get(ABORT, {}).get("abort", _nothing)
    return abort


def _nothing() -> None:
    """There is no connection to end (tests without a socket)."""


class Gate:
    """The outermost application: names requests, asks for the key, bounds bodies, and turns every failure into an error object.

    It adds ``x-request-id`` and ``x-presilicon-virtual-time`` (the chip's time when the answer begins, in s) to every answer.
    """

    def __init__(self, app: Application, settings: Settings, clock: VirtualClock) -> None:
        self.app, self.settings, self.clock = app, settings, clock
        self._keys = tuple(hashlib.sha256(key.encode()).digest() for key in settings.api_keys)
        self._reading_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"])
        name = given.get(b"x-request-id", b"")
        name = name if REQUEST_ID.fullmatch(name) else uuid.uuid4().hex.encode()
        scope["presilicon.request_id"] = name.decode()
        started = False

        def send_named(message: Message) -> Awaitable[None]:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                now = b"%.6f" % self.clock.now()
                message["headers"] = [*message["headers"], (b"x-request-id", name), (b"x-presilicon-virtual-time", now)]
            return send(message)

        try:
            self._check_key(given.get(b"authorization"))
            await self.app(scope, _Body(self, given, receive).receive, send_named)
            if STREAM in scope:
                await scope[STREAM](receive, send_named)
        except errors.ApiError as error:
            if not started:
                await error.response()(scope, receive, send_named)
        except ClientDisconnect:
            pass
        except Exception as error:
            errors.log_fault(f"a fault while answering {scope['method']} {scope['path']!r}", error)
            if started:
                abort_of(scope)()
            else:
                await errors.internal().response()(scope, receive, send_named)

    def _check_key(self, given: bytes | None) -> None:
        """Every key is compared, each in constant time."""
        if not self._keys:
            return
        scheme, _, key = (given or b"").partition(b" ")
        digest = hashlib.sha256(key.strip()[: KEY_BYTES + 1]).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._keys]
        if not any(matches) or scheme.lower() != b"bearer":
            raise errors.unauthorized(given is not None)

    def reading(self, count: int) -> None:
        """``count`` more bytes of bodies are held (fewer where negative); raises ``ApiError`` where that is too much."""
        self._reading_bytes += count
        if count > 0 and self._reading_bytes > self.settings.max_waiting_bytes:
            raise errors.busy("too many large bodies are arriving at once")


class _Body:
    """The body of one request as it arrives: bounded in size and time, and counted until it is whole."""

    def __init__(self, gate: Gate, headers: dict[bytes, bytes], receive: Receive) -> None:
        self._gate, self._receive = gate, receive
        self._limit = gate.settings.max_body_bytes
        length = headers.get(b"content-length", b"")
        self._refused = length.isdigit() and int(length[:20]) > self._limit
        self._until = asyncio.get_running_loop().time() + gate.settings.body_timeout_s
        self._held = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        if self._refused:
            raise errors.too_large(self._limit)
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self._let_go()
            message_text = f"the body did not arrive in {self._gate.settings.body_timeout_s:g} s"
            raise errors.ApiError(408, message_text, code="request_timeout", headers={"connection": "close"}) from None
        if message["type"] != "http.request":
            self._let_go()
            return message
        count = len(message.get("body", b""))
        self._held += count
        try:
            self._gate.reading(count)
            if self._held > self._limit:
                raise errors.too_large(self._limit)
        except errors.ApiError:
            self._let_go()
            raise
        if not message.get("more_body", False):
            self._let_go()
        return message

    def _let_go(self) -> None:
        self._whole = True
        self._gate.reading(-self._held)
