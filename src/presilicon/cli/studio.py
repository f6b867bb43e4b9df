"""``presilicon studio``: the page."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from presilicon.cli.options import as_json
from presilicon.cli.output import print_json, say


@click.command(name="studio", short_help="A local page: sliders, comparison, search and replay.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen at.")
@click.option("--port", type=int, default=8100, show_default=True, metavar="N", help="Port to listen at; 0 takes a free one.")
@click.option(
    "--token", default="", envvar="PRESILICON_STUDIO_TOKEN", metavar="T",
    help="Token that the page's address must carry; made anew where the address is not this machine's own.",
)  # fmt: skip
@click.option(
    "--workspace",
    type=click.Path(),
    metavar="DIR",
    help="Folder for dropped files, searches and replays.  [default: presilicon-studio]",
)
@as_json
def studio(host: str, port: int, token: str, workspace: str | None, as_json: bool) -> None:
    """Open a page on this machine: a model on a chip that follows the sliders, chips side by side, searches, replays.

    \b
    presilicon studio
    presilicon studio --port 0 --workspace ideas
    presilicon studio --host 0.0.0.0              reachable by others, with a token

    Nothing is asked of any other machine. What is dropped onto the page, and what searches find, is kept in the workspace.
    Ctrl-C ends it; a search that was running can be resumed the next time. --json prints the address as one object.
    """
    from presilicon.studio import Studio, Workspace, listen, run, token_for

    kept = Workspace(Path(workspace or "presilicon-studio"))
    listener = listen(host, port)
    known = token_for(host, token)

    def tell() -> None:
        address, found = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        url = f"http://{shown}:{found}/" + (f"?token={known}" if known else "")
        if as_json:
            print_json("studio", {"url": url, "workspace": str(kept.folder)})
        else:
            say(url)
            say(f"Workspace {kept.folder}; Ctrl-C ends it.")
        sys.stdout.flush()

    run(Studio(kept), listener, host=host, token=known, started=tell)
