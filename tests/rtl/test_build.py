"""Building: missing tools, bad Verilog, the cache under several processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from presilicon.rtl import build
from presilicon.rtl.build import ToolError, building, cache_folder, digest, lint

GOOD = "module m(input clk, input [3:0] a, output reg [3:0] b);\n  always @(posedge clk) b <= a + 4'd1;\nendmodule\n"
LATCH = "module m(input e, input a, output reg b);\n  always @(*) if (e) b = a;\nendmodule\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRESILICON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_lint_finds_what_verilator_finds() -> None:
    assert lint(GOOD, "m") == ""
    assert "LATCH" in lint(LATCH, "m")


def test_bad_verilog_is_refused_in_one_sentence() -> None:
    with pytest.raises(ToolError, match=r"Verilator refused the Verilog: .*syntax error"):
        build.build("module presilicon_top(input clk;\nendmodule\n", bus_bytes=16)


def test_missing_compiler_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError) as told:
        build.compiler()
    assert told.value.hint == "sudo apt-get install g++"


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PRESILICON_CACHE", str(tmp_path / "file"))
    with pytest.raises(ToolError, match="cache cannot be used") as told, building("key"):
        pass
    assert "PRESILICON_CACHE" in told.value.hint


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("PRESILICON_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "presilicon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "presilicon"


def _work(folder: str, log: str) -> None:
    os.environ["PRESILICON_CACHE"] = folder
    with building("same") as (path, work):
        if work is not None:
            with open(log, "a") as file:
                file.write("built\n")
            time.sleep(0.2)
            (work / "made").write_text("whole")
            os.replace(work / "made", path)
        assert path.read_text() == "whole"


def test_processes_build_a_key_once(tmp_path: Path, own_cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=(str(own_cache), str(tmp_path / "log"))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert (tmp_path / "log").read_text() == "built\n"
    assert [p.name for p in (own_cache / "rtl").iterdir()] == ["same.so"]


def test_a_failed_build_leaves_nothing_and_is_tried_again(own_cache: Path) -> None:
    for _ in range(2):
        with suppress(RuntimeError), building("key") as (path, folder):
            assert folder is not None
            (folder / "half").write_text("")
            raise RuntimeError("broken")
        assert not path.exists()
        assert not folder.exists()


def test_the_cache_stays_small(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "KEPT", 2)
    for number in range(4):
        with building(str(number)) as (path, folder):
            assert folder is not None
            (folder / "made").write_text("")
            os.replace(folder / "made", path)
            os.utime(path, (number, number))
    assert sorted(p.name for p in (own_cache / "rtl").glob("*.so")) == ["2.so", "3.so"]


def test_digest_knows_where_a_text_ends() -> None:
    assert digest("ab", "c") != digest("a", "bc")
