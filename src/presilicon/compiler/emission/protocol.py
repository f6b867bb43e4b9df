"""What the schedule must know of each kind of step to put it on the chip: the protocol between steps and schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from presilicon.compiler.emission.memory import Chunk, Hold
from presilicon.compiler.emission.site import Strand


def _nothing(strand: Strand, step: Any) -> Sequence[Chunk | Hold]:
    return ()


def _none(step: Any) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """How one kind of step is emitted.

    ``emit(strand, step)`` adds the instructions of the strand's rows to ``strand.site`` in an order in which they could run one
    by one. It yields between its pieces of a few thousand cycles: another strand's may come there; what it yields is the engine
    that the next pieces need, or None: as before. What it has taken from the strand's arenas at a yield stays its own; at its
    end it has given everything back. ``plan`` are the stationary operands that it takes, in that order. ``whole`` are tensors
    of which it reads rows that other strands may have written.
    ``split``: every strand does its share; otherwise the first strand of the first core does all. ``idle``: nothing is to be
    done, another step has done it.
    """

    emit: Callable[[Strand, Any], Iterator[str | None]]
    plan: Callable[[Strand, Any], Sequence[Chunk | Hold]] = _nothing
    whole: Callable[[Any], tuple[str, ...]] = _none
    split: bool = True
    idle: bool = False
