"""The emitter orders what the machine does not order by itself."""

import pytest

from levels import core
from presilicon.compiler.emitter import Emitter
from presilicon.isa import Instruction, halt, matmul


def product(acc: int, rows: int, **fields: int) -> Instruction:
    sizes = core("core-4x4")
    return matmul(x=0, w=sizes.bank_bytes, acc=acc, m0=rows, kb=1, tail=4, x_stride0=4, **fields)


@pytest.mark.parametrize(
    ("second", "waits"),
    [
        (product(11, 8, accumulate=1), True),  # its first row is the last that the first one writes
        (product(4, 8, accumulate=1), False),  # the same rows: far enough apart
        (product(11, 8), False),  # overwrites
        (product(11, 8, accumulate=1, bank=1), False),
        (product(12, 8, accumulate=1), False),  # other rows
    ],
)
def test_sums_are_added_to_when_they_are_written(second: Instruction, waits: bool) -> None:
    emitter = Emitter(core("core-4x4"))
    emitter.add(product(4, 8))
    emitter.add(second)
    first, then, _ = emitter.finish(halt())
    assert ("matmul" in then.wait) is ("matmul" in first.signal) is waits
