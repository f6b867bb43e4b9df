"""A studio in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


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
