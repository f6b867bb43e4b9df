"""The command ``presilicon``: finds and loads one command, and turns every failure into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from presilicon import __version__
from presilicon.cli.output import print_error
from presilicon.errors import InputError, PresiliconError, nearest

COMMANDS = (
    "design",
    "models",
    "chips",
    "estimate",
    "match",
    "cost",
    "replay",
    "capacity",
    "bench",
    "serve",
    "studio",
    "report",
    "compile",
    "run",
    "check",
    "rtl",
    "synth",
    "validate",
    "calibrate",
    "doctor",
)
"""Every command, in the order a newcomer needs them; each is the function of its name in the module of its name."""

OPTIONAL = {
    "onnx": "onnx",
    "onnxruntime": "compile",
    "ray": "ray",
    "amaranth": "rtl",
    "fastapi": "serve",
    "uvicorn": "serve",
    "httptools": "serve",
}
"""Packages that one room imports when it needs them, and the extra that brings each."""

INTERRUPTED, CLOSED_PIPE, INTERNAL = 130, 141, 70
"""Exit codes beside 0, 1 and 2: Ctrl-C and a closed pipe as shells count them, a fault of presilicon's as sysexits.h does."""


class LazyGroup(click.Group):
    """Commands of ``COMMANDS``; a command's module is imported when it is run or listed, and imports its engines when run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"presilicon.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise InputError(
                f"no command is called {args[0]!r}",
                hint=nearest(args[0], list(COMMANDS)) or "one of " + ", ".join(COMMANDS),
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="presilicon", message="%(prog)s %(version)s")
@click.pass_context
def presilicon(ctx: click.Context) -> None:
    """Match a model to AI inference chips, real ones or your own: speed, energy, power and cost, with their uncertainty.

    \b
    presilicon match openai/gpt-oss-120b              which chips run it best
    presilicon estimate llama-3.1-8b --chip h100      one chip, operator by operator
    presilicon chips h100                             each figure and where it is from

    Every command has --help with examples, and --json where it prints a table. A MODEL is a name that `presilicon models`
    lists, a directory with a config.json, or an ONNX file; a CHIP is a name that `presilicon chips` lists, or a TOML file.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``arguments`` (those of the process unless given) and return the exit code; nothing is raised."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if sys.stdout is None:  # closed by the shell (>&-)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
    try:
        code = presilicon.main(args=given, prog_name="presilicon", standalone_mode=False, obj=tuple(given))
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PresiliconError as error:
        return _told(error, given)
    except click.ClickException as error:
        return _told(_as_input_error(error, _command(given)), given)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (BrokenPipeError, SystemExit):  # click turns a closed pipe into SystemExit, and nothing else
        return _reader_gone()
    except OSError as error:
        return _told(InputError(f"the output cannot be written: {error.strerror or error}", where="stdout"), given)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL:
            return _told(_not_installed(error.name), given)
        return _fault(error, given)
    except Exception as error:
        return _fault(error, given)


def _reader_gone() -> int:
    """Exit code where nobody reads stdout; what is left in the buffer must not raise again when Python closes the stream."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    return CLOSED_PIPE


def _fault(error: Exception, given: list[str]) -> int:
    """Tell an error that no input should cause; PRESILICON_DEBUG shows where it came from."""
    if os.environ.get("PRESILICON_DEBUG"):
        raise error
    told = PresiliconError(
        f"a fault in presilicon: {type(error).__name__}: {error}",
        hint="PRESILICON_DEBUG=1 shows where; please report it with the command",
    )
    _told(told, given)
    return INTERNAL


def _not_installed(package: str) -> InputError:
    return InputError(f"this needs the package {package}", hint=f"pip install 'presilicon[{OPTIONAL[package]}]'")


def _command(arguments: list[str]) -> str:
    return next((a for a in arguments if a in COMMANDS), "presilicon")


def _told(error: PresiliconError, arguments: list[str]) -> int:
    """Print an error the way ``arguments`` ask for; its exit code."""
    try:
        print_error(error, command=_command(arguments), as_json="--json" in arguments)
    except OSError:
        _reader_gone()
    return error.exit_code


def _as_input_error(error: click.ClickException, command: str) -> InputError:
    """An error of click's parser (unknown option, missing or wrong value) as one of ours."""
    message = " ".join(error.format_message().split()).rstrip(".")
    help_command = f"presilicon {command} --help".replace("presilicon presilicon", "presilicon")
    return InputError(
        message[:1].lower() + message[1:],
        where="" if command == "presilicon" else command,
        hint=f"`{help_command}` shows what it takes",
    )
