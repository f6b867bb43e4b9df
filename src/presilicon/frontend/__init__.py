"""Models as graphs: by name, from a Hugging Face configuration, or from an ONNX file.

``load`` is the way in. What it returns either has a KV cache (``LanguageModel``: prefill and decode) or not
(``Network``: inference).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from presilicon.errors import ModelError, nearest

if TYPE_CHECKING:
    from presilicon.frontend.language import LanguageModel
    from presilicon.frontend.network import Network

__all__ = ["Listed", "catalogue", "load", "names", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of the catalogue: what ``load`` is given, the kind, parameters (0 where refused), and why it is refused."""

    name: str
    kind: str
    architecture: str
    parameters: int
    source: str
    reason: str = ""
    aliases: tuple[str, ...] = ()


def load(name_or_path: str, dims: Mapping[str, int] | None = None) -> LanguageModel | Network:
    """The model at a path or of a name.

    A directory with a config.json, a JSON file, an ONNX file (``dims`` are its symbolic sizes), or a name of the library
    in any case (a Hugging Face id, its last part, or a short name). ModelError where there is none (with the nearest
    names), or where it cannot be used.
    """
    if not isinstance(name_or_path, str) or not name_or_path.strip() or "\0" in name_or_path:
        raise ModelError(f"{name_or_path!r} is neither a name nor a path of a model")
    path = Path(os.path.expanduser(name_or_path))
    if path.suffix.lower() == ".onnx":
        from presilicon.frontend.onnx_file import load_onnx

        if not os.path.isfile(path):
            raise ModelError("there is no such file", where=str(path))
        return load_onnx(path, dims)
    if dims:
        left_out = ", ".join(map(str, dims))
        raise ModelError("sizes by name are for ONNX files only", where=name_or_path, hint=f"leave out {left_out}")
    if _is_configuration(path):
        from presilicon.frontend.huggingface import load_directory

        return load_directory(path)
    return _named(name_or_path, path)


def _is_configuration(path: Path) -> bool:
    """Whether ``path`` is a JSON file or a directory with a config.json (os.path: no error for a name that is too long)."""
    return (path.suffix.lower() == ".json" and os.path.isfile(path)) or os.path.exists(path / "config.json")


def _named(name: str, path: Path) -> LanguageModel | Network:
    from presilicon.frontend import named, zoo

    if named.knows(name):
        return named.named(name)
    networks = {known.lower(): make for known, make in zoo.NETWORKS.items()}
    if name.strip().lower() in networks:
        return networks[name.strip().lower()]()
    if os.path.isdir(path):
        raise ModelError("this directory has no config.json", where=name)
    if name.startswith((".", "/", "~")) or name.endswith(("/", ".json")):
        raise ModelError("there is no such file or directory", where=name[:200])
    known = [n for row in named.rows() for n in row.names] + list(zoo.NETWORKS)
    shown = name if len(name) <= 80 else name[:77] + "..."
    raise ModelError(f"no model is called {shown!r}", hint=nearest(name[:200], known) or "`presilicon models` lists them all")


def catalogue() -> tuple[Listed, ...]:
    """Every model of the library, the refused ones with their reason; language models first, then networks."""
    from presilicon.frontend import named, zoo

    found = []
    for row in named.rows():
        model = None if row.refused else named.named(row.names[-1] if not row.id else row.id)
        found.append(
            Listed(
                name=row.id or row.name,
                kind="language" if model is None or hasattr(model, "decode") else "network",
                architecture=row.architecture,
                parameters=0 if model is None else int(model.parameters),
                source=row.source,
                reason=row.refused,
                aliases=tuple(n for n in row.names if n != (row.id or row.name)),
            )
        )
    for name in zoo.CANONICAL:
        network = zoo.NETWORKS[name]()
        others = tuple(n for n, make in zoo.NETWORKS.items() if make is zoo.NETWORKS[name] and n != name)
        found.append(
            Listed(
                name=name,
                kind="network",
                architecture=network.title,
                parameters=int(network.parameters),
                source=network.source,
                aliases=others,
            )
        )
    return tuple(found)


def names() -> list[str]:
    """One name of every model that ``load`` can build."""
    from presilicon.frontend import named, zoo

    return [row.id or row.name for row in named.rows() if not row.refused] + list(zoo.CANONICAL)


def refused() -> dict[str, str]:
    """The models that are known and cannot be described, with the reason."""
    from presilicon.frontend import named

    return {row.id or row.name: row.refused for row in named.rows() if row.refused}
