"""The folder of a studio: chips and traces that were dropped onto the page, and a folder for each job.

Everything in it is found by an id of hexadecimal digits that the studio made; no path ever comes from a request.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from presilicon.chip import Chip, parse
from presilicon.errors import InputError
from presilicon.files import write_whole

_ID = re.compile(r"[0-9a-f]{16}")


class Workspace:
    """A folder and what the studio keeps in it; made where it does not exist. InputError where it cannot be written."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        try:
            for name in ("chips", "traces", "jobs"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot be written: {error.strerror}", where=str(folder), hint="--workspace names another"
            ) from None

    def keep_chip(self, text: str) -> tuple[str, Chip]:
        """Keep a chip's TOML; its id and the chip. ChipError names the line or field that is wrong."""
        chip = parse(text, "the dropped file")
        name = _hash(text.encode("utf-8"))
        write_whole(self.folder / "chips" / f"{name}.toml", text)
        return name, chip

    def chip(self, name: str) -> Chip:
        """A chip that was kept."""
        return _parsed(str(self._file("chips", name, ".toml")))

    def keep_trace(self, content: bytes, title: str) -> str:
        """Keep a trace as it is; its id."""
        name = _hash(content)
        write_whole(self.folder / "traces" / name, content)
        write_whole(self.folder / "traces" / f"{name}.json", json.dumps({"title": title[:120]}))
        return name

    def trace(self, name: str) -> tuple[Path, str]:
        """The file of a trace, and what it was called where it came from."""
        path = self._file("traces", name, "")
        return path, str(json.loads(path.with_name(f"{name}.json").read_text(encoding="utf-8"))["title"])

    def new_job(self, about: Mapping[str, Any]) -> str:
        """A folder for a job, with what it is about; its id."""
        name = secrets.token_hex(8)
        folder = self.folder / "jobs" / name
        folder.mkdir()
        write_whole(folder / "job.json", json.dumps(about))
        return name

    def job(self, name: str) -> Path:
        """The folder of a job."""
        folder = self.folder / "jobs" / _checked(name)
        if not (folder / "job.json").is_file():
            raise InputError(f"there is no job {name}", hint="it may belong to another workspace")
        return folder

    def jobs(self) -> list[str]:
        """Ids of all jobs, the newest first."""
        found = [path for path in (self.folder / "jobs").iterdir() if (path / "job.json").is_file()]
        return [path.name for path in sorted(found, key=lambda path: -(path / "job.json").stat().st_mtime)]

    def _file(self, kind: str, name: str, ending: str) -> Path:
        path = self.folder / kind / (_checked(name) + ending)
        if not path.is_file():
            raise InputError(
                f"the studio does not know {kind.removesuffix('s')} {name}", hint="drop the file onto the page again"
            )
        return path


def _checked(name: str) -> str:
    if not _ID.fullmatch(name):
        raise InputError(f"{name[:40]!r} is no id of this studio", hint="sixteen hexadecimal digits")
    return name


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@lru_cache(maxsize=64)
def _parsed(path: str) -> Chip:
    return parse(Path(path).read_text(encoding="utf-8"), "the dropped file")
