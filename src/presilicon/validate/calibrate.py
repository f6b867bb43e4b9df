"""Constants of one chip from measurements of one's own: the same fit as that of the families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from presilicon.chip import Chip, load
from presilicon.errors import ChipError, FactsError
from presilicon.estimate.constants import constants_of
from presilicon.validate.bench import Library
from presilicon.validate.facts import Table, read
from presilicon.validate.refit import BENCHES, fit_bench, starting
from presilicon.validate.score import Mask, Predictions, score

# Both halves of a split hold at least this many rows; with fewer, all rows are fitted and all are scored.
LEAST_HALF = 20
# A fit of fewer rows than this would follow their noise.
LEAST_ROWS = 8


@dataclass(frozen=True, slots=True)
class Calibration:
    """A chip with constants of its own; median APE before and after, on rows the fit did not see where there are enough."""

    chip: Chip
    before: float
    after: float
    constants: Mapping[str, float]
    rows: int
    scored_on: str

    def to_json(self) -> dict[str, Any]:
        """The object of ``calibrate --json`` (without its schema)."""
        return {
            "chip": self.chip.name,
            "before": self.before,
            "after": self.after,
            "constants": dict(self.constants),
            "rows": self.rows,
            "scored_on": self.scored_on,
        }


def _own_rows(table: Table, chip: Chip) -> Table:
    """The rows of this chip, by its name, an alias, or as all of a table of one chip that the library does not know."""
    given = np.unique(table["chip"]).tolist()
    own = [name for name in given if name == chip.name or name in chip.aliases]
    if not own:
        hint = "the column chip holds " + ", ".join(given[:5]) + (" ..." if len(given) > 5 else "")
        raise FactsError(f"no row is of {chip.name}", where=table.path, hint=hint)
    return table.take(np.isin(table["chip"], own))


def _error(found: Predictions, rows: Mask) -> float:
    value = score(found.measured[rows], found.predicted[rows]).median_ape
    assert value is not None
    return value


def calibrate(chip: Chip | str, measurements: str | Path) -> Calibration:
    """Fit the constants that a table of measurements (gemm, power, attention or collective, by its header) can tell.

    The fit starts at the constants the chip has. Half of the shapes are held back and scored, where each half has
    ``LEAST_HALF`` rows. FactsError where the table is broken or has too few rows of this chip.
    """
    known = load(chip) if isinstance(chip, str) else chip
    table = read(measurements)
    bench = BENCHES.get(table.kind)
    if bench is None:
        raise FactsError(f"a {table.kind} table fits no constants", where=table.path, hint="one of " + ", ".join(BENCHES))
    own = _own_rows(table, known)
    library = Library(dict.fromkeys(np.unique(own["chip"]).tolist(), known))
    before = bench.predict(own, library)
    if int(before.used.sum()) < LEAST_ROWS:
        reasons = "; ".join(f"{entry['reason']}: {entry['rows']} rows" for entry in before.skipped)
        raise FactsError(
            f"{int(before.used.sum())} rows of {known.name} can be predicted, a fit needs {LEAST_ROWS}",
            where=table.path,
            hint=reasons or "measure more shapes",
        )
    held, seen = before.used & before.held, before.used & ~before.held
    split = min(int(held.sum()), int(seen.sum())) >= LEAST_HALF
    start = {name: value for name, value in _constants(known).items() if name in bench.names}
    fitted = fit_bench(replace(bench, unfitted=(), unmeasured=()), own, library, start, split=split)
    assert fitted is not None  # rows were counted above
    constants = {name: float(f"{value:.6g}") for name, value in fitted.fit.constants.items()}
    changed = replace(known, constants={**known.constants, **constants})
    after = bench.predict(own, Library(dict.fromkeys(np.unique(own["chip"]).tolist(), changed)))
    scored = held if split else before.used
    result = _error(before, scored), _error(after, scored)
    return Calibration(changed, *result, constants, int(before.used.sum()), "held-back rows" if split else "all rows")


def _constants(chip: Chip) -> dict[str, float]:
    """The chip's constants as they stand; those that are zero start where every fit starts."""
    have, other = constants_of(chip), starting()
    try:
        return {name: float(getattr(have, name)) or value for name, value in other.items()}
    except (TypeError, ValueError):
        raise ChipError("its constants are not single numbers", where=chip.name) from None
