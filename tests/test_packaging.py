"""The wheel holds everything that the checkout runs on, and the pins record no address."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT, check=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_has_every_file_of_the_package(wheel: zipfile.ZipFile) -> None:
    source = ROOT / "src"
    files = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    tracked = {f for f in files if not any(part.startswith(".") for part in f.split("/"))}
    assert tracked <= set(wheel.namelist())


def test_wheel_has_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (info,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "presilicon = presilicon.cli:main" in wheel.read(info).decode()
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_pins_have_hashes_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    for block in re.split(r"\n(?=[a-z])", text):
        if not block.startswith("#"):
            assert re.match(r"[a-z0-9-]+==\S+", block)
            assert "--hash=sha256:" in block


def test_pins_cover_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = list(project["project"]["dependencies"])
    for extra in (*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()):
        asked += extra
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for requirement in asked:
        name = re.match(r"[A-Za-z0-9-]+", requirement)
        assert name
        if name.group() != "presilicon":
            assert re.search(rf"^{name.group()}==", text, re.MULTILINE), requirement
    (backend,) = project["build-system"]["requires"]
    assert f"\n{backend} " in text


def test_version_is_the_package_s() -> None:
    from presilicon import __version__

    assert importlib.metadata.version("presilicon") == __version__
