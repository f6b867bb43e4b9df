"""Published results of a model on a chip, to stand beside a prediction."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

_PUBLISHED = resources.files("presilicon") / "data" / "published"


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((_PUBLISHED / name).read_text(encoding="utf-8").splitlines()))


@cache
def _by_model_and_chip() -> Mapping[tuple[str, str], tuple[Mapping[str, Any], ...]]:
    runs = tomllib.loads((_PUBLISHED / "mlperf_models.toml").read_text(encoding="utf-8"))
    models = {name: run.get("language_model") or run.get("network", "") for name, run in runs.items()}
    names = {row["accelerator"]: row["chip"] for row in _rows("mlperf_accelerators.csv")}
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in _rows("mlperf.csv"):
        model = models.get(row["benchmark"])
        chip = names.get(row["accelerator"])
        if model and chip:
            result = {
                "what": f"MLPerf {row['round']} {row['benchmark']} {row['scenario']}",
                "value": float(row["value"]),
                "unit": row["unit"],
                "chips": int(row["total_accelerators"]),
                "submitter": row["submitter"],
                "source": row["source"],
            }
            found.setdefault((model.split("/")[-1].lower(), chip), []).append(result)
    return {key: tuple(values) for key, values in found.items()}


def published(model: str, chip: str) -> tuple[Mapping[str, Any], ...]:
    """MLPerf results of a model (by the last part of its name) on a library chip; empty where there are none."""
    return _by_model_and_chip().get((model.split("/")[-1].lower(), chip), ())
