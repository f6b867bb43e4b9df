"""``compile``, ``run`` and ``check`` of whole models, from files to files, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from presilicon import compile as compile_model
from presilicon.cli import main

TOKENS, WIDTH = 6, 20


def network(path: Path, *, extra: str = "") -> Path:
    """Two products with a norm, a GELU and a residual; ``extra`` is an operator behind them."""
    rng = np.random.default_rng(7)
    stored = {
        "w1": rng.normal(0, 0.2, (WIDTH, 36)),
        "b1": rng.normal(0, 0.1, 36),
        "w2": rng.normal(0, 0.2, (36, WIDTH)),
        "gamma": rng.normal(1, 0.1, WIDTH),
        "beta": rng.normal(0, 0.1, WIDTH),
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["n"], name="norm", axis=-1),
        helper.make_node("MatMul", ["n", "w1"], ["u"], name="up"),
        helper.make_node("Add", ["u", "b1"], ["ub"], name="up_bias"),
        helper.make_node("Gelu", ["ub"], ["g"], name="gelu"),
        helper.make_node("MatMul", ["g", "w2"], ["d"], name="down"),
        helper.make_node("Add", ["d", "x"], ["y0" if extra else "y"], name="residual"),
    ]
    if extra:
        nodes.append(helper.make_node(extra, ["y0"], ["y"], name="last"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "tokens", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "tokens", WIDTH])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in stored.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def samples(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 1, TOKENS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network, its program for core-4x4, and inputs."""
    folder = tmp_path_factory.mktemp("work")
    network(folder / "m.onnx")
    np.savez(folder / "samples.npz", x=samples(32))
    np.savez(folder / "x.npz", x=samples(1, 1)[0])
    assert compiled(folder, "m.onnx", "m.prog", "--calibrate", str(folder / "samples.npz")) == 0
    return folder


def compiled(folder: Path, model: str, program: str, *options: str) -> int:
    return main(
        [
            "compile",
            str(folder / model),
            "--chip",
            "core-4x4",
            "--dim",
            f"tokens={TOKENS}",
            "-o",
            str(folder / program),
            *options,
        ]
    )


def run(folder: Path, *options: str, inputs: str = "x.npz", program: str = "m.prog") -> int:
    return main(["run", str(folder / program), "--inputs", str(folder / inputs), "--outputs", str(folder / "y.npz"), *options])


