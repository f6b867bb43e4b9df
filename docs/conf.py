"""The documents as a web site: ``sphinx-build -W docs site``, with warnings as errors. Nothing on it is of another host."""

import re
from pathlib import Path

from sphinx.application import Sphinx

from presilicon import __version__

DOCS = Path(__file__).parent
ORDER = (
    "tour", "models", "chips", "estimate", "match", "design", "economics", "studio", "report", "replay", "bench", "serve",
    "compile", "core", "isa", "clock", "validation", "claims",
)  # fmt: skip
"""Pages in the order of the side bar; those that are not named follow."""

project = "presilicon"
author = "the presilicon authors"
release = version = __version__
extensions = ["myst_parser"]
root_doc = "index"
myst_heading_anchors = 3
html_theme = "furo"
html_title = "presilicon"
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"


def contents() -> str:
    """The table of contents, which only the site needs: on the pages themselves stand links."""
    pages = {path.stem for path in DOCS.glob("*.md")} - {root_doc}
    named = [name for name in ORDER if name in pages]
    decisions = ["decisions/README", *sorted(f"decisions/{path.stem}" for path in DOCS.glob("decisions/[0-9]*.md"))]
    tree = [*named, *sorted(pages - set(named)), *decisions]
    return "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(tree) + "\n```\n"


def prepared(app: Sphinx, page: str, source: list[str]) -> None:
    """A page as the site shows it: links to files beside the documents are words, as those files are not on the site."""
    source[0] = re.sub(r"\[([^\]]*)\]\((?:\.\./)+(?!decisions|\w+\.md)[^)]*\)", r"\1", source[0])
    if page == root_doc:
        source[0] += contents()


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", prepared)
