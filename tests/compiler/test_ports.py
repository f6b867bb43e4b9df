"""What a model's inputs may be, and the one sentence where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from presilicon.compiler.ports import Port, handed_out, taken
from presilicon.compiler.steps import Gather, Lowered, Tensor
from presilicon.errors import ModelError

LOWERED = Lowered(
    name="ports",
    tensors={
        t.name: t
        for t in (Tensor("ids", 4, 1, "int32"), Tensor("image", 6, 3), Tensor("cache", 8, 2, "int8"), Tensor("y", 4, 5))
    },
    constants={"table": np.zeros((10, 5), np.float32)},
    steps=(Gather(name="gather", table="table", index="ids", out="y"),),
    inputs=("ids", "image"),
    outputs=("y",),
    states=("cache",),
    arguments={"length": 4, "position": 7},
)
PORTS = (
    Port(name="input_ids", dtype="int64", shape=(1, 4), tensor="ids"),
    Port(name="pixels", dtype="float32", shape=(1, 3, 2, 3), tensor="image", axes=(0, 2, 3, 1)),
    Port(name="attention_mask", dtype="int64", shape=(1, 4), role="length", argument="length"),
    Port(name="position_ids", dtype="int64", shape=(1, 4), role="position", argument="position"),
    Port(name="past", dtype="int8", shape=(8, 2), role="state", tensor="cache"),
)


def inputs(**changed: object) -> dict[str, np.ndarray]:
    given = {
        "input_ids": np.array([[3, 1, 4, 1]]),
        "pixels": np.arange(18, dtype=np.float32).reshape(1, 3, 2, 3),
        "attention_mask": np.array([[1, 1, 1, 0]]),
        "position_ids": np.array([[2, 3, 4, 5]]),
    }
    return {name: np.asarray(value) for name, value in {**given, **changed}.items() if value is not None}


def test_taken() -> None:
    tensors, arguments = taken(LOWERED, PORTS, inputs())
    assert arguments == {"length": 3, "position": 2}
    assert tensors["ids"].dtype == np.int32
    assert np.array_equal(tensors["ids"][:, 0], [3, 1, 4, 1])
    # Pixels in rows, channels in columns.
    assert np.array_equal(tensors["image"][0], [0, 6, 12])
    assert "cache" not in tensors


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_ids": None}, "input input_ids is missing"),
        ({"inputs_ids": np.zeros(1)}, "did you mean input_ids"),
        ({"input_ids": np.zeros((1, 4))}, "is of type float64"),
        ({"input_ids": np.zeros((1, 5), int)}, "1 x 5"),
        ({"input_ids": np.full((1, 4), 1 << 40)}, "int32"),
        ({"input_ids": np.array(["a"])}, "is of type <U1"),
        ({"pixels": np.full((1, 3, 2, 3), np.nan, np.float32)}, r"holds nan at \[0, 0, 0, 0\]"),
        ({"pixels": np.full((1, 3, 2, 3), np.inf)}, "holds inf"),
        ({"pixels": np.full((1, 3, 2, 3), 1e300)}, "beyond fp32"),
        ({"pixels": np.zeros((1, 3, 2, 3), int)}, "is of type int64"),
        ({"attention_mask": np.array([[1, 0, 1, 0]])}, "ones, then zeros"),
        ({"attention_mask": np.array([[0, 0, 0, 0]])}, "ones, then zeros"),
        ({"position_ids": np.array([[2, 3, 5, 6]])}, "consecutive"),
        ({"position_ids": np.array([[8, 9, 10, 11]])}, "compiled for 7 at most"),
        ({"past": np.full((8, 2), 300)}, "int8"),
    ],
)
def test_refused(changed: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        taken(LOWERED, PORTS, inputs(**changed))


def test_handed_out() -> None:
    port = Port(name="y", dtype="float32", shape=(1, 5, 2, 2), tensor="y", axes=(0, 2, 3, 1))
    value = np.arange(20, dtype=np.float32).reshape(4, 5)
    out = handed_out(LOWERED, (port, PORTS[-1]), {"y": value})
    assert list(out) == ["y"]
    assert np.array_equal(out["y"][0, :, 0, 1], value[1])
    with pytest.raises(ModelError, match="has tensor"):
        Port(name="p", dtype="int64", shape=(1,), role="length", tensor="y")
