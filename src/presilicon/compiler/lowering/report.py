"""What became of each node of the file: on the chip, folded before the run, arranged for free, or refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Status = Literal["on-chip", "arranged", "folded", "refused", "host"]


@dataclass(frozen=True, slots=True)
class NodeSupport:
    """One node: ``steps`` it went into; ``reason`` where it is refused (or runs on the host because it is)."""

    node: str
    op: str
    status: Status
    steps: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SupportReport:
    """All nodes of a file in order, and how its activations' ranges were found."""

    nodes: tuple[NodeSupport, ...]
    calibration: str = ""

    @property
    def refused(self) -> tuple[NodeSupport, ...]:
        """Those that the chip cannot do."""
        return tuple(node for node in self.nodes if node.status in ("refused", "host"))

    @property
    def counts(self) -> Counter[str]:
        """How many nodes have each status."""
        return Counter(node.status for node in self.nodes)
