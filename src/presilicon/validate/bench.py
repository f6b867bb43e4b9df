"""What all kernel tables share: rows taken apart by chip and label, reasons to skip, the plain roofline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from presilicon.chip import Chip, load
from presilicon.errors import ChipError, FormatError
from presilicon.estimate.constants import constants_of
from presilicon.estimate.machine import Machine, machine
from presilicon.graph import Size
from presilicon.validate.facts import Table
from presilicon.validate.score import Floats, Mask, Predictions

# The plain roofline, with nothing fitted: shares of peak rate and bandwidth, and a launch.
ROOFLINE_COMPUTE, ROOFLINE_MEMORY, ROOFLINE_LAUNCH_S = 0.75, 0.8, 3e-6


class Skip(Exception):  # noqa: N818 - not an error: rows without a prediction, and why
    """Rows that cannot be predicted, with the reason."""


@dataclass(frozen=True, slots=True)
class Library:
    """Where the chips of a table come from: the shipped library, with ``chips`` of one's own over it by name.

    ``constants`` go over those of every chip (a fit tries them out).
    """

    chips: Mapping[str, Chip] | None = None
    constants: Mapping[str, float] | None = None

    def chip(self, name: str) -> Chip:
        """The chip of that name; Skip where there is none."""
        if self.chips and name in self.chips:
            return self.chips[name]
        try:
            if not name.endswith(".toml"):  # a table names chips of the library, never files
                return load(name)
        except ChipError:
            pass
        raise Skip("the chip is not in the library")

    def machine(self, chip: Chip) -> Machine:
        """The machine of a chip; Skip where a figure it needs is not public."""
        known = constants_of(chip)
        try:
            return machine(chip, replace(known, **dict(self.constants)) if self.constants else known)
        except ChipError as error:
            raise Skip(f"chip figure not public: {error.message}") from None


LIBRARY = Library()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of one chip and label, with the machine to predict them on."""

    table: Table
    label: str
    machine: Machine


@dataclass(frozen=True, slots=True)
class Bench:
    """One kind of kernel table: how its rows are predicted, and which constants of a family are fitted on it.

    Labels of ``unfitted`` are predicted and scored, but pull no constant. ``loss`` is what the fit makes least; None: the
    mean error of ``predict``. ``unmeasured`` are fitted only where no table before has measured
    them. ``features`` are zero for chips that lack something: they are
    fitted only where that makes the loss clearly less. A fit looks at ``most_rows`` of each chip and label.
    """

    table: str
    names: tuple[str, ...]
    predict: Callable[[Table, Library], Predictions]
    unfitted: tuple[str, ...] = ()
    loss: Callable[[Table, Library], float] | None = None
    unmeasured: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    most_rows: int = 400


def plain_roofline(machine: Machine, macs: Size, rate: Any, moved_bytes: Size) -> Floats:
    """Time by 75 % of the peak rate or 80 % of the bandwidth, whichever is longer, plus 3 us."""
    compute_s = 2.0 * np.asarray(macs) / (ROOFLINE_COMPUTE * rate)
    memory_s = np.asarray(moved_bytes) / (ROOFLINE_MEMORY * machine.memory_bytes_per_s)
    return np.asarray(np.maximum(compute_s, memory_s) + ROOFLINE_LAUNCH_S, dtype=np.float64)


def needs(machine: Machine, name: str) -> None:
    """Skip where a chip has no matrix unit for a format."""
    if not machine.has(name):
        raise Skip(f"the chip does not multiply {name}")


def predict_rows(
    table: Table,
    library: Library,
    *,
    label: NDArray[Any],
    measured: Floats,
    held: Mask,
    one: Callable[[Rows], tuple[Floats, Floats]],
) -> Predictions:
    """Predictions of a table, chip by chip and label by label; ``one`` returns predicted and roofline, or raises Skip."""
    predicted, roofline = np.full(len(table), np.nan), np.full(len(table), np.nan)
    reason = np.full(len(table), "", dtype=object)
    names = np.array(table["chip"], dtype=object)
    for given in np.unique(table["chip"]):
        of_chip = table["chip"] == given
        try:
            chip = library.chip(str(given))
            names[of_chip] = chip.name
            machine = library.machine(chip)
        except Skip as skip:
            reason[of_chip] = str(skip)
            continue
        for each in np.unique(label[of_chip]):
            rows = of_chip & (label == each)
            try:
                predicted[rows], roofline[rows] = one(Rows(table.take(rows), str(each), machine))
            except Skip as skip:
                reason[rows] = str(skip)
            except FormatError as error:
                reason[rows] = error.message
    return Predictions(
        table=table,
        chip=names,
        label=np.array(label, dtype=object),
        measured=measured,
        predicted=predicted,
        reason=reason,
        held=held,
        roofline=roofline,
    )
