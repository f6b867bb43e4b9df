"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from presilicon.errors import InputError


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) to ``path``: a reader sees the old file or the new one, never a part.

    InputError where the folder does not exist or cannot be written; nothing is left behind then.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(path), hint="an existing folder one may write in"
        ) from None
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
        part.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        part.replace(target)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(path)) from None
    finally:
        part.unlink(missing_ok=True)


def write_folder(folder: str | Path, texts: Mapping[str, str]) -> None:
    """Write files below ``folder`` (made where it is missing), by their names in it; other files there stay.

    All are written beside it first and then moved into place, so that a full disk or a forbidden folder changes nothing.
    InputError where the folder above does not exist or one may not write.
    """
    target = Path(folder)
    try:
        if target.exists() and not target.is_dir():
            raise InputError("is a file, not a folder", where=str(folder))
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.absolute().parent) as part:
            for name, text in texts.items():
                path = Path(part) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
            for name in texts:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(part) / name).replace(target / name)
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror}", where=str(folder), hint="a folder in an existing one, where one may write"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
