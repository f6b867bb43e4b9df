import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from presilicon.cli import main


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; NaN and infinities are no JSON."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} in JSON")

        found = json.loads(self.out, parse_constant=refuse)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process."""

    def command(*arguments: str) -> Result:
        capsys.readouterr()
        code = main(arguments)
        told = capsys.readouterr()
        return Result(code, told.out, told.err)

    return command


@pytest.fixture
def refused(run):
    """Run the command and expect bad input: exit 2, one sentence on stderr, nothing else; the sentence."""

    def command(*arguments: str) -> str:
        result = run(*arguments)
        assert result.code == 2, (result.out, result.err)
        assert result.out == ""
        assert result.err.startswith("presilicon: ")
        assert result.err.count("\n") == 1
        assert "Traceback" not in result.err
        told = run(arguments[0], "--json", *arguments[1:])
        assert told.code == 2
        assert told.err == result.err
        error = told.json["error"]
        assert set(error) == {"message", "where", "hint"}
        assert error["message"]
        assert told.json["schema"].startswith("presilicon/")
        return result.err

    return command


def process(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "PRESILICON_DEBUG"}
    command = [sys.executable, "-c", "import sys; from presilicon.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, **more)
