"""The house: imports run downwards, modules stay small, heavy packages wait until they are needed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 450
MACHINE_PATHS = re.compile(r"(^|[\s\"'(=:])/(home|root|tmp|work|Users|mnt)/")


def test_imports_run_downwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.lint_imports(cache_dir=str(tmp_path)) == cli.EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_is_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST, f"{lines} lines: it likely does two things"


def test_no_path_of_one_machine() -> None:
    found = []
    for path in (*SOURCES, *(ROOT / "src").rglob("*.toml"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE_PATHS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


@pytest.mark.parametrize("module", ["presilicon.cli", "presilicon.errors", "presilicon.units"])
def test_light_modules_import_nothing_heavy(module: str) -> None:
    heavy = "numpy", "scipy", "onnx", "rich"
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["presilicon.chip", "presilicon.frontend", "presilicon.estimate", "presilicon.match"])
def test_optional_packages_wait_for_their_use(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('scipy', 'onnx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
