"""The process: a socket, uvicorn, and an orderly end on SIGTERM."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from presilicon.errors import InputError
from presilicon.serve import errors
from presilicon.serve.app import Endpoint
from presilicon.serve.connection import LimitedProtocol
from presilicon.serve.exchange import End
from presilicon.serve.settings import Settings

BACKLOG = 4096
"""Connections that may wait to be accepted."""


def bind(settings: Settings) -> socket.socket:
    """A listening socket at the settings' address; ``InputError`` where there can be none."""
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise InputError(f"{settings.host[:100]!r} is no address of this computer", where="host") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise InputError("another program listens there", where=where, hint="--port 0 takes a free one") from None
        if error.errno == errno.EACCES:
            raise InputError("this user may not listen there", where=where, hint="ports from 1024 on are free to all") from None
        raise InputError(f"cannot listen there: {error.strerror}", where=where) from None
    listener.setblocking(False)
    return listener


class Server(uvicorn.Server):
    """uvicorn's server with an end that tells: SIGTERM and Ctrl-C let requests in flight finish, for a while."""

    def __init__(self, endpoint: Endpoint, started: Callable[[], None] | None = None) -> None:
        config = uvicorn.Config(
            endpoint.asgi,
            http=LimitedProtocol,
            ws="none",
            loop="auto",
            lifespan="on",
            log_level="error",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=30,
        )
        super().__init__(config)
        self.endpoint, self.tell = endpoint, started
        self.signals: list[int] = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Note signals instead of raising them again at the end: an orderly end is a success."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            self.signals = list(self._captured_signals)
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, then say so."""
        await super().startup(sockets)
        if self.tell is not None:
            self.tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new requests, let those in flight finish, and after the time to drain tell the rest."""
        engine = self.endpoint.engine
        engine.draining = True
        timer = asyncio.get_running_loop().call_later(
            self.endpoint.settings.drain_s, engine.end_all, End.DRAINED, errors.draining()
        )
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()


def serve(endpoint: Endpoint, listener: socket.socket, *, started: Callable[[], None] | None = None) -> int:
    """Serve on ``listener`` until a signal ends it; the signal's number, or 0. ``started`` is called once it accepts."""
    server = Server(endpoint, started)
    server.run(sockets=[listener])
    return server.signals[0] if server.signals else 0
