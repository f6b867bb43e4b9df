"""The text of answers, and how many tokens a prompt counts.

A chip that does not exist writes nothing: by default answers are filler, and every response says so. ``TextSource`` is the
place where text of a real model is plugged in.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Protocol

BYTES_PER_TOKEN = 4
"""Bytes of UTF-8 that count as one token of a prompt: the rule of thumb of OpenAI's tokenizer guide for English text."""

MESSAGE_TOKENS, REPLY_TOKENS = 4, 3
"""Tokens that a chat template adds per message, and to open the answer: the rule of OpenAI's cookbook for ChatML."""

# fmt: off
WORDS = (
    "lorem", "ipsum", "dolor", "sit", "amet", "consectetur", "adipiscing", "elit", "sed", "do", "eiusmod", "tempor",
    "incididunt", "ut", "labore", "et", "dolore", "magna", "aliqua", "enim", "ad", "minim", "veniam", "quis", "nostrud",
    "exercitation", "ullamco", "laboris", "nisi", "aliquip", "ex", "ea", "commodo", "consequat", "duis", "aute", "irure",
    "in", "reprehenderit", "voluptate", "velit", "esse", "cillum", "eu", "fugiat", "nulla", "pariatur", "excepteur", "sint",
    "occaecat", "cupidatat", "non", "proident", "sunt", "culpa", "qui", "officia", "deserunt", "mollit", "anim", "id", "est",
    "laborum",
)
# fmt: on


class TextSource(Protocol):
    """Where the text of answers is from.

    The scheduler says when a token comes; the source says which. ``open`` is called once per answer, and its iterator is
    advanced once per token, on the server's only thread: a source that computes should do so elsewhere, ahead of time.
    An iterator that ends, ends the answer (``finish_reason`` "stop"), unless the request ignores the end of sequence.
    Where the source has a ``note``, a sentence on its text, each response carries it.
    """

    @property
    def name(self) -> str:
        """Names the source in each response, such as ``filler``."""
        ...

    def open(self, prompt: str, *, seed: int, choice: int) -> Iterator[str]:
        """Pieces of text, one per token, of answer number ``choice`` to ``prompt``; equal arguments give equal text."""
        ...


class Filler:
    """Words without meaning, one per token, without end; the same for the same seed and choice."""

    name = "filler"
    note = "The chip is simulated and no model was run: the text is filler, the timing is the chip's."

    def open(self, prompt: str, *, seed: int, choice: int) -> Iterator[str]:
        """Words drawn from ``seed`` and ``choice``; ``prompt`` does not matter."""
        draw = random.Random(seed * 1_000_003 + choice)
        yield draw.choice(WORDS).capitalize()
        while True:
            word = draw.choice(SPACED)
            yield word


SPACED = tuple(" " + word for word in WORDS)


def count_tokens(text: str) -> int:
    """Tokens that a prompt's text counts: its bytes of UTF-8 over four, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def quoted(piece: str) -> bytes:
    """``piece`` as the inside of a JSON string, in ASCII."""
    return _QUOTED.get(piece) or json.dumps(piece)[1:-1].encode()


_QUOTED = {word: word.encode() for word in SPACED}
