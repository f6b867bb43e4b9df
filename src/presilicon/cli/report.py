"""``presilicon report``: the results in a folder as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from presilicon.cli.options import as_json
from presilicon.cli.output import print_json, say

if TYPE_CHECKING:
    from presilicon.view.document import Document

REPORT = "report.html"
"""The report in a folder of results."""


@click.command(name="report", short_help="Results in a folder as one HTML file, and as PDF.")
@click.argument("results", type=click.Path(), metavar="DIR")
@click.option("-o", "--output", type=click.Path(), metavar="FILE.html", help="The file.  [default: DIR/report.html]")
@click.option("--pdf", is_flag=True, help="Write a PDF beside it; needs chromium or Chrome.")
@click.option("--pictures", type=click.Path(), metavar="OUT", help="Write each picture as an SVG file to a folder.")
@click.option("--png", is_flag=True, help="With --pictures: PNG files too; needs chromium or Chrome.")
@as_json
def report(results: str, output: str | None, pdf: bool, pictures: str | None, png: bool, as_json: bool) -> None:
    """Write results as one HTML file: summary, figures, pictures, sources, command.

    \b
    presilicon replay llama-3.1-8b --chip h100 --rate 4 -o out
    presilicon report out
    presilicon report out --pdf --pictures pictures
    presilicon report rows.csv                    what `validate --rows rows.csv` wrote
    presilicon report trace.json                  what `run --trace trace.json` wrote

    DIR is a folder of `design -o` or `replay -o`, or one of the files above. The report holds all it needs: it opens with
    no network, and its figures are those of the JSON in DIR.
    """
    from presilicon.files import write_folder, write_whole
    from presilicon.view.document import html, pictures_of

    if png and not pictures:
        raise click.UsageError("--png goes with --pictures")
    given = Path(results)
    document = document_of(given)
    target = Path(output) if output else given / REPORT if given.is_dir() else given.with_suffix(".html")
    write_whole(target, html(document))
    written = [str(target)]
    if pdf:
        from presilicon.view.browser import to_pdf

        to_pdf(target, target.with_suffix(".pdf"))
        written.append(str(target.with_suffix(".pdf")))
    if pictures:
        texts = {f"{name}.svg": one.file("light") for name, one in pictures_of(document).items()}
        write_folder(pictures, texts)
        written += [str(Path(pictures) / name) for name in texts]
        if png:
            from presilicon.view.browser import to_png

            for name, one in pictures_of(document).items():
                written.append(str(to_png(Path(pictures) / f"{name}.svg", one)))
    if as_json:
        print_json("report", {"title": document.title, "summary": list(document.summary), "files": written})
        return
    for line in document.summary:
        say(line)
    say()
    say(", ".join(written))


def write_report(folder: str) -> str:
    """Write the report of a command's results beside them; its name."""
    from presilicon.files import write_whole
    from presilicon.view.document import html

    write_whole(Path(folder) / REPORT, html(document_of(Path(folder))))
    return REPORT


def document_of(folder: Path) -> Document:
    """The report of what a folder holds; InputError where that is nothing known."""
    from presilicon.errors import InputError

    if folder.is_file():
        return _file(folder)
    readers = {"design.json": _design, "report.json": _replay}
    for name, read in readers.items():
        if (folder / name).is_file():
            return read(folder)
    hint = "a folder that `presilicon design -o DIR` or `presilicon replay -o DIR` wrote"
    if not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder), hint=hint)
    raise InputError("it holds no results", where=str(folder), hint=hint)


def _file(path: Path) -> Document:
    if path.suffix == ".csv":
        from presilicon.view.validation_report import read_rows

        return read_rows(path, made_by=_made_by())
    from presilicon.view.trace_report import read_trace_events

    return read_trace_events(path, made_by=_made_by())


def _replay(folder: Path) -> Document:
    from presilicon.view.replay_report import read_replay

    return read_replay(folder, made_by=_made_by())


def _design(folder: Path) -> Document:
    from presilicon.view.design_report import read_design

    return read_design(folder, made_by=_made_by())


def _made_by() -> str:
    from presilicon import __version__

    return f"presilicon {__version__}"
