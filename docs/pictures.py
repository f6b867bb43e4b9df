"""Make the pictures of the documents anew: ``python docs/pictures.py``; with ``--check``, only say which are out of date.

Drawings: each ``sh`` block below the mark ``<!-- drawn by docs/pictures.py -->`` is run in a new folder, and the SVG files that
the page shows from ``pictures/`` are taken from there. Screens of the studio are made with ``--screens`` (chromium); they are
not compared, as fonts differ from machine to machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from presilicon.cli import main as presilicon

DOCS = Path(__file__).resolve().parent
KEPT = DOCS / "pictures"
BLOCK = re.compile(r"<!-- drawn by docs/pictures.py -->\n+```sh\n(.*?)\n```", re.DOTALL)
SHOWN = re.compile(r"\]\(pictures/([\w-]+\.svg)\)")
CHROMIUM = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


def drawn(page: Path) -> dict[str, str]:
    """The drawings that a page shows, made by its own commands."""
    text = page.read_text(encoding="utf-8")
    names = set(SHOWN.findall(text))
    if not names:
        return {}
    made: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in BLOCK.findall(text):
            for line in block.splitlines():
                with contextlib.redirect_stdout(io.StringIO()):
                    code = presilicon(shlex.split(line)[1:])
                if code:
                    raise SystemExit(f"{page.name}: {line} ended with {code}")
        for path in sorted(Path(folder).rglob("*.svg")):
            made[path.name] = path.read_text(encoding="utf-8")
    return {name: made[name] for name in names}


def drawings() -> dict[Path, str]:
    """Every drawing of the documents."""
    found: dict[Path, str] = {}
    for page in sorted(DOCS.glob("*.md")):
        found |= {KEPT / name: text for name, text in drawn(page).items()}
    return found


SCREENS = {
    "chip": "#/chip?chip=blank",
    "compare": "#/compare",
    "search": "#/search?model=meta-llama%2FLlama-3.1-8B&budget=40000&max_power_w=300",
    "replay": "#/replay?rate=6&requests=2000&limits.ttft_s=0.5",
}
"""Views of the studio by the name of their picture."""
BUTTONS = {"search": "Start the search", "replay": "Start the replay"}
SIZES = ((1440, 1000, "light"), (390, 844, "light"), (1440, 1000, "dark"))


def screens() -> None:
    """Each view of the studio, wide and narrow, as WebP files."""
    from playwright.sync_api import sync_playwright

    from presilicon.studio import Studio, Workspace, guarded, listen

    with (
        tempfile.TemporaryDirectory() as workspace,
        serving(guarded(Studio(Workspace(workspace)), "127.0.0.1", ""), listen) as url,
        sync_playwright() as playwright,
    ):
        sandbox = () if os.geteuid() else ("--no-sandbox",)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*CHROMIUM, *sandbox])
        for name, place in SCREENS.items():
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.goto(url + place)
            if name in BUTTONS:
                page.get_by_role("button", name=BUTTONS[name]).click()
                page.wait_for_selector(".state.done", timeout=300_000)
            page.wait_for_selector("figure .picture")
            address = page.url
            for width, height, scheme in SIZES:
                if scheme == "dark" and name != "chip":
                    continue
                page.set_viewport_size({"width": width, "height": height})
                page.emulate_media(color_scheme=scheme)
                page.goto("about:blank")
                page.goto(address)
                page.wait_for_selector("figure .picture")
                page.wait_for_timeout(700)
                suffix = "-dark" if scheme == "dark" else ""
                save(page.screenshot(), KEPT / f"studio-{name}-{width}{suffix}.webp")
            page.close()
        browser.close()


def save(png: bytes, target: Path) -> None:
    """A screen as a small WebP file."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(target, "WEBP", quality=82, method=6)


@contextlib.contextmanager
def serving(application, listen):
    """The address of an application served by a thread."""
    import threading

    import uvicorn

    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def main() -> int:
    """Write the pictures, or with ``--check`` name those that differ; the exit code."""
    if "--screens" in sys.argv:
        screens()
        return 0
    stale = [path for path, text in drawings().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"out of date: {path.relative_to(DOCS.parent)} (python docs/pictures.py)")
        return 1 if stale else 0
    for path, text in drawings().items():
        path.write_text(text, encoding="utf-8")
    print("written:", ", ".join(path.name for path in stale) or "nothing had changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
