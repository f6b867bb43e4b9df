"""Make the figures of the documents anew: ``python docs/make.py``; with ``--check``, only say which are out of date.

Pages that list (models, chips, claims) are written whole. In the others, each console block that begins with ``$ presilicon``
is run and its output put below the command.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

from presilicon import chip
from presilicon.cli import main as presilicon
from presilicon.cli.chips import MAIN_COLUMNS, main_figures
from presilicon.economics import published
from presilicon.frontend import listing
from presilicon.validate.claims import claims, page

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"```console\n(\$ presilicon [^\n]*)\n.*?```", re.DOTALL)


def answered(command: str) -> str:
    """A console block: the command and what it prints; ``| head -N`` at its end is understood."""
    line, _, head = command.removeprefix("$ ").partition(" | head -")
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        presilicon(shlex.split(line)[1:])
    lines = (stdout.getvalue() + stderr.getvalue()).splitlines()
    if head:
        lines = lines[: int(head)]
    return "```console\n" + "\n".join([command, *lines]).rstrip() + "\n```"


def chips_page() -> str:
    """The chip library as Markdown, below the text that stands in chips.md before the mark."""
    text = (DOCS / "chips.md").read_text(encoding="utf-8")
    before = text.partition("<!-- made by docs/make.py -->")[0]
    head = ("year", *MAIN_COLUMNS[1:], "sources")
    lines = ["<!-- made by docs/make.py -->", f"| chip | {' | '.join(head)} |", "| --- " + "| ---: " * len(head) + "|"]
    for one in chip.library():
        if not one.missing():
            name, *figures = main_figures(one)
            lines.append(f"| {name} | {one.year or '-'} | {' | '.join(figures)} | {len(one.sources)} |")
    lines += ["", "## Known, but too blank to estimate", "", "| chip | not published |", "| --- | --- |"]
    lines += [f"| {one.name} | {', '.join(one.missing())} |" for one in chip.library() if one.missing()]
    return before + "\n".join(lines) + "\n"


def economics_page() -> str:
    """economics.md with its two tables anew: each stands between a mark of its name and the mark of its end."""
    text = (DOCS / "economics.md").read_text(encoding="utf-8")
    for name, table in (("areas", published.area_table()), ("costs", published.cost_table())):
        text = re.sub(f"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL)
    return text


def pages() -> dict[Path, str]:
    """Every page that has figures, as it should be."""
    found = {DOCS / "models.md": listing.page(), DOCS / "chips.md": chips_page(), DOCS / "claims.md": page(claims())}
    found[DOCS / "economics.md"] = economics_page()
    for path in (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))):
        text = found.get(path) or path.read_text(encoding="utf-8")
        found[path] = BLOCK.sub(lambda match: answered(match.group(1)), text)
    return found


def main() -> int:
    """Write the pages, or with ``--check`` name those that differ; the exit code."""
    stale = [path for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"out of date: {path.relative_to(DOCS.parent)} (python docs/make.py)")
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
    print("written:", ", ".join(str(path.relative_to(DOCS.parent)) for path in stale) or "nothing had changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
