import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.design import Space, space
from presilicon.design._space import Axis, parse
from presilicon.errors import WorkloadError

HEAD = 'schema = "presilicon/space/1"\n'


@pytest.mark.parametrize("name", ["accelerator", "template"])
def test_every_axis_of_the_library_says_where_it_is_from_or_is_a_choice(name: str) -> None:
    found = space(name)
    assert found.size > 10**5
    assert found.template == (name == "template")
    assert {axis.name for axis in found.axes if not axis.source} <= {
        "node", "formats", "memory", "chips", "batch", "array_rows", "array_cols", "vector_lanes", "scratchpad_bytes",
        "accumulator_rows", "bus_bytes", "weight_rows_per_cycle",
    }  # fmt: skip


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 10**6))
def test_numbers_name_designs(shape: list[int], seed: int) -> None:
    names = ("cores", "array", "stacks", "batch", "vector_lanes")
    axes = tuple(Axis(name, tuple(float(v + 1) for v in range(n))) for name, n in zip(names, shape, strict=False))
    drawn = Space("drawn", axes)
    numbers = np.random.default_rng(seed).integers(0, drawn.size, 20)
    designs = drawn.designs(numbers)
    assert np.array_equal(drawn.numbers(designs), numbers)
    assert np.array_equal(np.concatenate(list(drawn.blocks(3))), drawn.designs(np.arange(drawn.size)))


def test_a_file_narrows_a_space() -> None:
    found = parse(HEAD + 'base = "accelerator"\n[values]\nnode = ["n5"]\ncores = [16, 8]\n', "own.toml")
    assert found.axis("cores").values == (8.0, 16.0)
    assert found.axis("node").values == ("n5",)
    assert found.axis("batch") == space("accelerator").axis("batch")
    assert found.digest() != space("accelerator").digest()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[values]\ncores = [1]\n", "schema"),
        (HEAD + 'base = "accelerator"\n[values]\ncoers = [1]\n', "cores"),
        (HEAD + 'base = "accelerator"\n[values]\ncores = [0]\n', "above zero"),
        (HEAD + 'base = "accelerator"\n[values]\ncores = [1.5]\n', "whole numbers"),
        (HEAD + 'base = "accelerator"\n[values]\ncores = []\n', "no values"),
        (HEAD + 'base = "accelerator"\n[values]\ncores = ["8"]\n', "cores"),
        (HEAD + 'base = "accelerator"\n[values]\nnode = [5]\n', "node"),
        (HEAD + 'base = "accelerator"\n[values]\nclock_hz = [1e99]\n', "at most"),
        (HEAD + 'base = "accelerator"\ncores = [1]\n', "cores"),
        (HEAD + "[values]\ncaches = [1]\n", "caches"),
        (HEAD + "[values\n", "TOML"),
    ],
)
def test_a_wrong_file_is_told_by_its_field(text: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said) as told:
        parse(text, "own.toml")
    assert told.value.where == "own.toml"
