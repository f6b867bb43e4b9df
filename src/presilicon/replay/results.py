"""Result files of a replay for plots and scripts: the report, a row a request, a row a slice of time; whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import InputError
from presilicon.replay.outcome import ReplayReport

Columns = Mapping[str, NDArray[Any]]


def write_results(folder: str | Path, report: ReplayReport, *, command: str = "") -> list[str]:
    """Write report.json, requests.csv and timeline.csv into a folder, which is made where it is not there; their names.

    All are made beside the folder first and moved there at the end. The same replay gives the same bytes: how long the replay
    itself took is left out. ``command`` is what makes them again. InputError where the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as made:
            names = ["report.json", "requests.csv", "timeline.csv"]
            values = {name: value for name, value in report.to_json().items() if name != "wall_s"}
            values["command"] = command
            (Path(made) / names[0]).write_text(json.dumps(_finite(values), indent=2) + "\n", encoding="utf-8")
            for name, columns in zip(names[1:], (report.records, report.timeline), strict=True):
                _csv(Path(made) / name, columns)
            for name in names:
                (Path(made) / name).replace(target / name)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(folder), hint="a folder one may write in") from None
    return names


def _finite(value: Any) -> Any:
    """NaN as null, all the way down."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _cells(values: NDArray[Any]) -> list[str]:
    """Texts of a column; floats to the nanosecond or nine digits, empty where there is none."""
    if values.dtype.kind == "f":
        return ["" if v != v else f"{v:.9g}" if abs(v) < 1.0 else f"{v:.9f}" for v in values.tolist()]
    return [_quoted(str(v)) for v in values.tolist()]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def _csv(path: Path, columns: Columns) -> None:
    texts = [_cells(values) for values in columns.values()]
    lines = [",".join(columns), *(",".join(row) for row in zip(*texts, strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
