"""Long work in processes of its own: started, watched, stopped, and started again where it was.

A job's process writes ``latest.json`` whenever there is news; what the studio tells of a job is in the files, so that it
survives both processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from presilicon.errors import InputError
from presilicon.studio.workspace import Workspace

MOST_RUNNING = 4
"""Jobs that run at once in one studio."""
STOP_S = 5.0


class Jobs:
    """The jobs of a workspace; processes end with the studio."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, about: dict[str, Any]) -> str:
        """Begin a new job; its id. InputError where too many run."""
        self._room()
        name = self.workspace.new_job(about)
        self._run(name)
        return name

    def resume(self, name: str) -> None:
        """Let a job that was stopped go on."""
        folder = self.workspace.job(name)
        if self.state(name) == "running":
            return
        self._room()
        (folder / "end.json").unlink(missing_ok=True)
        self._run(name)

    def stop(self, name: str) -> None:
        """End a job's process; what it has found stays."""
        process = self._running(self.workspace.job(name).name)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._running(name)

    def state(self, name: str) -> str:
        """running, done, failed, or stopped: by the user, or because its process is no more."""
        folder = self.workspace.job(name)
        if self._running(name) is not None:
            return "running"
        end = _read(folder / "end.json")
        return str(end["state"]) if end else "stopped"

    def tell(self, name: str) -> dict[str, Any]:
        """What is known of a job."""
        folder = self.workspace.job(name)
        return {
            "id": name,
            "about": _read(folder / "job.json"),
            "state": self.state(name),
            "latest": _read(folder / "latest.json"),
            "end": _read(folder / "end.json"),
        }

    def all(self) -> list[dict[str, Any]]:
        """Every job of the workspace in short, the newest first."""
        return [{"id": name, "about": _read(self.workspace.job(name) / "job.json"), "state": self.state(name)} for name in
                self.workspace.jobs()]  # fmt: skip

    def close(self) -> None:
        """End all processes."""
        for name in list(self._processes):
            self.stop(name)

    def _running(self, name: str) -> subprocess.Popen[bytes] | None:
        """A job's process as long as it runs; one that has ended is let go."""
        process = self._processes.get(name)
        if process is None or process.poll() is None:
            return process
        if process.stdin is not None:
            process.stdin.close()
        del self._processes[name]
        return None

    def _room(self) -> None:
        running = sum(self._running(name) is not None for name in list(self._processes))
        if running >= MOST_RUNNING:
            raise InputError(f"{running} searches and replays are running", hint="stop one first")

    def _run(self, name: str) -> None:
        folder = self.workspace.job(name)
        with open(folder / "log.txt", "ab") as log:
            # Its standard input stays open as long as the studio lives: at its end the process ends too.
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "presilicon.studio.worker"], cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log
            )


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
