"""The answers as OpenAI's objects: whole, or as server-sent events, one per token.

Events are put together from bytes that were made ready once per stream: at thousands of tokens a second nothing else fits.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any, Literal

from fastapi.responses import Response

from presilicon.serve.engine import Engine
from presilicon.serve.exchange import Answer, End, Exchange
from presilicon.serve.gate import STREAM, Message, Receive, Scope, Send
from presilicon.serve.text import TextSource, quoted

DONE = b"data: [DONE]\n\n"
EVENT_END = b"}\n\n"
EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def dumps(value: Any) -> bytes:
    """``value`` as JSON in ASCII without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


class Reply:
    """What all objects of one reply share; ``kind`` chooses between the two APIs."""

    def __init__(
        self,
        kind: Literal["chat", "text"],
        exchange: Exchange,
        engine: Engine,
        *,
        request_id: str,
        model: str,
        source: TextSource,
    ) -> None:
        self.chat = kind == "chat"
        self.exchange, self.engine = exchange, engine
        self.prompt_tokens = 0
        note = getattr(source, "note", "")
        self.about = {"text": source.name, "note": note} if note else {"text": source.name}
        self.head = {
            "id": ("chatcmpl-" if self.chat else "cmpl-") + request_id,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": f"presilicon-{source.name}",
        }

    def usage(self, completion_tokens: int) -> dict[str, int]:
        """OpenAI's usage object."""
        total = self.prompt_tokens + completion_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}

    def whole(self) -> bytes:
        """The object of a reply that is not streamed."""
        choices: list[Mapping[str, Any]] = []
        for answer in self.exchange.answers:
            text = "".join(answer.parts)
            said = {"message": {"role": "assistant", "content": text, "refusal": None}} if self.chat else {"text": text}
            choices.append({"index": answer.index, **said, "logprobs": None, "finish_reason": answer.finish})
        return dumps(
            {
                **self.head,
                "object": "chat.completion" if self.chat else "text_completion",
                "choices": choices,
                "usage": self.usage(self.exchange.completion_tokens),
                "presilicon": {**self.about, "timing": [timing(answer) for answer in self.exchange.answers]},
            }
        )

    def event(self, choices: list[Mapping[str, Any]], **more: Any) -> bytes:
        """One server-sent event."""
        object_name = "chat.completion.chunk" if self.chat else "text_completion"
        return b"data: " + dumps({**self.head, "object": object_name, "choices": choices, **more}) + b"\n\n"

    def choice(self, answer: Answer, text: str, finish: str | None = None) -> dict[str, Any]:
        """One choice of an event; an event that ends a choice has no text."""
        said = {"delta": {"content": text} if finish is None else {}} if self.chat else {"text": text}
        return {"index": answer.index, **said, "logprobs": None, "finish_reason": finish}


def timing(answer: Answer) -> dict[str, Any]:
    """The scheduler's own figures of one answer, in the chip's time."""
    return {
        "index": answer.index,
        "arrival_s": answer.arrival_s,
        "time_to_first_token_s": answer.ttft_s,
        "time_per_output_token_s": answer.tpot_s,
        "end_to_end_s": answer.last_s - answer.arrival_s,
        "replica": answer.replica,
    }


class WholeReply(Response):
    """A reply in one piece; it waits for the answers and watches the client meanwhile."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(media_type="application/json")
        self.reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, engine = self.reply.exchange, self.reply.engine
        watcher = asyncio.create_task(_watch(receive, exchange, engine))
        try:
            await exchange.take()
        finally:
            watcher.cancel()
            engine.close(exchange)
        if exchange.end is None:
            await Response(self.reply.whole(), media_type="application/json")(scope, receive, send)
        elif exchange.end is not End.GONE:
            await exchange.error.response()(scope, receive, send)


class StreamedReply(Response):
    """A reply as server-sent events: each token is an event and a write of its own."""

    def __init__(self, reply: Reply, *, usage: bool, usage_always: bool) -> None:
        super().__init__(media_type="text/event-stream")
        self.reply, self.usage, self.usage_always = reply, usage, usage_always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the stream to the gate: past the framework's layers a token costs half as much."""
        scope[STREAM] = self.stream

    async def stream(self, receive: Receive, send: Send) -> None:
        """Write the whole stream."""
        exchange, engine = self.reply.exchange, self.reply.engine
        watcher = asyncio.create_task(_watch(receive, exchange, engine))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
            await self._write(send, asyncio.get_running_loop())
        finally:
            watcher.cancel()
            engine.close(exchange)

    async def _write(self, send: Send, loop: asyncio.AbstractEventLoop) -> None:
        exchange, reply = self.reply.exchange, self.reply
        frames = {answer.index: self._frame(answer) for answer in exchange.answers}
        begun: set[int] = set()
        body: Message = {"type": "http.response.body", "more_body": True}
        while events := await exchange.take():
            for answer, piece in events:
                index = answer.index
                before, after = frames[index]
                if piece is None:
                    choice = reply.choice(answer, "", answer.finish)
                    chunk = reply.event([choice], presilicon={**reply.about, "timing": [timing(answer)]})
                else:
                    chunk = before + quoted(piece) + (self._with_usage(after) if self.usage_always else after)
                    if reply.chat and index not in begun:
                        begun.add(index)
                        chunk = self._role(index) + chunk
                exchange.stuck_since = loop.time()
                await send({**body, "body": chunk})
            exchange.stuck_since = None
        await send({"type": "http.response.body", "body": self._last(), "more_body": False})

    def _frame(self, answer: Answer) -> tuple[bytes, bytes]:
        """What stands before and after the text of an event."""
        before, _, after = self.reply.event([self.reply.choice(answer, "\x00")]).partition(b"\\u0000")
        return before, after

    def _with_usage(self, after: bytes) -> bytes:
        """``after`` (an object's end) with the usage so far."""
        usage = self.reply.usage(self.reply.exchange.completion_tokens)
        return after.removesuffix(EVENT_END) + b',"usage":' + dumps(usage) + EVENT_END

    def _role(self, index: int) -> bytes:
        delta = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return self.reply.event([delta])

    def _last(self) -> bytes:
        """The end of the stream: usage where it was asked for, or why it ended early."""
        exchange = self.reply.exchange
        if exchange.end is not None:
            return b"data: " + exchange.error.body() + b"\n\n"
        if self.usage:
            return self.reply.event([], usage=self.reply.usage(exchange.completion_tokens)) + DONE
        return DONE


async def _watch(receive: Receive, exchange: Exchange, engine: Engine) -> None:
    """Free what the answers hold as soon as the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    exchange.stop(End.GONE)
    engine.close(exchange)
