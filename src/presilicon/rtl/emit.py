"""Everything that leaves the house for a chip: Verilog, register map, driver, rules, test bench."""

from __future__ import annotations

import re
from collections.abc import Mapping

from presilicon.isa.page import page
from presilicon.rtl.hierarchy import verilog
from presilicon.rtl.software import software_files
from presilicon.rtl.top import MODULE, Top
from presilicon.template import Core

PREFIX = "presilicon_"
_MODULE = re.compile(r"^module (\\\S+|\w+)", re.MULTILINE)
_NAME = r"(?:\\\S+ |\w+)"


def modules(core: Core) -> dict[str, str]:
    """The Verilog of a chip as a text for each module, the top first; every module's name begins with ``presilicon_``."""
    text = verilog(Top(core), MODULE)
    starts = [found.start() for found in _MODULE.finditer(text)]
    pieces = [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]
    names = {}
    for piece in pieces:
        found = _MODULE.match(piece)
        assert found is not None
        names[found[1]] = _public(found[1])
    texts = {names[name]: _renamed(piece, names) for name, piece in zip(list(names), pieces, strict=True)}
    return {MODULE: texts.pop(MODULE), **dict(sorted(texts.items()))}


def _public(name: str) -> str:
    """A module's name without escapes and with the prefix."""
    plain = re.sub(r"\W+", "_", name.removeprefix("\\"))
    return plain if plain.startswith(PREFIX) else PREFIX + plain


def _renamed(piece: str, names: Mapping[str, str]) -> str:
    """A module under its public name, and so the modules it instantiates."""
    own = _MODULE.match(piece)
    assert own is not None
    piece = f"module {names[own[1]]} " + piece[own.end() :].lstrip()
    instances = re.compile(rf"^(\s*)({_NAME})(\s*(?:#\(|{_NAME}\s*\())", re.MULTILINE)

    def replaced(found: re.Match[str]) -> str:
        name = found[2].strip()
        return found[0] if name not in names else f"{found[1]}{names[name]} {found[3].lstrip()}"

    return instances.sub(replaced, piece).rstrip() + "\n"


def verilog_files(core: Core) -> dict[str, str]:
    """A file for each module, and their list in the order of a compilation."""
    texts = modules(core)
    head = f"// presilicon core {core.digest()}: {core.rows} x {core.cols} PEs, {core.lanes} lanes. Generated.\n"
    files = {f"rtl/{name}.v": head + text for name, text in texts.items()}
    return files | {"rtl/files.f": "\n".join(f"rtl/{name}.v" for name in texts) + "\n"}


def files(core: Core) -> dict[str, str]:
    """All files but the bench, by name below the folder they go to."""
    return verilog_files(core) | software_files(core) | {"INSTRUCTIONS.md": page()}
