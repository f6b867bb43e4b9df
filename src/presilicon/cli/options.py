"""Arguments and options that several commands take, with what each accepts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

LARGEST_COUNT = 10**9
"""No count on the command line (tokens, requests, chips) is larger; a larger one is a typing error."""


class Count(click.ParamType[int]):
    """A whole number from 1."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = 0
        if not 1 <= number <= LARGEST_COUNT:
            self.fail(f"{str(value)[:40]!r} is not a whole number from 1 to {LARGEST_COUNT:,}", param, ctx)
        return number


class Amount(click.ParamType[float]):
    """A finite number above zero (``zero``: or zero), of a unit that the option's name says; at least ``least``."""

    name = "x"

    def __init__(self, *, zero: bool = False, least: float = 0.0) -> None:
        self.zero, self.least = zero, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        allowed = math.isfinite(number) and number < 1e30 and (number > 0 or (self.zero and number == 0))
        if not allowed or number < self.least:
            what = f"from {self.least:g}" if self.least else "from zero" if self.zero else "above zero"
            self.fail(f"{str(value)[:40]!r} is not a finite number {what}", param, ctx)
        return number


class Dim(click.ParamType[tuple[str, int]]):
    """``name=N``: the size of a symbolic dimension of an ONNX file."""

    name = "name=n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        name, equals, size = str(value).rpartition("=")
        if not equals or not name:
            self.fail(f"{str(value)[:40]!r} is not of the form name=N", param, ctx)
        return name, Count().convert(size, param, ctx)


class ChipName(click.ParamType[str]):
    """A chip of the library, or a TOML file; the shell completes names and files."""

    name = "chip"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from presilicon.chip import names

        found = [CompletionItem(name) for name in names() if name.startswith(incomplete.lower())]
        return found or [CompletionItem(incomplete, type="file")]


class ModelName(click.ParamType[str]):
    """A model of the library, a directory with a config.json, or an ONNX file; the shell completes names and files."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from presilicon.frontend import names

        found = [CompletionItem(name) for name in names() if name.lower().startswith(incomplete.lower())]
        return found or [CompletionItem(incomplete, type="file")]


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
dims: Decorator = click.option(
    "--dim", "dims", type=Dim(), multiple=True, help="Size of a symbolic dimension of an ONNX file; may be repeated."
)
model_argument: Decorator = click.argument("model", type=ModelName(), metavar="MODEL")


def chip_option(help_text: str, *, required: bool = True) -> Decorator:
    """``--chip CHIP``."""
    return click.option("--chip", type=ChipName(), metavar="CHIP", required=required, help=help_text)


def count_option(name: str, help_text: str, default: int | None = None) -> Decorator:
    """An option that takes a whole number from 1."""
    return click.option(name, type=Count(), default=default, show_default=default is not None, metavar="N", help=help_text)


def amount_option(
    name: str, help_text: str, default: float | None = None, *, metavar: str = "X", zero: bool = False, least: float = 0.0
) -> Decorator:
    """An option that takes a finite number."""
    kind = Amount(zero=zero, least=least)
    return click.option(name, type=kind, default=default, show_default=default is not None, metavar=metavar, help=help_text)


def format_option(name: str) -> Decorator:
    """An option that names a number format; the library says which it knows."""
    what = name.removeprefix("--").replace("kv-cache", "the KV cache").replace("-", " ")
    return click.option(name, metavar="F", help=f"Number format of {what}, such as fp8.")


def compile_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What commands that compile take: sizes, calibration data, formats, and what becomes of nodes that are refused."""
    for option in (
        click.option("--host-fallback", is_flag=True, help="Run nodes the chip cannot do on ONNX Runtime."),
        click.option("--fine", multiple=True, metavar="NODE", help="Conv whose image is faint: two int8 terms; repeatable."),
        click.option("--weights", type=click.Choice(["int8", "int4"]), default="int8", show_default=True, help="Of matmuls."),
        click.option("--calibrate", type=click.Path(), metavar="X.npz", help="Inputs to calibrate on, samples along axis 0."),
        count_option("--tokens", "Tokens of a model that is known by name."),
        dims,
    ):
        command = option(command)
    return command


def compile_arguments(
    dims: tuple[tuple[str, int], ...],
    tokens: int | None,
    calibrate: str | None,
    weights: str,
    fine: tuple[str, ...],
    host_fallback: bool,
) -> dict[str, Any]:
    """Options of ``compile_options`` as arguments of ``flow.build``."""
    from presilicon.compiler.array_files import read_arrays

    calibration = read_arrays(calibrate) if calibrate else None
    return {
        "dims": dict(dims),
        "tokens": tokens,
        "calibration": calibration,
        "weights": weights,
        "fine": fine,
        "host_fallback": host_fallback,
    }
