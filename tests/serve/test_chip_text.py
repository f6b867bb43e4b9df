"""Answers whose text a compiled decoder makes on the simulated chip."""

import random
import zlib
from itertools import islice

import numpy as np
import pytest

import presilicon
from presilicon.compiler.compiled import Compiled
from presilicon.errors import InputError, ModelError
from presilicon.frontend.decoder_file import write_decoder
from presilicon.frontend.decoder_shape import DecoderShape, RandomWeights
from presilicon.generate import Characters, Generator
from presilicon.serve.chip_text import TEMPERATURE, ChipText
from presilicon.session import Session
from serve.conftest import MODEL

CONTEXT = 24


def compiled(folder, vocabulary):
    shape = DecoderShape(
        layers=1, width=16, heads=2, kv_heads=1, dim=8, hidden=16, vocabulary=vocabulary, context=CONTEXT
    )  # fmt: skip
    weights = {name: value * (1 if value.ndim == 1 else 20) for name, value in RandomWeights(shape, 2).items()}
    write_decoder(folder / "tiny.onnx", shape, weights)
    ids = np.random.default_rng(0).integers(0, vocabulary, (4, CONTEXT))
    calibration = {"input_ids": ids, "position_ids": np.tile(np.arange(CONTEXT), (4, 1))}
    made = presilicon.compile(
        folder / "tiny.onnx", "core-8x8", dims={"sequence": 1, "past": CONTEXT - 1}, calibration=calibration
    )  # fmt: skip
    made.compiled.write(folder / "tiny.prog")
    return folder / "tiny.prog"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("text"), Characters.size)


@pytest.fixture(scope="module")
def source(program):
    made = ChipText(program, "reference")
    yield made
    made.close()


def expected(program, prompt, seed, choice, most):
    """The text as `Generator` makes it without a server."""
    vocabulary = Characters()
    with Session(Compiled.read(program), "simulate") as session:
        tokens = Generator(session).tokens(
            vocabulary.encode(prompt)[-(CONTEXT // 4) :] or [0],
            temperature=TEMPERATURE,
            seed=random.Random(seed * 1_000_003 + choice).getrandbits(32),
        )
        return vocabulary.decode([token.number for token in islice(tokens, most)])


def test_answers_are_the_chips_and_say_so(serve, source, program):
    live = serve(speedup=200.0, source=source)
    for prompt, seed in (("abc", 7), ("a longer prompt than the chip's share of its context", None)):
        body = {"model": MODEL, "prompt": prompt, "max_tokens": 6, "n": 3} | ({} if seed is None else {"seed": seed})
        found = live.client.post("/v1/completions", json=body).json()
        texts = [choice["text"] for choice in found["choices"]]
        used = zlib.crc32(prompt.encode()) if seed is None else seed
        assert texts == [expected(program, prompt, used, choice, 6) for choice in range(3)]
        assert found["system_fingerprint"] == "presilicon-tiny-on-core-8x8"
        assert found["presilicon"]["text"] == "tiny-on-core-8x8"
        assert "text is that of tiny on the chip core-8x8" in found["presilicon"]["note"]


def test_the_context_ends_the_answer(serve, source):
    live = serve(speedup=200.0, source=source)
    found = live.client.post("/v1/completions", json={"model": MODEL, "prompt": "abc", "max_tokens": 60}).json()
    assert found["choices"][0]["finish_reason"] == "stop"
    assert len(found["choices"][0]["text"]) == CONTEXT - 2


def test_more_answers_than_are_worked_on_at_once(source, program):
    """Twenty open at a time, some closed early: each is what it would be alone."""
    answers = [source.open("xy", seed=3, choice=choice) for choice in range(20)]
    for answer in answers[::3]:
        answer.close()
    for choice, answer in enumerate(answers):
        if choice % 3:
            assert "".join(islice(answer, 4)) == expected(program, "xy", 3, choice, 4)


def test_levels_say_the_same(program, source):
    simulated = ChipText(program, "simulate")
    try:
        assert "instruction by instruction" in simulated.note
        both = ["".join(islice(one.open("q", seed=1, choice=0), 5)) for one in (simulated, source)]
        assert both[0] == both[1]
    finally:
        simulated.close()
    with pytest.raises(InputError, match="has ended"):
        simulated.open("q", seed=1, choice=0)


def test_other_programs_are_refused(tmp_path):
    with pytest.raises(ModelError, match="has 50 tokens"):
        ChipText(compiled(tmp_path, 50))
    (tmp_path / "text").write_text("no program")
    with pytest.raises(InputError, match="text"):
        ChipText(tmp_path / "text")
