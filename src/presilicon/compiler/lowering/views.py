"""How a value of the graph lies in a matrix: reshapes, transposes, slices and repeats move nothing, they only index anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from presilicon.compiler.importing.graph import Array, FloatGraph, Node


@dataclass(frozen=True, slots=True)
class Atom:
    """``size`` elements ``stride`` elements apart."""

    size: int
    stride: int


Axis = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class View:
    """A value over the elements of matrix ``base`` (its name): each axis in atoms, slowest first, from ``offset`` on."""

    base: str
    axes: tuple[Axis, ...]
    offset: int = 0

    @classmethod
    def plain(cls, base: str, shape: Sequence[int]) -> View:
        """A value of a shape whose elements lie one behind the other."""
        strides = np.cumprod([1, *reversed(shape)])[:-1][::-1]
        return cls(base, tuple((Atom(n, int(s)),) if n != 1 else () for n, s in zip(shape, strides, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape."""
        return tuple(math.prod(atom.size for atom in axis) for axis in self.axes)

    def transposed(self, perm: Sequence[int]) -> View:
        """With its axes in another order."""
        return replace(self, axes=tuple(self.axes[p] for p in perm))

    def sliced(self, starts: Sequence[int], steps: Sequence[int], shape: Sequence[int]) -> View | None:
        """A part of it; None where an axis that is cut is of several atoms."""
        axes, offset = [], self.offset
        for axis, start, step, size in zip(self.axes, starts, steps, shape, strict=True):
            whole = math.prod(atom.size for atom in axis)
            if (start, step, size) == (0, 1, whole):
                axes.append(axis)
                continue
            cut = _cut(axis, start, step, size)
            if cut is None:
                return None
            axes.append(cut[0])
            offset += cut[1]
        return replace(self, axes=tuple(axes), offset=offset)

    def expanded(self, shape: Sequence[int]) -> View:
        """Repeated along axes of 1, and along new ones in front."""
        own = ((),) * (len(shape) - len(self.axes)) + self.axes
        axes = [
            axis if math.prod(a.size for a in axis) == size else (Atom(size, 0),) for axis, size in zip(own, shape, strict=True)
        ]
        return replace(self, axes=tuple(axes))

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """With other axes over the same elements; None where an atom would have to be cut unevenly."""
        left = list(coalesced([atom for axis in self.axes for atom in axis]))
        axes: list[Axis] = []
        for size in shape:
            axis: list[Atom] = []
            need = size
            while need > 1:
                if not left:
                    return None
                first = left.pop(0)
                if need % first.size == 0:
                    axis.append(first)
                    need //= first.size
                elif first.size % need == 0:
                    inner = first.size // need
                    axis.append(Atom(need, first.stride * inner))
                    left.insert(0, Atom(inner, first.stride))
                    need = 1
                else:
                    return None
            axes.append(tuple(axis))
        return replace(self, axes=tuple(axes)) if not left else None

    # As a matrix ------------------------------------------------------------------------------------------------------

    def flat(self) -> tuple[Atom, ...]:
        """All atoms in the value's order, joined where they lie one behind the other."""
        return coalesced([atom for axis in self.axes for atom in axis])

    def order(self) -> tuple[tuple[int, int], ...]:
        """(axis, size) of the atoms from the largest stride to the smallest: how its elements lie in memory."""
        found = sorted(((a.stride, number, a.size) for number, axis in enumerate(self.axes) for a in axis), reverse=True)
        joined: list[tuple[int, int]] = []
        for _, axis, size in found:
            if joined and joined[-1][0] == axis:
                joined[-1] = (axis, joined[-1][1] * size)
            else:
                joined.append((axis, size))
        return tuple(joined)

    def matrix(self, rows: int, columns: int) -> tuple[int, int] | None:
        """(column, width) where it is all rows of the base's (rows, columns), and columns from one on; else None."""
        atoms = coalesced(sorted((atom for axis in self.axes for atom in axis), key=lambda a: -a.stride))
        if any(atom.stride == 0 for atom in atoms):
            return None
        if rows == 1 or self.offset >= columns:
            whole = len(atoms) <= 1 and (not atoms or atoms[0].stride == 1) and rows == 1
            return (self.offset, math.prod(a.size for a in atoms)) if whole else None
        if atoms == (Atom(rows * columns, 1),) and not self.offset:
            return 0, columns
        width = atoms[-1].size if atoms and atoms[-1].stride == 1 and len(atoms) > 1 else 1
        outer = atoms[:-1] if width > 1 or (atoms and atoms[-1].stride == 1 and len(atoms) > 1) else atoms
        if outer == (Atom(rows, columns),) and self.offset + width <= columns:
            return self.offset, width
        return None


def _cut(axis: Axis, start: int, step: int, size: int) -> tuple[Axis, int] | None:
    """A slice of an axis, and how far into it; of the slowest of several atoms where it takes whole ones."""
    if not axis:
        return ((), 0) if size == 1 else None
    inner = math.prod(atom.size for atom in axis[1:])
    first = axis[0]
    if inner == 1:
        return ((Atom(size, first.stride * step),) if size > 1 else (), start * first.stride)
    if step == 1 and start % inner == 0 and size % inner == 0:
        head = (Atom(size // inner, first.stride),) if size > inner else ()
        return (*head, *axis[1:]), start // inner * first.stride
    if start // inner == (start + (size - 1) * step) // inner and step > 0:
        cut = _cut(axis[1:], start % inner, step, size)
        return None if cut is None else (cut[0], cut[1] + start // inner * first.stride)
    return None


def coalesced(atoms: Sequence[Atom]) -> tuple[Atom, ...]:
    """Neighbouring atoms as one where the slower one's stride is the other's reach."""
    found: list[Atom] = []
    for atom in atoms:
        if found and found[-1].stride == atom.size * atom.stride:
            found[-1] = Atom(found[-1].size * atom.size, atom.stride)
        elif atom.size != 1:
            found.append(atom)
    return tuple(found)


def laid(array: Array, view: View, rows: int, columns: int) -> Array:
    """A constant of ``view``'s shape as the matrix (rows, columns) in which the view's elements lie."""
    atoms = [(atom.stride, place) for place, atom in enumerate(a for axis in view.axes for a in axis)]
    sizes = [atom.size for axis in view.axes for atom in axis]
    return np.transpose(array.reshape(sizes), [place for _, place in sorted(atoms, reverse=True)]).reshape(rows, columns)


def indexed(graph: FloatGraph, node: Node, view: View) -> View | None:
    """The view of a Reshape's, Transpose's, Slice's or Expand's result; None where it cannot be one."""
    shape = graph.shape(node.outputs[0])
    match node.op:
        case "Transpose":
            return view.transposed(node.attributes["perm"])
        case "Slice" if "starts" in node.attributes:
            return view.sliced(node.attributes["starts"], node.attributes["steps"], shape)
        case "Expand":
            return view.expanded(shape)
        case "Reshape":
            return view.reshaped(shape)
    return None