def test_all_levels_give_the_same_bytes_close_to_the_float_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs, cycles = {}, {}
    for level in ("reference", "simulate", "rtl"):
        assert run(work, "--level", level, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        outputs[level], cycles[level] = np.load(work / "y.npz")["y"], told["cycles"]
        assert set(told) >= {"cycles", "chip_time_s", "wall_s", "utilization"}
    assert outputs["reference"].tobytes() == outputs["simulate"].tobytes() == outputs["rtl"].tobytes()
    assert cycles["reference"] is None
    assert cycles["simulate"] == cycles["rtl"] > 0
    expected = onnxruntime.InferenceSession(str(work / "m.onnx")).run(["y"], dict(np.load(work / "x.npz")))[0]
    assert np.abs(outputs["rtl"] - expected).max() < 0.05 * np.abs(expected).max()


def test_three_lines_of_python(work: Path) -> None:
    model = compile_model(work / "m.onnx", "core-8x8", calibrate=work / "samples.npz", dims={"tokens": TOKENS})
    y = model.run(dict(np.load(work / "x.npz")))["y"]
    assert y.shape == (1, TOKENS, WIDTH)
    assert model.report.calibration.startswith("32 samples")


def test_check_of_a_model(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = work / "t.json"
    command = ["check", str(work / "m.onnx"), "--chip", "core-4x4", "--dim", f"tokens={TOKENS}", "--trace", str(trace)]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mismatches"] == {"reference_simulate": 0, "simulate_rtl": 0}
    assert told["cycles"]["simulate"] == told["cycles"]["rtl"]
    assert {"product", "rows"} <= {line["kind"].lower() for line in told["operators"]}
    for level in ("simulate", "rtl"):
        assert abs(sum(line["cycles"][level] for line in told["operators"]) - told["cycles"][level]) <= 32
    assert all(0 <= line["utilization"] <= 1 for line in told["operators"])
    names = {event["args"]["name"] for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "M"}
    assert {"simulate, core 0", "rtl, core 0", "matmul"} <= names


def test_the_report_names_every_node(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compiled(work, "m.onnx", "again.prog", "--calibrate", str(work / "samples.npz"), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {node["node"] for node in told["nodes"]} == {"norm", "up", "up_bias", "gelu", "down", "residual"}
    assert told["unsupported"] == []
    assert told["instructions"] > 0
    assert told["program_bytes"] > WIDTH * 36 * 2
    assert (work / "again.prog").read_bytes() == (work / "m.prog").read_bytes()


def test_what_the_chip_cannot_do_runs_on_the_host(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(work / "det.onnx", extra="Acos")
    assert compiled(work, "det.onnx", "none.prog") == 2
    said = capsys.readouterr().err
    assert "last (Acos)" in said
    assert "--host-fallback" in said
    assert not (work / "none.prog").exists()
    assert compiled(work, "det.onnx", "det.prog", "--host-fallback", "--json") == 0
    assert [node["node"] for node in json.loads(capsys.readouterr().out)["unsupported"]] == ["last"]
    assert run(work, "--json", program="det.prog") == 0
    assert json.loads(capsys.readouterr().out)["host_bytes"] == 2 * 4 * TOKENS * WIDTH


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "input x is missing"),
        ({"x": np.zeros((1, TOKENS, WIDTH)), "z": np.zeros(1)}, "no input 'z'"),
        ({"x": np.zeros((1, TOKENS + 1, WIDTH))}, "is 1 x 7 x 20"),
        ({"x": np.zeros((1, TOKENS, WIDTH), int)}, "is of type int64"),
        ({"x": np.full((1, TOKENS, WIDTH), np.nan)}, "holds nan"),
        ({"x": np.array([{}], object)}, "no .npz file of plain arrays"),
    ],
)
def test_inputs_that_cannot_be_taken(
    arrays: dict[str, np.ndarray], message: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(work / "bad.npz", **arrays)
    (work / "y.npz").unlink(missing_ok=True)
    assert run(work, inputs="bad.npz") == 2
    assert message in capsys.readouterr().err
    assert not (work / "y.npz").exists()


def test_files_and_options_that_cannot_be_taken(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "cut.prog").write_bytes((work / "m.prog").read_bytes()[:5000])
    np.save(work / "single.npz.npy", np.zeros(3))
    (work / "text.npz").write_text("no arrays")
    for command, message in (
        (lambda: run(work, program="cut.prog"), "cut off or damaged"),
        (lambda: run(work, program="none.prog"), "No such file"),
        (lambda: run(work, program="x.npz"), "not those of a compiled model"),
        (lambda: run(work, inputs="text.npz"), "no .npz file"),
        (lambda: run(work, inputs="single.npz.npy"), "single array"),
        (lambda: run(work, "--chip", "core-8x8"), "was compiled for core-4x4"),
        (lambda: run(work, "--vcd", "w.vcd"), "comes from the RTL alone"),
        (lambda: run(work, "--level", "reference", "--trace", "t.json"), "has no timeline"),
        (lambda: compiled(work, "none.onnx", "n.prog"), "none.onnx"),
        (lambda: compiled(work, "m.onnx", "no/folder.prog"), "cannot be written"),
        (lambda: compiled(work, "m.onnx", "n.prog", "--calibrate", str(work / "text.npz")), "no .npz file"),
        (lambda: compiled(work, "m.onnx", "n.prog", "--tokens", "3"), "tokens are of models by name"),
        (lambda: main(["compile", "all-MiniLM-L6-v2", "--chip", "core-4x4", "-o", str(work / "n.prog")]), "--tokens N"),
        (lambda: main(["compile", str(work / "m.onnx"), "--chip", "h100", "-o", str(work / "n.prog")]), "not of the template"),
    ):
        assert command() == 2
        said = capsys.readouterr().err
        assert message in said, said
        assert "Traceback" not in said
    assert not (work / "n.prog").exists()
