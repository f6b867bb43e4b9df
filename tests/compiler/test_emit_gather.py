"""Look-ups in a table on arrays of every size, for more rows than the index memory holds."""

import numpy as np
import pytest
from emission_checks import SIZES, agrees

from presilicon.compiler.steps import Gather, Lowered, Tensor


@pytest.mark.parametrize("name", ["4x4", "12x20", "32x32"])
@pytest.mark.parametrize(("rows", "columns", "dtype"), [(1, 30, "float32"), (300, 12, "int8"), (37, 20, "float32")])
def test_rows_of_a_constant_table(name, rows, columns, dtype):
    rng = np.random.default_rng(rows)
    table = rng.normal(0, 40, (8, columns)).astype(dtype)
    lowered = Lowered(
        name="gather",
        tensors={"index": Tensor("index", rows, 1, "int32"), "y": Tensor("y", rows, columns, dtype)},
        constants={"table": table},
        steps=(Gather(name="gather", table="table", index="index", out="y"),),
        inputs=("index",),
        outputs=("y",),
    )
    agrees(lowered, SIZES[name], strands=1 + (rows > 100))
