"""What depends on the place of a token alone: learned positions and rotations, as rows of a table that the position picks."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.importing.graph import Array
from presilicon.compiler.importing.masks import places
from presilicon.compiler.importing.runtime import run, session
from presilicon.compiler.lowering.builder import Builder, RefusedError
from presilicon.compiler.lowering.pending import Pending
from presilicon.compiler.steps import Binding
from presilicon.compiler.vectors import Stream


def by_position(b: Builder, name: str, rows: int, width: int) -> Pending | None:
    """A value that depends on the runtime position alone, as rows of a table; None where it depends on something else."""
    table = by_place(b, name)
    if table is None:
        return None
    if table.shape[1] != width:
        raise RefusedError(f"{name} has {table.shape[1]} numbers a place beside {width}")
    key = f"{name}.table"
    if key not in b.constants:
        b.constants[key] = table
    row = b.roles[next(iter(b.graph.depends(name)))]
    return Pending(operand=Stream(key), rows=rows, width=width, sources=(), streams=(Binding(key, key, 0, row),))


def by_place(b: Builder, name: str) -> Array | None:
    """What a value is at each place (places, width); None where it depends on more than the position."""
    inputs = b.graph.depends(name)
    if len(inputs) != 1 or b.roles.get(next(iter(inputs))) != "position":
        return None
    (position,) = inputs
    tokens = b.graph.shape(position)[-1]
    whole = b.arguments["position"] + tokens
    ready = session(b.raw, [position], [name])
    rows: dict[int, Array] = {}
    for start in range(0, whole, tokens):
        # The last window lies over the one before: no place is beyond the last.
        first = min(start, whole - tokens)
        (found,) = run(ready, {position: places(b.raw, position, first)}, b.raw.name)
        rows |= enumerate(found.reshape(tokens, -1), first)
    return np.stack([rows[place] for place in range(whole)]).astype(np.float32)


def rotation(b: Builder, name: str, which: Literal["cos", "sin"], dim: int, heads: int, width: int) -> Binding:
    """Cosines or sines (places, heads * dim) as `Rotary` streams them: pairs side by side, the first's sine negative.

    Only the first ``width`` columns of a head are rotated.
    """
    known = b.turned.get((name, which))
    if known is not None and known[1] >= heads:
        return known[0]
    constant = b.graph.constants.get(name)
    table = by_place(b, name) if constant is None else constant.reshape(-1, constant.shape[-1])
    if table is None or table.shape[1] != width:
        raise RefusedError(f"its {which} is not a table by the place of each token")
    head = np.full((len(table), dim), float(which == "cos"), np.float32)
    head[:, :width] = table[:, pairs(width, width)]
    if which == "sin":
        head[:, :width:2] *= -1
    key = b.constant(f"{name}.{which}", np.ascontiguousarray(np.tile(head, heads)))
    made = Binding(key, key, 0, "" if constant is not None else "position")
    b.turned[name, which] = made, heads
    return made


def pairs(dim: int, width: int) -> NDArray[np.intp]:
    """The order of a head's columns in which the halves of its first ``width`` stand beside each other."""
    return np.concatenate([np.arange(width).reshape(2, -1).T.reshape(-1), np.arange(width, dim)])
