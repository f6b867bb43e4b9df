"""One HTTP request while it is answered: its answers, what they have said so far, and how the writer learns of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from enum import Enum

from presilicon.serve import errors


class End(Enum):
    """Why an exchange ended before its answers did."""

    GONE = "gone"
    SLOW = "slow"
    REFUSED = "refused"
    DRAINED = "drained"
    FAULT = "fault"


class Answer:
    """One answer (choice) in the making: it turns the scheduler's tokens into pieces of text and says when to stop.

    ``limit`` is the most tokens; ``ends_after`` the token with which it ends by itself, if any; ``asked`` the tokens that the
    scheduler is asked for. Times are the chip's, in s.
    """

    __slots__ = (
        "arrival_s",
        "asked",
        "ends_after",
        "exchange",
        "finish",
        "first_s",
        "held",
        "ignore_eos",
        "index",
        "key",
        "last_s",
        "limit",
        "min_tokens",
        "parts",
        "pieces",
        "prompt_tokens",
        "replica",
        "stops",
        "tail",
        "tokens",
    )

    def __init__(
        self,
        exchange: Exchange,
        index: int,
        pieces: Iterator[str],
        *,
        prompt_tokens: int,
        limit: int,
        min_tokens: int = 0,
        ends_after: int | None = None,
        ignore_eos: bool = False,
        stops: tuple[str, ...] = (),
    ) -> None:
        self.exchange, self.index, self.pieces, self.prompt_tokens = exchange, index, pieces, prompt_tokens
        self.limit, self.min_tokens, self.ends_after, self.ignore_eos = limit, min_tokens, ends_after, ignore_eos
        self.stops = stops
        self.asked = limit if ends_after is None or ignore_eos else min(limit, ends_after)
        self.tokens = 0
        self.finish: str | None = None
        self.parts: list[str] = []
        self.held: list[str] = []
        self.tail = ""
        self.arrival_s = self.first_s = self.last_s = 0.0
        self.key: int | str = -1
        self.replica = -1

    def token(self, at: float) -> None:
        """One more token, made at the chip's time ``at``; sets ``finish`` where it is the last."""
        self.tokens += 1
        if self.tokens == 1:
            self.first_s = at
        self.last_s = at
        piece = next(self.pieces, None)
        over = self.tokens >= self.min_tokens and not self.ignore_eos
        if over and (piece is None or self.tokens == self.ends_after):
            self.finish = "stop"
        elif self.tokens >= self.limit:
            self.finish = "length"
        if self.stops:
            self._say_unless_stopped(piece or "")
        else:
            self.exchange.put(self, piece or "")

    def _say_unless_stopped(self, piece: str) -> None:
        """Say ``piece``, but hold back what may be the beginning of a stop text; end where a stop text is complete."""
        self.held.append(piece)
        if self.tokens > self.min_tokens:
            self.tail += piece
            found = [at for at in map(self.tail.find, self.stops) if at >= 0]
            if found:
                after = len(self.tail) - min(found)
                self._release(after)
                self.exchange.put(self, self.tail[: len(self.tail) - after])
                self.held.clear()
                self.finish = "stop"
                return
            keep = 0 if self.finish else self._could_begin()
        else:
            keep = 0
        self._release(keep)

    def _release(self, keep: int) -> None:
        """Say the held pieces that lie before the last ``keep`` characters."""
        length = sum(map(len, self.held))
        while self.held and length - len(self.held[0]) >= keep:
            piece = self.held.pop(0)
            length -= len(piece)
            self.exchange.put(self, piece)
        self.tail = "".join(self.held)

    def _could_begin(self) -> int:
        """Characters at the end that a stop text could begin with."""
        longest = min(len(self.tail), max(map(len, self.stops)) - 1)
        return next((n for n in range(longest, 0, -1) if any(s.startswith(self.tail[-n:]) for s in self.stops)), 0)

    @property
    def ttft_s(self) -> float:
        """Time to first token, as the scheduler has it."""
        return self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first, as the scheduler has it; None for one token."""
        return (self.last_s - self.first_s) / (self.tokens - 1) if self.tokens > 1 else None


class Exchange:
    """The answers to one request, and the events that its writer has not taken yet.

    An event is an answer and a piece of its text, or an answer and None where it is finished. ``most`` events wait at most;
    ``abort`` ends the connection at once.
    """

    __slots__ = ("abort", "answers", "end", "error", "left", "most", "ready", "streaming", "stuck_since", "waiter")

    def __init__(self, *, streaming: bool, most: int, abort: Callable[[], None]) -> None:
        self.streaming, self.most, self.abort = streaming, most, abort
        self.answers: list[Answer] = []
        self.left = 0
        self.ready: list[tuple[Answer, str | None]] = []
        self.waiter: asyncio.Future[None] | None = None
        self.end: End | None = None
        self.error = errors.internal()
        self.stuck_since: float | None = None

    def add(self, answer: Answer) -> None:
        """One more answer is awaited."""
        self.answers.append(answer)
        self.left += 1

    def put(self, answer: Answer, piece: str | None) -> None:
        """An event: the writer is woken, or the exchange ended where it holds too many."""
        if not self.streaming:
            if piece:
                answer.parts.append(piece)
            if piece is None:
                self.left -= 1
                if not self.left:
                    self._wake()
            return
        self.left -= piece is None
        self.ready.append((answer, piece))
        if len(self.ready) > self.most:
            self.stop(End.SLOW)
        self._wake()

    def stop(self, end: End, error: errors.ApiError | None = None) -> None:
        """End the exchange and say why; the first reason holds."""
        if self.end is None and self.left:
            self.end = end
            self.error = error or self.error
            self._wake()

    async def take(self) -> list[tuple[Answer, str | None]]:
        """All events since the last call, waiting for one; empty at the end."""
        while not self.ready and self.left and self.end is None:
            self.waiter = asyncio.get_running_loop().create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        taken, self.ready = self.ready, []
        return taken

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    @property
    def completion_tokens(self) -> int:
        """Tokens of all answers so far."""
        return sum(answer.tokens for answer in self.answers)
