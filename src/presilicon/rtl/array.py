"""The array: columns of int8 dot products with shadow weights (section 7 of the template)."""

from __future__ import annotations

from presilicon.template import Core


def sum_bits(core: Core) -> int:
    """Bits of a column's sum: a product of int8 has 16, each level of the tree adds one."""
    return 16 + core.tree_levels
