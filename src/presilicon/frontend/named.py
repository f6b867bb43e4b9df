"""Language models by name: the rows of data/models/language.csv, read through the same rules as a config.json.

A row holds what its published configuration says (keys as in config.json), its source, and further names of models with
the same structure. Rows whose architecture cannot be described stay listed, with the reason.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from presilicon.errors import ModelError, nearest
from presilicon.frontend.huggingface import from_config, reason

if TYPE_CHECKING:
    from presilicon.frontend.language import LanguageModel
    from presilicon.frontend.network import Network

FILE = "data/models/language.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: its short name, Hugging Face id (may be empty), other names, configuration, source and a remark."""

    name: str
    id: str
    aliases: tuple[str, ...]
    architecture: str
    config: Mapping[str, Any]
    source: str
    note: str

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it is found by; those of other models with the same structure too, with and without their owner."""
        called = [n for n in (self.name, self.id, *self.aliases) if n]
        return tuple(dict.fromkeys([*called, *(n.rsplit("/", 1)[-1] for n in called)]))

    @property
    def refused(self) -> str:
        """Why this model cannot be described; empty where it can."""
        return reason(self.architecture) or ("" if self.config else "its sizes were not found")


@cache
def rows() -> tuple[Row, ...]:
    """All rows of the table, in its order."""
    text = (resources.files("presilicon") / FILE).read_text(encoding="utf-8")
    return tuple(
        Row(
            name=r["name"],
            id=r["hf_id"],
            aliases=tuple(a for a in r["aliases"].split(";") if a),
            architecture=r["architecture"],
            config=MappingProxyType(json.loads(r["config"])),
            source=r["source"],
            note=r["note"],
        )
        for r in csv.DictReader(text.splitlines())
    )


@cache
def _index() -> Mapping[str, Row]:
    """Every name in lower case -> its row; an earlier row keeps a name that two claim."""
    found: dict[str, Row] = {}
    for row in rows():
        for name in row.names:
            found.setdefault(name.lower(), row)
    return MappingProxyType(found)


def knows(name: str) -> bool:
    """Whether the table has a row of this ``name``, in any case."""
    return name.strip().lower() in _index()


@cache
def named(name: str) -> LanguageModel | Network:
    """The model called ``name`` (in any case; id, short name or other name), called by that name as the table writes it.

    ModelError names the nearest ones, or the reason where the model is listed but cannot be described.
    """
    row = _index().get(name.strip().lower())
    if row is None:
        raise ModelError(f"no model is called {name!r}", hint=nearest(name, list(_names())) or "`presilicon models` lists them")
    called = next(n for n in row.names if n.lower() == name.strip().lower())
    if not row.config:
        raise ModelError(f"{called} cannot be described: {row.refused}")
    return from_config(
        {"architectures": [row.architecture], **row.config}, name=called, where=called, source=row.source, note=row.note
    )


def _names() -> list[str]:
    return [name for row in rows() for name in row.names]
