"""What every operator has: a name, repeats, a way to be shared, and counts of work, parameters and bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from presilicon.errors import ModelError

Size = int | float | NDArray[Any]
Split = Literal["none", "output", "input", "heads", "experts"]


def _law(condition: bool, name: str, text: str, hint: str = "") -> None:
    if not condition:
        raise ModelError(text, where=name, hint=hint)


# Fields that may hold a size, by class: asked for at every construction.
_SIZE_NAMES: dict[type, tuple[str, ...]] = {}


def _size_names(kind: type) -> tuple[str, ...]:
    if kind not in _SIZE_NAMES:
        _SIZE_NAMES[kind] = tuple(f.name for f in fields(kind) if f.name not in ("name", "split"))
    return _SIZE_NAMES[kind]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operator:
    """One operation on tensors, done ``count`` times in the graph.

    ``split`` says along which of its axes several chips may share it: its outputs, its inputs (a sum over the chips
    follows), its heads, its experts, or none (each chip does all of it).
    """

    kind: ClassVar[str] = "operator"
    name: str
    count: int = 1
    split: Split = "none"

    def __post_init__(self) -> None:
        for name in _size_names(type(self)):
            value = getattr(self, name)
            if isinstance(value, int | float | np.number):
                lowest, finite = float(value), 0.0 <= value < float("inf")
            elif isinstance(value, np.ndarray):
                lowest = float(value.min()) if value.size else 0.0
                finite = lowest >= 0.0 and bool(np.all(np.isfinite(value)))
            else:
                continue
            _law(bool(finite), self.name, f"{name} is {lowest:g}, not a size")

    @property
    def macs(self) -> Size:
        """Multiply-accumulates of one repeat."""
        return 0

    @property
    def vector_ops(self) -> Size:
        """Scalar operations outside the matrix units, one repeat."""
        return 0

    @property
    def weight_elements(self) -> Size:
        """Elements of stored parameters one repeat uses."""
        return 0

    @property
    def weight_bytes(self) -> Size:
        """Bytes of the parameters one repeat holds."""
        return 0

    @property
    def input_bytes(self) -> Size:
        """Unique bytes read besides the parameters, one repeat."""
        return 0

    @property
    def output_bytes(self) -> Size:
        """Unique bytes written, one repeat."""
        return 0

    @property
    def touched_weight_bytes(self) -> Size:
        """Unique bytes of parameters that one repeat reads."""
        return self.weight_bytes

    @property
    def unique_bytes(self) -> Size:
        """Bytes that must move if nothing stays on the chip between operators."""
        return self.touched_weight_bytes + self.input_bytes + self.output_bytes

    @property
    def flops(self) -> Size:
        """Operations of one repeat: 2 a MAC, and those outside the matrix units."""
        return 2 * self.macs + self.vector_ops
