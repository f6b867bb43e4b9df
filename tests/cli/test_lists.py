"""``models``, ``chips`` and ``doctor``."""

from pathlib import Path

import pytest

from frontend.onnx_models import mlp
from presilicon import chip, frontend


def test_models_json(run) -> None:
    found = run("models", "--json").json
    assert found["schema"] == "presilicon/models/1"
    models = {m["name"]: m for m in found["models"]}
    assert models["openai/gpt-oss-120b"]["parameters"] == pytest.approx(116.8e9, rel=0.01)
    refused = [m for m in found["models"] if m["refused"]]
    assert {m["name"] for m in refused} == set(frontend.refused())
    assert all(m["parameters"] is None for m in refused)


def test_models_text_says_why_some_are_refused(run) -> None:
    out = run("models").out
    assert "openai/gpt-oss-120b" in out
    assert "linear attention" in out


def test_one_model(run) -> None:
    (one,) = run("models", "llama-3.1-8b", "--json").json["models"]
    assert one["parameters"] == 8_030_261_248
    assert one["active_parameters"] < one["parameters"]
    assert one["kv_bytes_per_token"] == 2 * 32 * 8 * 128 * 2
    assert one["blocks"][0]["parts"][0]["kv_heads"] == 8
    assert "8.03" in run("models", "llama-3.1-8b").out


def test_one_network(run) -> None:
    (one,) = run("models", "resnet50", "--json").json["models"]
    assert one["parameters"] == 25_557_032
    assert one["kind"] == "network"
    assert "ResNet-50" in run("models", "resnet50").out


def test_an_onnx_file(run, tmp_path: Path) -> None:
    path = str(mlp("N").save(tmp_path / "mlp.onnx", "add3_y"))
    (one,) = run("models", path, "--json").json["models"]
    assert one["parameters"] == 203_530
    assert run("models", path, "--dim", "N=4").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models", "llama-3.1-9b"], "did you mean"),
        (["models", "resnet50", "--dim", "N=4"], "ONNX"),
        (["models", "--dim", "N=4"], "ONNX"),
        (["models", "x.onnx", "--dim", "N"], "name=N"),
        (["models", "x.onnx", "--dim", "N=0"], "whole number"),
        (["models", "x.onnx"], "no such file"),
        (["models", "Qwen/Qwen3-Next-80B-A3B"], "linear attention"),
        (["models", ""], "neither"),
        (["chips", "h1000"], "did you mean"),
        (["chips", "./none.toml"], "none.toml"),
        (["chips", "\0"], "unknown chip"),
    ],
)
def test_bad_names(refused, arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


def test_chips_json(run) -> None:
    found = run("chips", "--json").json
    assert found["schema"] == "presilicon/chips/1"
    assert [c["name"] for c in found["chips"]] == list(chip.names())
    blank = [c["name"] for c in found["chips"] if c["missing"]]
    assert "qualcomm-ai200" in blank


def test_chips_text(run) -> None:
    out = run("chips").out
    for name in chip.names():
        assert name in out
    assert "qualcomm-ai200: peak_ops_per_s, memory.bytes_per_s" in out


@pytest.mark.parametrize("name", chip.names())
def test_each_figure_of_a_chip_has_a_source(run, name: str) -> None:
    (one,) = run("chips", name, "--json").json["chips"]
    for figure in one["figures"]:
        if figure["figure"] not in ("year", "dies"):
            assert figure["document"], figure["figure"]
    assert name in run("chips", name).out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("clock_hz = 1.0e9", "clock_hz = 0"), "clock_hz"),
        (("clock_hz = 1.0e9", "clock_hz = nan"), "clock_hz"),
        (("clock_hz = 1.0e9", 'clock_hz = "1 GHz"'), "plain number"),
        (("clock_hz", "clock_mhz"), "did you mean clock_hz"),
        (("bf16 = 131e12", "bf61 = 131e12"), "bf16"),
        (("presilicon/chip/1", "presilicon/chip/9"), "schema"),
        (("[memory]", "[memory"), "line"),
    ],
)
def test_bad_chip_files(refused, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text(encoding="utf-8")
    good = page.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "mine.toml"
    path.write_text(good.replace(*change), encoding="utf-8")
    told = refused("chips", str(path))
    assert said in told
    assert "mine.toml" in told


def test_the_chip_file_of_the_documents(run, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    (one,) = run("chips", str(path), "--json").json["chips"]
    assert one["missing"] == []


def test_doctor(run) -> None:
    found = run("doctor", "--json")
    assert found.code == 0
    assert {t["name"] for t in found.json["tools"]} >= {"python", "numpy", "onnx", "scipy", "facts"}
    assert all(t["purpose"] for t in found.json["tools"])
    assert "what it is for" in run("doctor").out
