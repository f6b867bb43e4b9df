"""A model's inputs and outputs as files: arrays by name in NumPy's .npz."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError
from presilicon.files import write_whole

Arrays = Mapping[str, NDArray[np.generic]]


def read_arrays(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of an .npz file by name; InputError where it is none, is cut off, or holds Python objects."""
    hint = "numpy.savez('x.npz', name=array, ...)"
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise InputError("is a single array without a name", where=str(path), hint=hint)
        with found:
            return {name: found[name] for name in found.files}
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path), hint=hint) from None
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"is no .npz file of plain arrays: {error}", where=str(path), hint=hint) from None


def write_arrays(path: str | Path, arrays: Arrays) -> None:
    """Writes an .npz file, whole or not at all."""
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
