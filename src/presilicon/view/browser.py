"""PDF and PNG through a browser that is there already: chromium or Chrome, without a network and without a window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from math import ceil
from pathlib import Path

from presilicon.errors import InputError
from presilicon.view.picture import MARGIN_PX, SOURCE_PX, TITLE_PX, Picture

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-quic", "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars",
)  # fmt: skip
PATIENCE_S = 60.0


def browser() -> str:
    """The browser's program; InputError where none is installed. PRESILICON_BROWSER names another."""
    given = os.environ.get("PRESILICON_BROWSER")
    found = shutil.which(given) if given else next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        hint = "apt-get install chromium, or PRESILICON_BROWSER names its program; the HTML file prints to PDF as well"
        raise InputError(f"PDF and PNG need {given or 'chromium or Chrome'}, which was not found", hint=hint)
    return found


def to_pdf(page: Path, target: Path) -> None:
    """Print an HTML file to a PDF file."""
    _run(page, target, "--no-pdf-header-footer", "--print-to-pdf={part}")


def to_png(drawn: Path, picture: Picture) -> Path:
    """An SVG file of a picture as a PNG file beside it, at twice its size; its path."""
    width = ceil(picture.width + 2 * MARGIN_PX)
    height = ceil(picture.height + 2 * MARGIN_PX + TITLE_PX + SOURCE_PX)
    target = drawn.with_suffix(".png")
    _run(drawn, target, f"--window-size={width},{height}", "--force-device-scale-factor=2", "--screenshot={part}")
    return target


def _run(page: Path, target: Path, *options: str) -> None:
    sandbox = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory(prefix=".presilicon-", dir=target.absolute().parent) as scratch:
        part = Path(scratch) / target.name
        asked = [option.format(part=part) for option in options]
        command = [browser(), *FLAGS, *sandbox, f"--user-data-dir={scratch}/profile", *asked, page.absolute().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"the browser did not write it: {error}", where=str(target)) from None
        if not part.is_file():
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise InputError(f"the browser did not write it: {last[:200]}", where=str(target))
        part.replace(target)
