"""One studio in a process of its own, and Debian's chromium."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FLAGS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@dataclass
class Served:
    """A running studio: its address, its workspace and its process."""

    url: str
    workspace: Path
    process: subprocess.Popen[str]


def start(workspace: Path, *options: str) -> Served:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from presilicon.cli import main; sys.exit(main())",
            "studio",
            "--port",
            "0",
            "--workspace",
            str(workspace),
            "--json",
            *options,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = ""
    while line := process.stdout.readline():
        text += line
        if line.startswith("}"):
            break
    return Served(json.loads(text)["url"], workspace, process)


def end(served: Served) -> None:
    served.process.terminate()
    served.process.wait(15)
    assert served.process.stdout is not None
    served.process.stdout.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = start(tmp_path_factory.mktemp("workspace"))
    yield served
    end(served)


@dataclass
class Visit:
    """A page in the browser, and what must not happen on it."""

    page: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*FLAGS, *sandbox])
        yield found
        found.close()


@pytest.fixture
def visit(browser, studio: Served) -> Iterator[Visit]:
    """A fresh page; at its end: no error on the console, and nothing asked of another host."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    seen = Visit(page)
    page.on("console", lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda r: seen.requests.append(r.url))
    yield seen
    context.close()
    assert not seen.complaints
    foreign = [url for url in seen.requests if not url.startswith((studio.url, "data:", "blob:"))]
    assert not foreign
