"""One studio in a process of its own, and Debian's chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from served import Served, end, start

FLAGS = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


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
