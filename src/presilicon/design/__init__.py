"""The chip that serves a model best under limits: a search over designs, and what its answer rests on.

``problem`` states what is asked, ``search`` yields how far it is, ``chip_of`` makes a design a chip.
"""

from ._archive import Archive, Candidate
from ._build import Built, build
from ._chip import chip_of
from ._evaluate import FIGURES, evaluate
from ._problem import OBJECTIVES, Problem, problem
from ._report import DesignReport, report, write
from ._search import DEFAULT_BUDGET, Snapshot, search
from ._space import Space
from ._space import load as space

__all__ = [
    "DEFAULT_BUDGET",
    "FIGURES",
    "OBJECTIVES",
    "Archive",
    "Built",
    "Candidate",
    "DesignReport",
    "Problem",
    "Snapshot",
    "Space",
    "build",
    "chip_of",
    "evaluate",
    "problem",
    "report",
    "search",
    "space",
    "write",
]
