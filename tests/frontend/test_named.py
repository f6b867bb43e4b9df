import pytest

from presilicon.errors import ModelError
from presilicon.frontend import catalogue, load, names, refused
from presilicon.frontend.listing import page
from presilicon.frontend.named import rows


def test_names_in_any_case_short_and_long():
    for name in ("openai/gpt-oss-120b", "GPT-OSS-120B", "  gpt-oss-120b "):
        assert load(name).parameters == 116_829_156_672
    assert load("meta-llama/Llama-2-70b-chat-hf").parameters == load("llama2-70b").parameters
    assert load("gpt3-175b").layers == 96


def test_unknown_names_get_the_nearest():
    with pytest.raises(ModelError, match=r"gpt-oss-120b"):
        load("gpt-oss-120")
    with pytest.raises(ModelError, match="no model is called"):
        load("zzzz")
    for bad in ("", " ", "\0", "a" * 10_000, None, 3):
        with pytest.raises(ModelError):
            load(bad)


def test_sizes_are_for_onnx_files_only():
    with pytest.raises(ModelError, match="ONNX"):
        load("gpt2", {"batch": 3})
    with pytest.raises(ModelError, match="no such file"):
        load("none.onnx", {"batch": 3})


def test_every_name_loads_and_every_refusal_has_its_reason():
    for name in names():
        assert load(name).parameters > 0
    for name, why in refused().items():
        assert why
        with pytest.raises(ModelError, match="cannot be described"):
            load(name)
    assert len(names()) > 140
    assert not set(names()) & set(refused())


def test_every_row_has_its_source():
    seen = set()
    for row in rows():
        assert row.source
        key = (row.id or row.name).lower()
        assert key not in seen
        seen.add(key)
        if not row.refused:
            model = load(row.id or row.name)
            assert model.source == row.source


def test_the_models_of_the_published_measurements_are_there():
    for name in ("Qwen/Qwen3-32B", "Qwen/Qwen3-235B-A22B-FP8", "openai/gpt-oss-120b", "meta-llama/Llama-3.1-70B",
    "MiniMaxAI/MiniMax-M2.5",
                 "moonshotai/Kimi-K2.5", "nvidia/Llama-3.1-8B-Instruct-FP8", "llama2-70b", "gptj", "llama3.1-8b",
    "llama3.1-405b",
                 "mixtral-8x7b", "deepseek-r1", "gpt-oss-120b"):  # fmt: skip
        assert load(name).parameters > 0


def test_the_page_lists_every_model():
    text, listed = page(), catalogue()
    assert all(f"| {m.name} |" in text for m in listed)
    assert {m.name for m in listed if m.reason} == set(refused())
    assert {m.name for m in listed if not m.reason} == set(names())
