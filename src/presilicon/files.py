"""Writing files whole or not at all, and values as JSON knows them."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from presilicon.errors import InputError


def write_whole(path: str | Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
    """Write ``content`` (text as UTF-8, or what writes it) to ``path``: a reader sees the old file or the new, never a part.

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
            if callable(content):
                content(file)
            else:
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


def clean(value: Any) -> Any:
    """``value`` as JSON knows it: NaN and infinities as None, arrays as lists, keys as texts."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
