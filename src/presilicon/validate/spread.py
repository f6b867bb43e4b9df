"""Chips left out: constants fitted without a chip, and predictions of that chip with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from presilicon.estimate.constants import family
from presilicon.validate.bench import Library
from presilicon.validate.facts import Table
from presilicon.validate.refit import BENCHES, families_of, fit_family, starting
from presilicon.validate.score import Predictions, score

# With fewer rows than this, a fit says nothing about another chip.
LEAST_ROWS = 50


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Predictions of one table's rows of one chip with constants that never saw the chip.

    ``fitted_on`` are the other chips of its family; where it has none among the tables, ``family`` names the one whose
    constants were taken.
    """

    chip: str
    fitted_on: tuple[str, ...]
    family: str
    found: Predictions

    @property
    def same_family(self) -> bool:
        """Whether the constants are of other chips of the chip's own family."""
        return bool(self.fitted_on)

    def to_json(self) -> list[dict[str, Any]]:
        """Errors on held-back rows by format, with the constants' origin."""
        return [
            {
                "chip": chip,
                "format": label,
                "fitted_on": list(self.fitted_on),
                "family": self.family,
                **score(self.found.measured[rows], self.found.predicted[rows]).to_json(),
            }
            for chip, label, rows in self.found.groups_and_chips(self.found.scored)
        ]


def left_out(found: Mapping[str, Table]) -> dict[str, list[LeftOut]]:
    """By table: each measured chip predicted by constants fitted on the others of its family, through all tables alike.

    A table of which no other chip of the family has rows says nothing about a chip left out. A chip alone in its family is
    predicted with the constants of each other fitted family instead: how far the formulas carry where nothing was fitted.
    """
    members = families_of(found)
    result: dict[str, list[LeftOut]] = {kind: [] for kind in BENCHES if kind in found}
    for name, chips in members.items():
        for chip in chips:
            others = tuple(other for other in chips if other != chip)
            if others and _rows(found, others) >= LEAST_ROWS:
                fitted = fit_family(found, others).constants
                constants = _all_names() | dict(fitted)
                _add(result, found, (chip, others, name), constants)
                continue
            for strange in members:
                if strange != name:
                    constants = {key: float(getattr(family(strange), key)) for key in _all_names()}
                    _add(result, found, (chip, (), strange), constants)
    return result


def _add(
    result: dict[str, list[LeftOut]],
    found: Mapping[str, Table],
    which: tuple[str, tuple[str, ...], str],
    constants: Mapping[str, float],
) -> None:
    chip, others, _ = which
    for kind, entries in result.items():
        own = found[kind].take(found[kind]["chip"] == chip)
        if len(own) and (not others or np.isin(found[kind]["chip"], others).any()):
            entries.append(LeftOut(*which, BENCHES[kind].predict(own, Library(constants=constants))))


def _rows(found: Mapping[str, Table], chips: tuple[str, ...]) -> int:
    return sum(int(np.isin(found[kind]["chip"], chips).sum()) for kind in BENCHES if kind in found)


def _all_names() -> dict[str, float]:
    """Every constant that some table fits, at the value where fits begin."""
    start = starting()
    return {name: start[name] for bench in BENCHES.values() for name in bench.names}
