"""Text from decoders on the chip; the example that makes it, on the RTL too."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import presilicon
from presilicon.errors import ModelError
from presilicon.frontend.decoder_file import write_decoder
from presilicon.frontend.decoder_shape import DecoderShape, RandomWeights
from presilicon.generate import Characters, Generator, context_of
from presilicon.session import Session

EXAMPLES = Path(__file__).parents[1] / "examples"
SHAPE = DecoderShape(layers=1, width=16, heads=2, kv_heads=1, dim=8, hidden=24, vocabulary=11, context=9)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    def of(tokens):
        path = tmp_path_factory.mktemp("decoder") / "d.onnx"
        # Logits that differ: random weights of the usual size hardly do.
        weights = {name: value * (1 if value.ndim == 1 else 20) for name, value in RandomWeights(SHAPE, 5).items()}
        write_decoder(path, SHAPE, weights)
        draw = np.random.default_rng(0)
        calibration = {"input_ids": draw.integers(0, 11, (8, 9)), "position_ids": np.tile(np.arange(9), (8, 1))}
        dims = {"sequence": tokens, "past": SHAPE.context - tokens}
        return presilicon.compile(path, "core-8x8", dims=dims, calibration=calibration).compiled

    return {1: of(1), 4: of(4)}


@given(st.text(st.characters(max_codepoint=300)))
def test_characters_come_back(text):
    vocabulary = Characters()
    tokens = vocabulary.encode(text)
    assert all(0 <= token < vocabulary.size for token in tokens)
    assert vocabulary.decode(tokens) == "".join(c for c in text if c == "\n" or " " <= c <= "~")


def test_levels_give_the_same_tokens_and_the_context_ends_them(built):
    compiled = built[1]
    assert context_of(compiled) == SHAPE.context
    found = {}
    for level in ("reference", "simulate"):
        with Session(compiled, level) as session:
            generator = Generator(session)
            first = list(generator.tokens([3, 1, 4]))
            assert [token.position for token in first] == list(range(2, SHAPE.context))
            # A new text does not see the old one.
            assert list(generator.tokens([3, 1, 4])) == first
            assert list(generator.tokens([5])) != first
            found[level] = [token.number for token in first]
            assert all((token.cycles > 0) == (level == "simulate") for token in first)
    assert found["reference"] == found["simulate"]


def test_temperature_draws_from_the_logits(built):
    with Session(built[1], "reference") as session:
        generator = Generator(session)

        def numbers(temperature, seed):
            return [token.number for token in generator.tokens([2], temperature=temperature, seed=seed)]

        assert numbers(2.0, 1) == numbers(2.0, 1)
        assert len({tuple(numbers(2.0, seed)) for seed in range(6)}) > 1
        assert numbers(1e-9, 3) == numbers(0.0, 0)


def test_rows_of_a_prompt_give_the_logits_of_its_tokens(built):
    """Four tokens at once, as a prefill, and one after another: the same cache, so the same step after."""
    ids, results = np.array([[7, 0, 10, 2]]), []
    with Session(built[4], "simulate") as rows, Session(built[1], "simulate") as single:
        whole = rows.run({"input_ids": ids, "position_ids": np.arange(4)[None]}).outputs["logits"][0]
        for position in range(4):
            feed = {"input_ids": ids[:, position : position + 1], "position_ids": np.array([[position]])}
            results.append(single.run(feed).outputs["logits"][0, 0])
        for name in ("present.0.key", "present.0.value"):
            assert (rows.state(name)[:4] == single.state(name)[:4]).all()
    assert np.array_equal(np.stack(results), whole)


def test_prompts_and_models_that_cannot_be(built):
    with Session(built[1], "reference") as session:
        for prompt in ([], list(range(10))):
            with pytest.raises(ModelError, match=f"the prompt has {len(prompt)} tokens"):
                list(Generator(session).tokens(prompt))
    with pytest.raises(ModelError, match="takes int64 1 x 4 tokens at a time"):
        context_of(built[4])


def test_the_example_on_the_rtl(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    try:
        import generate

        assert generate.main(["--chip", "core-4x4", "--prompt", "th", "--tokens", "3", "--rtl-tokens", "2"]) == 0
    finally:
        for name in [name for name in sys.modules if name == "generate" or name.startswith("decoder")]:
            del sys.modules[name]
    out = capsys.readouterr().out
    assert out.startswith("the ")
    assert "first 2 tokens: the same tokens in the same cycles" in out


def test_perplexity_of_the_trained_decoder(monkeypatch):
    """A part of the held-out text, spread over it; all of it is in docs/decoders.md."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    try:
        import perplexity

        found = perplexity.measured(10)
    finally:
        for name in [name for name in sys.modules if name == "perplexity" or name.startswith("decoder")]:
            del sys.modules[name]
    assert found["float"].perplexity < 4.5
    # What is lost of the distribution is the change of the perplexity's logarithm without the noise of a few lines.
    assert found["float"].divergence == 0 < found["int8"].divergence < 0.01 < found["int4"].divergence < 0.05
    assert abs(found["int8"].perplexity / found["float"].perplexity - 1) < 0.02
    assert found["int4"].perplexity < 1.05 * found["float"].perplexity
