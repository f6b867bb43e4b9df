from pathlib import Path

import pytest

from presilicon.errors import InputError
from presilicon.files import write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "page.md"
    write_whole(path, "old é\n")
    write_whole(path, "new\r\n")
    assert path.read_bytes() == b"new\r\n"
    assert path.stat().st_mode & 0o044
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_told_and_nothing_left_behind(tmp_path: Path):
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path / "none" / "page.md", "text")
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(tmp_path, "text")
    assert not [p for p in tmp_path.parent.iterdir() if p.suffix == ".part"]
