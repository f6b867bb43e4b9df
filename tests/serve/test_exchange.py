"""Stops, limits and ends of an answer, whatever the pieces of text are."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.serve import errors
from presilicon.serve.exchange import Answer, End, Exchange
from presilicon.serve.text import Filler, count_tokens, quoted


def answer(pieces: list[str], *, limit: int = 100, **options: object) -> Answer:
    exchange = Exchange(streaming=True, most=1000, abort=lambda: None)
    made = Answer(exchange, 0, iter(pieces), prompt_tokens=1, limit=limit, **options)
    exchange.add(made)
    return made


def said(made: Answer, at: float = 1.0) -> str:
    while made.finish is None:
        made.token(at)
        at += 0.5
    return "".join(piece for _, piece in made.exchange.ready if piece)


def test_a_limit_ends_an_answer() -> None:
    made = answer(["a", "b", "c"], limit=2)
    assert said(made) == "ab"
    assert (made.finish, made.tokens) == ("length", 2)


def test_the_end_of_the_text_ends_an_answer() -> None:
    made = answer(["a", "b"])
    assert said(made) == "ab"
    assert (made.finish, made.tokens) == ("stop", 3)  # the end of sequence is a token


def test_an_ignored_end_goes_on_to_the_limit() -> None:
    made = answer(["a", "b"], limit=5, ignore_eos=True)
    assert said(made) == "ab"
    assert (made.finish, made.tokens) == ("length", 5)
    assert len(made.exchange.ready) == 5  # every token is an event


def test_an_answer_that_ends_by_itself() -> None:
    made = answer(["a"] * 9, ends_after=3)
    assert (said(made), made.finish, made.asked) == ("aaa", "stop", 3)
    made = answer(["a"] * 9, limit=4, ends_after=3, ignore_eos=True)
    assert (said(made), made.finish, made.asked) == ("aaaa", "length", 4)


def test_a_stop_text_across_pieces() -> None:
    made = answer(["one ", "tw", "o th", "ree"], stops=("two",))
    assert said(made) == "one "
    assert (made.finish, made.tokens) == ("stop", 3)


def test_what_looks_like_a_stop_text_and_is_none_is_said_later() -> None:
    made = answer(["x", "EN", "E", "ND", "!"], stops=("END",))
    assert said(made) == "xEN"


def test_a_held_beginning_is_said_at_the_end() -> None:
    made = answer(["a", "EN"], limit=2, stops=("END",))
    assert (said(made), made.finish) == ("aEN", "length")


def test_no_stop_before_the_least_tokens() -> None:
    made = answer(["stop", "stop", "a", "stop"], stops=("stop",), min_tokens=2)
    assert (said(made), made.tokens) == ("stopstopa", 4)


@given(
    st.lists(st.text("ab", min_size=0, max_size=4), min_size=1, max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_a_stopped_text_is_what_lies_before_the_first_stop_text(pieces: list[str], stops: list[str]) -> None:
    made = answer(pieces, limit=len(pieces), stops=tuple(stops))
    text, so_far, stopped = said(made), "", False
    for piece in pieces:
        so_far += piece
        found = [at for at in (so_far.find(stop) for stop in stops) if at >= 0]
        if found:
            so_far, stopped = so_far[: min(found)], True
            break
    assert text == so_far
    assert (made.finish == "stop") == stopped


def test_times_are_the_schedulers() -> None:
    made = answer(["a"] * 3, limit=3)
    made.arrival_s = 0.5
    said(made, at=1.0)
    assert (made.ttft_s, made.tpot_s) == (0.5, 0.5)
    assert answer(["a"]).tpot_s is None


def test_a_slow_reader_ends_its_exchange() -> None:
    exchange = Exchange(streaming=True, most=2, abort=lambda: None)
    made = Answer(exchange, 0, iter(["a"] * 9), prompt_tokens=1, limit=9)
    exchange.add(made)
    made.token(1.0)
    made.token(2.0)
    assert exchange.end is None
    made.token(3.0)
    assert exchange.end is End.SLOW
    exchange.stop(End.GONE)
    assert exchange.end is End.SLOW


def test_a_writer_is_woken_and_told_the_end() -> None:
    async def talk() -> None:
        made = answer(["a", "b"], limit=2)
        exchange = made.exchange
        asyncio.get_running_loop().call_later(0.01, made.token, 1.0)
        assert [piece for _, piece in await exchange.take()] == ["a"]
        asyncio.get_running_loop().call_later(0.01, exchange.stop, End.DRAINED, errors.draining())
        assert await exchange.take() == []
        assert exchange.error.status == 503

    asyncio.run(talk())


def test_filler_is_the_same_for_the_same_seed() -> None:
    def words(seed: int, choice: int) -> list[str]:
        pieces = Filler().open("prompt", seed=seed, choice=choice)
        return [next(pieces) for _ in range(20)]

    assert words(1, 0) == words(1, 0)
    assert words(1, 0) != words(2, 0)
    assert words(1, 0) != words(1, 1)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2), ("字", 1)])
def test_tokens_of_a_text(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


@given(st.text())
def test_a_quoted_piece_is_json(text: str) -> None:
    import json

    assert json.loads(b'"' + quoted(text) + b'"') == text
