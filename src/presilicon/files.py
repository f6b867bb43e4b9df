"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
