"""Text of a small decoder that runs on a simulated chip: a compiled program, in a process of its own beside the server's."""

from __future__ import annotations

import multiprocessing
import random
from collections import deque
from collections.abc import Iterator
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from presilicon.compiler.compiled import Compiled
from presilicon.errors import InputError, ModelError
from presilicon.generate import Characters, Generator, Token, context_of
from presilicon.session import Session

TextLevel = Literal["reference", "simulate"]
TEMPERATURE = 0.5
"""The host draws each token from the chip's logits over this: with 1 a small model is incoherent, with 0 it goes in circles."""

PROMPT_SHARE = 4
"""One part in so many of the context is for the prompt, its end; the rest for the answer."""

SESSIONS = 8
"""Answers that are worked on in turn; more wait until one of them ends."""


class ChipText:
    """A `TextSource`: pieces of text of a compiled character-level decoder, one token each.

    ``path`` is what ``presilicon compile`` wrote. On the level ``simulate`` each instruction is executed on the simulated
    chip; ``reference`` computes the same bits some ten times quicker. ModelError where the program is no such decoder.
    """

    def __init__(self, path: str | Path, level: TextLevel = "simulate") -> None:
        compiled = Compiled.read(path)
        self.context = context_of(compiled)
        vocabulary = next(port.shape[-1] for port in compiled.outputs if port.name == "logits")
        if vocabulary != Characters.size:
            raise ModelError(
                f"has {vocabulary} tokens", where=str(path), hint=f"a decoder of {Characters.size} characters, printable ASCII"
            )
        self.name = f"{compiled.name}-on-{compiled.chip.name}"
        how = "simulated instruction by instruction" if level == "simulate" else "computed as the chip would, bit for bit"
        self.note = (
            f"The text is that of {compiled.name} on the chip {compiled.chip.name}, {how}; the timing is the served model's."
        )
        self._numbers = count()
        self._pieces: dict[int, deque[str | None]] = {}
        start = multiprocessing.get_context("spawn")
        self._connection, other = start.Pipe()
        self._process = start.Process(target=_work, args=(str(path), level, other), daemon=True, name="presilicon-text")
        self._process.start()
        other.close()

    def open(self, prompt: str, *, seed: int, choice: int) -> Iterator[str]:
        """Pieces of answer ``choice``: its computation begins now, and ends with the context or when it is closed."""
        number = next(self._numbers)
        self._pieces[number] = deque()
        self._send(("open", number, prompt, random.Random(seed * 1_000_003 + choice).getrandbits(32)))
        return _Answer(self, number)

    def piece(self, number: int) -> str | None:
        """The next piece of an answer, None at its end; waits until the process has said it."""
        mine = self._pieces[number]
        while not mine:
            try:
                said, piece = self._connection.recv()
            except (EOFError, OSError):
                raise InputError("the process that computes the text has ended", where=self.name) from None
            if said in self._pieces:
                self._pieces[said].append(piece)
        return mine.popleft()

    def end(self, number: int) -> None:
        """Nobody wants the rest of an answer."""
        if self._pieces.pop(number, None) is not None:
            self._send(("close", number))

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._connection.send(message)
        except OSError:
            if message[0] == "open":
                raise InputError("the process that computes the text has ended", where=self.name) from None

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(1.0)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


class _Answer(Iterator[str]):
    """The pieces of one answer; its computation ends when it is closed or forgotten."""

    def __init__(self, source: ChipText, number: int) -> None:
        self._source, self._number, self._over = source, number, False

    def __next__(self) -> str:
        piece = None if self._over else self._source.piece(self._number)
        if piece is None:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Gives up the rest."""
        self._over = True
        self._source.end(self._number)

    __del__ = close


def _work(path: str, level: TextLevel, connection: Connection) -> None:
    """The process: answers in turn, a token each, until the other side hangs up."""
    compiled, vocabulary = Compiled.read(path), Characters()
    idle: list[Generator] = []
    running: dict[int, tuple[Generator, Iterator[Token]]] = {}
    waiting: dict[int, tuple[str, int]] = {}
    try:
        while True:
            while connection.poll(None if not running and not waiting else 0):
                kind, number, *more = connection.recv()
                if kind == "open":
                    waiting[number] = (more[0], more[1])
                else:
                    waiting.pop(number, None)
                    if number in running:
                        idle.append(running.pop(number)[0])
            while waiting and len(running) < SESSIONS:
                number = next(iter(waiting))
                prompt, seed = waiting.pop(number)
                generator = idle.pop() if idle else Generator(Session(compiled, level))
                tokens = vocabulary.encode(prompt)[-(generator.context // PROMPT_SHARE) :] or vocabulary.encode("\n")
                running[number] = generator, generator.tokens(tokens, temperature=TEMPERATURE, seed=seed)
            for number, (generator, answer) in list(running.items()):
                token = next(answer, None)
                connection.send((number, None if token is None else vocabulary.decode([token.number])))
                if token is None:
                    del running[number]
                    idle.append(generator)
    except (EOFError, OSError, KeyboardInterrupt):
        return
