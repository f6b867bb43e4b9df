"""The documents say what the commands print, and lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_figures_are_those_of_today() -> None:
    done = subprocess.run([sys.executable, "docs/make.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_readme_has_the_two_commands() -> None:
    quick = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Quick start")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)\n```", quick, re.DOTALL)
    assert blocks == ["./install && .venv/bin/presilicon design openai/gpt-oss-120b -o design", ".ci/run"]
    assert (ROOT / "install").stat().st_mode & 0o111
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
