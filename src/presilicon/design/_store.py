"""The store of a search: every design that was evaluated, block by block, as Parquet files that any tool reads.

DIR/designs/store.json names the search; DIR/designs/000000.parquet and so on are its blocks in order. A block is written
beside its place, forced to the disk and then moved, so that a reader finds it whole or not at all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon import __version__
from presilicon.errors import InputError
from presilicon.files import write_whole

from ._evaluate import FIGURES
from ._problem import Problem

SCHEMA = "presilicon/store/1"
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


class Store:
    """Blocks of one search in a folder. InputError, in one sentence, where the folder holds something else."""

    def __init__(self, folder: str | Path, problem: Problem, seed: int, budget: int, *, resume: bool) -> None:
        import duckdb

        self.folder = Path(folder) / "designs"
        self._engine: Any = duckdb.connect(":memory:", config={"threads": 1})
        self._failed = duckdb.Error
        told = {
            "schema": SCHEMA, "version": __version__, "search": problem.digest(), "seed": seed, "budget": budget,
            "figures": list(FIGURES),
        }  # fmt: skip
        manifest = self.folder / "store.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder cannot be made: {error.strerror}", where=str(folder)) from None
        if manifest.exists():
            self._require(manifest, told, resume)
        else:
            write_whole(manifest, json.dumps(told, indent=2) + "\n")
        self.blocks = len(list(self.folder.glob("[0-9]*.parquet")))

    def _require(self, manifest: Path, told: dict[str, Any], resume: bool) -> None:
        where = str(manifest)
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
            schema = found.get("schema")
        except (OSError, ValueError, AttributeError):
            raise InputError("is no whole JSON object", where=where, hint="delete the folder designs and start again") from None
        if schema != SCHEMA or found.get("figures") != told["figures"] or found.get("version") != told["version"]:
            raise InputError(
                f"the store was written by version {found.get('version')} of presilicon, this is {__version__}",
                where=where,
                hint="delete the folder designs and start again",
            )
        if not resume:
            raise InputError("the folder holds a search already", where=where, hint="--resume goes on with it")
        for key in ("search", "seed", "budget"):
            if found.get(key) != told[key]:
                what = "another search" if key == "search" else f"a search with {key} {found.get(key)}"
                raise InputError(f"the store is of {what}", where=where, hint="the same model, options, seed and budget")

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.parquet"

    def read(self, block: int) -> tuple[Numbers, Floats]:
        """Numbers and figures of a block's designs; InputError where its file is not whole."""
        path = self._path(block)
        try:
            table = self._engine.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchnumpy()
            columns = [np.ma.filled(table[name], np.nan).astype(np.float64) for name in FIGURES]
            return np.asarray(table["number"], dtype=np.int64), np.stack(columns, axis=1)
        except (self._failed, KeyError, ValueError) as error:
            line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"the block is not whole: {line}", where=str(path), hint="delete it and those after it, then --resume"
            ) from None

    def write(self, block: int, numbers: Numbers, figures: Floats) -> None:
        """Add a block; InputError where the disk is full or forbids it, nothing half-written is left."""
        path = self._path(block)
        part = path.with_suffix(".part")
        columns = {"number": numbers} | {name: np.ascontiguousarray(figures[:, at]) for at, name in enumerate(FIGURES)}
        try:
            self._engine.register("block", columns)
            self._engine.execute(f"COPY (SELECT * FROM block) TO '{_quoted(part)}' (FORMAT parquet, COMPRESSION zstd)")
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        except (self._failed, OSError) as error:
            part.unlink(missing_ok=True)
            raise InputError(
                f"a block of designs cannot be written: {str(error).splitlines()[0]}", where=str(path),
                hint="free some room on the disk, then --resume",
            ) from None  # fmt: skip
        finally:
            self._engine.unregister("block")
        self.blocks = max(self.blocks, block + 1)

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
