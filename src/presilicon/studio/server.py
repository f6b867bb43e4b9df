"""The process: an address, a token where it is reachable from other machines, uvicorn."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable

import uvicorn

from presilicon.serve import Settings, bind
from presilicon.studio.app import Studio
from presilicon.studio.guard import LOOPBACK, Guard


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; InputError where none can."""
    return bind(Settings(host=host, port=port))


def token_for(host: str, given: str) -> str:
    """The token that requests must carry: none on loopback unless one is given, else a new one."""
    return given or ("" if host in LOOPBACK else secrets.token_urlsafe(18))


def guarded(studio: Studio, host: str, token: str) -> Guard:
    """The studio behind its guard: on loopback it answers to loopback's names only."""
    return Guard(studio.app, hosts=LOOPBACK if host in LOOPBACK else (), token=token)


def run(studio: Studio, listener: socket.socket, *, host: str, token: str, started: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; ``started`` is called once it accepts. Searches and replays end with it."""
    config = uvicorn.Config(
        guarded(studio, host, token), log_level="error", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, ws="none", lifespan="on", timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = _Server(config, started)
    try:
        server.run(sockets=[listener])
    finally:
        studio.jobs.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell()
