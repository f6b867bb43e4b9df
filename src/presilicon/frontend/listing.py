"""Write the catalogue of models as a page: ``python -m presilicon.frontend.listing docs/models.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from presilicon.frontend import Listed, catalogue

_HEAD = """# Models

Made by `python -m presilicon.frontend.listing docs/models.md`; do not edit.

A name works in any case, with or without its owner. Other models of the same structure run from their `config.json`.
Parameters are those of the graphs (language part only; no multi-token-prediction layers, no vision tower).
"""


def page(models: tuple[Listed, ...] | None = None) -> str:
    """The catalogue as Markdown."""
    listed = catalogue() if models is None else models
    lines = [_HEAD]
    for kind, title in (("language", "Language models"), ("network", "Networks without a KV cache")):
        lines += [f"## {title}", "", "| model | parameters | other names | source |", "| --- | ---: | --- | --- |"]
        lines += [
            f"| {m.name} | {_count(m.parameters)} | {', '.join(m.aliases)} | {_cell(m.source)} |"
            for m in listed
            if m.kind == kind and not m.reason
        ]
        lines.append("")
    lines += [
        "## Refused",
        "",
        "Known models that cannot be described, and why.",
        "",
        "| model | architecture | reason |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {m.name} | {m.architecture} | {_cell(m.reason)} |" for m in listed if m.reason]
    return "\n".join(lines) + "\n"


def _count(parameters: int) -> str:
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if parameters >= size:
            return f"{parameters / size:.2f} {unit}"
    return str(parameters)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/models.md").write_text(page(), encoding="utf-8")
