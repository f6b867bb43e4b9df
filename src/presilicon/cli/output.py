"""What commands print: one JSON object, or tables that fit 100 columns and are plain text when not on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from presilicon.files import clean

if TYPE_CHECKING:
    from presilicon.errors import PresiliconError

WIDTH = 100
"""Columns of a table at most."""


def print_json(command: str, values: Mapping[str, Any]) -> None:
    """The one object a command prints with ``--json``."""
    table = {"schema": f"presilicon/{command}/1", **values}
    sys.stdout.write(json.dumps(clean(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_error(error: PresiliconError, *, command: str, as_json: bool) -> None:
    """An error as one sentence on stderr, and as an object on stdout where JSON was asked for."""
    sys.stderr.write(f"presilicon: {' '.join(str(error).split())}\n")
    if as_json:
        print_json(command, {"error": {"message": error.message, "where": error.where, "hint": error.hint}})
        sys.stdout.flush()


def command_line() -> str:
    """The command that is running, as a shell reads it; where it writes to and how it prints are left out."""
    from shlex import join

    import click

    words = list(click.get_current_context().find_root().obj or ())
    kept = ["presilicon"]
    while words:
        word = words.pop(0)
        if word in ("-o", "--output"):
            del words[:1]
        elif not (word == "--json" or word.startswith(("-o", "--output="))):
            kept.append(word)
    return join(kept)


def say(text: str = "") -> None:
    """A line of text on stdout, folded between words at the table's width; indented lines keep their indent."""
    from textwrap import wrap

    indent = text[: len(text) - len(text.lstrip())]
    deeper = indent + ("  " if indent else "")
    lines = wrap(text, WIDTH, subsequent_indent=deeper, break_on_hyphens=False, break_long_words=False)
    sys.stdout.write("\n".join(lines or [""]) + "\n")


def progress(text: str) -> None:
    """A line for the person who waits: stderr, and only when it is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(text + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), title: str = "", fold: str = ""
) -> None:
    """A table of texts; columns named in ``right`` are aligned right, the column ``fold`` takes the room that is left."""
    from rich.box import Box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head_rule = Box("    \n    \n--- \n    \n    \n    \n    \n    \n", ascii=True)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=_width())
    table = Table(box=head_rule, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name != fold,
            overflow="fold" if name == fold else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if title:
        console.print(Text(title, style="bold"))
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def _width() -> int:
    from shutil import get_terminal_size

    return min(WIDTH, get_terminal_size((WIDTH, 40)).columns) if sys.stdout.isatty() else WIDTH
