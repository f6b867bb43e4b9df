"""Streams and column parameters of a step's vector program in the scratchpad, and its outputs' way to DRAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from presilicon.compiler.emission.site import Site, bound
from presilicon.compiler.steps import Binding, Convolution, Product
from presilicon.template import Core


@dataclass(frozen=True, slots=True)
class Parameters:
    """The column parameters (biases, then columns) of a product's program, block by block of the array's columns."""

    names: tuple[str, ...]
    bindings: tuple[Binding, ...]
    columns: int

    @classmethod
    def of(cls, step: Product | Convolution, columns: int) -> Parameters:
        """Those of a step with so many columns."""
        names = (*step.program.biases, *step.program.columns)
        return cls(names, tuple(bound(step.columns, name) for name in names), columns)

    def block_bytes(self, core: Core) -> int:
        """Bytes of one block of columns."""
        return 4 * core.cols * len(self.names)

    def image(self, site: Site) -> NDArray[np.uint32]:
        """All of them as they lie in DRAM: [block, parameter, column]; zeros where a tensor will say it."""
        cols = site.core.cols
        blocks = ceil(self.columns / cols)
        laid = np.zeros((len(self.names), blocks * cols), np.uint32)
        for i, b in enumerate(self.bindings):
            constant = site.lowered.constants.get(b.tensor)
            if constant is not None and not b.row:
                flat = np.ascontiguousarray(constant).reshape(-1)[b.column : b.column + self.columns]
                laid[i, : self.columns] = flat.view(np.uint32)
        return laid.reshape(len(self.names), blocks, cols).transpose(1, 0, 2)

    def load(self, site: Site, key: str, to: int, first: int, blocks: int) -> None:
        """Loads the parameters of some blocks to a buffer of ``blocks`` times `block_bytes`."""
        from presilicon.isa import load

        size, cols = self.block_bytes(site.core), site.core.cols
        source = site.constants.laid_out(("parameters", key), lambda: self.image(site)) + first * size
        site.add(load(dram=source, spad=to, run=blocks * size))
        for i, b in enumerate(self.bindings):
            if b.tensor in site.lowered.constants and not b.row:
                continue
            for block in range(blocks):
                column = (first + block) * cols
                width = min(cols, self.columns - column)
                at = to + block * size + 4 * cols * i
                site.fetch(b.tensor, at, range(0, 1), b.column + column, width, row=b.row)


def element_bytes(site: Site, bindings: Sequence[Binding]) -> int:
    """Bytes of an element of each of some tensors, together."""
    return sum(site.matrix(b.tensor)[2] for b in bindings)


def dtypes(site: Site, bindings: Sequence[Binding]) -> dict[str, str]:
    """The number format of each bound stream."""
    lowered = site.lowered
    return {
        b.name: lowered.tensors[b.tensor].dtype if b.tensor in lowered.tensors else str(lowered.constants[b.tensor].dtype)
        for b in bindings
    }
