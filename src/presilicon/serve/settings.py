"""What an endpoint is told at its start: address, clock, keys and limits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from presilicon.errors import InputError

KEY_BYTES = 512
"""No API key is longer; a longer one is refused at the start, and as a wrong one in a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Address, clock, keys and limits of one endpoint; the defaults suit one developer's machine.

    Raises ``InputError`` for a value that no endpoint can work with.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    speedup: float = 1.0
    """Seconds of the chip that pass in one second here."""
    api_keys: tuple[str, ...] = ()
    """A request must carry one of them; with none, every request is served."""
    max_concurrency: int = 4096
    """Requests in flight, streams among them; more are told to come again later."""
    max_body_bytes: int = 4 * 2**20
    """Bytes of one request's body."""
    max_waiting_bytes: int = 256 * 2**20
    """Bytes of all bodies that are being read."""
    body_timeout_s: float = 30.0
    """A request whose body has not arrived by then is refused."""
    stall_timeout_s: float = 30.0
    """A stream whose client has read nothing for this long is closed."""
    stream_buffer: int = 2048
    """Events that wait for one slow client; with more its stream is closed."""
    drain_s: float = 30.0
    """After SIGTERM, the time that requests in flight have to end."""
    output_tokens: int = 256
    """Tokens of an answer where the request sets no limit."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port {self.port} does not exist", where="port", hint="from 1 to 65535, or 0 for a free one")
        if not (math.isfinite(self.speedup) and 1e-6 <= self.speedup <= 1e9):
            raise InputError(f"the clock cannot run {self.speedup:g} times as fast", where="speedup", hint="from 1e-6 to 1e9")
        for key in self.api_keys:
            if not key or not key.isascii() or not key.isprintable() or " " in key or len(key) > KEY_BYTES:
                hint = f"up to {KEY_BYTES} printable ASCII characters without spaces"
                raise InputError("an API key cannot be sent in a header", where="api-key", hint=hint)
        for name in ("max_concurrency", "max_body_bytes", "max_waiting_bytes", "stream_buffer", "output_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, which serves nothing", where=name, hint="from 1")
        for name in ("body_timeout_s", "stall_timeout_s", "drain_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0) or (value == 0 and name != "drain_s"):
                raise InputError(f"{name} is {value:g}", where=name, hint="a finite number of seconds above zero")
