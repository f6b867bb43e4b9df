"""Every error a user can cause, as one tree.

PresiliconError
├── InputError                exit 2: what was given cannot be used
│   ├── ModelError            a model's name, configuration or ONNX file
│   ├── ChipError             a chip's name or TOML file
│   ├── FormatError           a number format that does not exist or cannot be used here
│   ├── ParallelismError      chips, tensor, pipeline, expert and data parallelism that do not divide
│   ├── CapacityError         the model does not fit the memory it is given
│   ├── WorkloadError         lengths, batch, limits or prices
│   ├── IsaError              an instruction, a program's text or file, or what a program does to the machine
│   └── FactsError            a table of published figures or measurements
└── CheckError                exit 1: a check ran and did not hold

Each carries ``message`` (one sentence), ``where`` (file, line, node, field, value) and ``hint`` (what would be right).
"""

from __future__ import annotations


class PresiliconError(Exception):
    """A failure with one clear sentence, the place it concerns and what would be right."""

    exit_code = 2

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.hint})" if self.hint else text

    def at(self, where: str) -> PresiliconError:
        """The same error, told where it happened (outermost place first)."""
        place = f"{where}: {self.where}" if self.where else where
        return type(self)(self.message, where=place, hint=self.hint)


class InputError(PresiliconError):
    """Something the user gave cannot be used."""


class ModelError(InputError):
    """A model's name, configuration or ONNX file cannot be used."""


class ChipError(InputError):
    """A chip's name or description cannot be used."""


class FormatError(InputError):
    """A number format is unknown, or the chip does not have it."""


class ParallelismError(InputError):
    """Tensor, pipeline, expert or data parallelism does not divide what it must divide."""


class CapacityError(InputError):
    """Weights, KV cache and activations do not fit the memory."""


class WorkloadError(InputError):
    """Lengths, batch, limits or prices are impossible."""


class IsaError(InputError):
    """An instruction or program cannot be: its fields, its text, its file, or what it would do.

    ``code`` is what the hardware's status register would say (the instruction page lists them); 0 where it would say nothing.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "", code: int = 0) -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = code

    def at(self, where: str) -> IsaError:
        """The same error, told where it happened (outermost place first)."""
        place = f"{where}: {self.where}" if self.where else where
        return IsaError(self.message, where=place, hint=self.hint, code=self.code)


class FactsError(InputError):
    """A table of published figures or measurements has a broken row."""


class CheckError(PresiliconError):
    """A check ran to its end and did not hold."""

    exit_code = 1


def nearest(name: str, known: list[str], most: int = 3) -> str:
    """Names of ``known`` close to ``name``, as a hint; empty when none is close."""
    import difflib

    lowered = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=most, cutoff=0.5)
    contains = [k for low, k in lowered.items() if name.lower() in low][:most]
    names = list(dict.fromkeys([*contains, *(lowered[c] for c in close)]))[:most]
    return "did you mean " + " or ".join(names) + "?" if names else ""
