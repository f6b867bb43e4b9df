"""Bad input: exit 2, one sentence that names the place, nothing written, for every command that takes the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from frontend.onnx_models import Net, mlp

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["estimate", "llama-3.1-9b", "--chip", "h100"], "Llama-3.1-8B"),
        (["estimate", "llama-3.1-8b", "--chip", "h1000"], "did you mean"),
        (["match", "nonsense-model"], "nonsense-model"),
        (["estimate", "Qwen/Qwen3-Next-80B-A3B", "--chip", "h100"], "linear attention"),
        (["estimate", "llama-3.1-8b", "--chip", "qualcomm-ai200"], "not published"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--tensor-parallel", "3"], "3"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--chips", "4", "--tensor-parallel", "3"], "chips"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--pipeline-parallel", "5"], "5"),
        (["estimate", "openai/gpt-oss-120b", "--chip", "h100", "--expert-parallel", "3"], "3"),
        (["estimate", "llama-3.1-70b", "--chip", "l4"], "GB"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--weights", "int7"], "int7"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--batch", "0"], "--batch"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--batch", "1e3"], "whole number"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--batch", "1" + "0" * 30], "whole number"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--input-tokens", "-5"], "--input-tokens"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--input-tokens", "1000000"], "token"),
        (["estimate", "llama-3.1-8b", "--chip", "h100", "--dim", "N=4"], "ONNX"),
        (["estimate", "resnet50", "--chip", "h100", "--output-tokens", "4"], "token"),
        (["match", "llama-3.1-8b", "--ttft-s", "nan"], "finite"),
        (["match", "llama-3.1-8b", "--tpot-s", "0"], "--tpot-s"),
        (["match", "llama-3.1-8b", "--max-power-w", "inf"], "finite"),
        (["match", "llama-3.1-8b", "--pue", "0.9"], "--pue"),
        (["match", "llama-3.1-8b", "--years", "-1"], "--years"),
        (["match", "llama-3.1-8b", "--usd-per-kwh", "free"], "--usd-per-kwh"),
        (["match", "llama-3.1-8b", "--explain", "h100"], "--explain"),
        (["match", "llama-3.1-8b", "--explain", "h100", "h1000"], "did you mean"),
        (["match", "llama-3.1-8b", "--workload", "none.toml"], "none.toml"),
        (["validate", "none.csv"], "none.csv"),
        (["validate", "--facts", "./none"], "none"),
        (["validate", "--claims", "--quick"], "--claims"),
        (["calibrate", "h100", "--measurements", "none.csv", "-o", "out.toml"], "none.csv"),
        (["calibrate", "h100", "-o", "out.toml"], "--measurements"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_options(refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", None),
        ("num_hidden_layers", None),
        ("num_attention_heads", 33),
        ("num_key_value_heads", 5),
        ("hidden_size", -4096),
        ("hidden_size", float("nan")),
        ("vocab_size", 10**30),
        ("num_hidden_layers", 0),
        ("intermediate_size", "wide"),
        ("architectures", ["MambaForCausalLM"]),
    ],
)
def test_configurations(refused, tmp_path: Path, key: str, value: Any) -> None:
    changed = {k: v for k, v in {**LLAMA, key: value}.items() if v is not None}
    (tmp_path / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    told = refused("estimate", str(tmp_path), "--chip", "h100")
    assert "config.json" in told
    assert key in told or str(value) in told or "state-space" in told


def test_a_good_configuration(run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert run("estimate", str(tmp_path), "--chip", "h100").code == 0


def test_onnx_files(refused, run, tmp_path: Path) -> None:
    path = mlp(batch="N").save(tmp_path / "mlp.onnx", "add3_y")
    assert run("estimate", str(path), "--chip", "l4").code == 0
    path.write_bytes(path.read_bytes()[:200])
    assert "mlp.onnx" in refused("estimate", str(path), "--chip", "l4")


def test_onnx_sizes_that_stay_open(refused, run, tmp_path: Path) -> None:
    net = Net()
    last = net.op("MatMul", net.input("x", "batch", "sequence", 8), net.weight("w", 8, 4))
    path = str(net.save(tmp_path / "open.onnx", last))
    assert "sequence" in refused("estimate", path, "--chip", "l4")
    assert run("estimate", path, "--chip", "l4", "--dim", "sequence=16").code == 0


def test_onnx_operators_that_are_not_supported(refused, tmp_path: Path) -> None:
    net = Net(some_domain=1)
    hidden = net.op("Whirl", net.input("x", 1, 8), domain="some.domain")
    last = net.op("Swirl", hidden, domain="some.domain")
    told = refused("estimate", str(net.save(tmp_path / "odd.onnx", last)), "--chip", "l4")
    for word in ("Whirl", "Swirl", "whirl0", "swirl1"):
        assert word in told


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ("nvidia-h100-sxm-80gb,bf16,16,4096,nan,1e-5", "column k"),
        ("nvidia-h100-sxm-80gb,bf16,16,-4,4096,1e-5", "column n"),
        ("nvidia-h100-sxm-80gb,bf17,16,4096,4096,1e-5", "column dtype"),
        ("nvidia-h100-sxm-80gb,bf16,16,4096,4096,", "column latency_s"),
        ("nvidia-h100-sxm-80gb,bf16,16,4096", "4 cells"),
    ],
)
@pytest.mark.parametrize("command", ["validate", "calibrate"])
def test_tables(refused, tmp_path: Path, command: str, row: str, place: str) -> None:
    table, out = tmp_path / "gemm.csv", tmp_path / "out"
    good = "nvidia-h100-sxm-80gb,bf16,16,4096,4096,1e-5"
    table.write_text(f"chip,dtype,m,n,k,latency_s\n{good}\n{row}\n", encoding="utf-8")
    rest = [str(table), "--rows", str(out)] if command == "validate" else ["h100", "--measurements", str(table), "-o", str(out)]
    told = refused(command, *rest)
    assert "gemm.csv, line 3" in told
    assert place in told
    assert not out.exists()


def test_a_folder_that_cannot_be_written(refused, tmp_path: Path) -> None:
    table = tmp_path / "gemm.csv"
    table.write_text("chip,dtype,m,n,k,latency_s\nnvidia-h100-sxm-80gb,bf16,16,4096,4096,1e-5\n", encoding="utf-8")
    assert "cannot be written" in refused("validate", str(table), "--rows", str(tmp_path / "none" / "out.csv"))
