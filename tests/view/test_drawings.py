"""The drawings in the documents are those that their commands draw, and each picture of a page is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_BYTES = 150_000


def test_drawings_are_those_of_today() -> None:
    done = subprocess.run([sys.executable, "docs/pictures.py", "--check"], cwd=DOCS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_pictures_are_small_and_told_in_words(page: Path) -> None:
    for words, name in re.findall(r"!\[([^\]]*)\]\((pictures/[^)]*)\)", page.read_text()):
        assert len(words) > 10
        assert (DOCS / name).stat().st_size < MOST_BYTES
