"""Tables of sourced quantities: every row has a source and lies in its range; look-ups of one and of many agree."""

import numpy as np
import pytest

from presilicon import chip
from presilicon.economics.quantity import Quantity, look_up, memory_kind, node, quantity, table
from presilicon.errors import FactsError, InputError

PER_NODE = (
    "logic_density",
    "sram_cell",
    "defect_density",
    "wafer_price",
    "mask_set",
    "design_cost",
    "operation_energy",
    "static_power",
)


@pytest.mark.parametrize("name", ["nodes", "blocks", "prices"])
def test_every_row_has_a_source_and_a_date(name):
    for item, held in table(name).items():
        for kind, one in held.items():
            assert all((one.source, one.date)), (item, kind)
            assert one.low <= one.value <= one.high, (item, kind)


def test_every_node_has_every_quantity():
    for item, held in table("nodes").items():
        assert tuple(held) == PER_NODE, item


def test_smaller_nodes_are_denser_and_dearer():
    order = ["n28", "n16", "n12", "n7", "n5", "n4", "n3"]
    for kind, rising in (
        ("logic_density", 1),
        ("wafer_price", 1),
        ("mask_set", 1),
        ("sram_cell", -1),
        ("operation_energy", -1),
    ):
        steps = np.diff(look_up("nodes", np.array(order), kind)) * rising
        assert np.all(steps >= -1e-3 * abs(steps).max()), kind


def test_many_are_looked_up_like_one():
    names = np.array([["n7", "n5"], ["n3", "n7"]])
    found = look_up("nodes", names, "wafer_price", "high")
    assert found.shape == names.shape
    assert found.tolist() == [[look_up("nodes", str(n), "wafer_price", "high") for n in row] for row in names]


def test_nodes_of_the_library_are_known_by_their_names():
    named = {one.process_node for one in chip.library() if one.process_node}
    assert len(named) > 10
    assert {node(name) for name in named} <= set(table("nodes"))


@pytest.mark.parametrize(("name", "hint"), [("n6.5", "n6"), ("", "one of n28"), ("TSMC N99", "one of|did you mean")])
def test_an_unknown_node_is_refused(name, hint):
    with pytest.raises(InputError, match="no process node") as caught:
        node(name)
    assert any(part in caught.value.hint for part in hint.split("|"))


def test_an_unknown_quantity_names_those_that_have_it():
    with pytest.raises(InputError, match="no wafer price is known for 'n2'") as caught:
        quantity("nodes", "n2", "wafer_price")
    assert "n28" in caught.value.hint


def test_kinds_of_memory_of_the_library_have_a_price():
    for one in chip.library():
        if one.memory and one.memory.kind:
            assert quantity("prices", memory_kind(one.memory.kind), "memory").value > 0


@pytest.mark.parametrize("value", [0.5, 3.5])
def test_a_value_outside_its_range_is_refused(value):
    with pytest.raises(FactsError, match="lies outside 1 to 3"):
        Quantity(value, 1.0, 3.0, "USD", "a page", "2026", "low")


@pytest.mark.parametrize(("source", "confidence"), [("", "low"), ("a page", "sure")])
def test_a_quantity_needs_a_source_and_a_confidence(source, confidence):
    with pytest.raises(FactsError, match="needs a source"):
        Quantity(1.0, 1.0, 1.0, "USD", source, "2026", confidence)
