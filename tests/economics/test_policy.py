"""Export classes at and beside their thresholds, and of chips whose class is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon import chip
from presilicon.economics.policy import NOTE, classify, paragraph, policy_class, rules, tpp
from presilicon.errors import ChipError

STRICT = ["3A090.a.1", "3A090.a.2", "3A090.b.1", "3A090.b.2", ""]


def below(value: float) -> float:
    return math.nextafter(value, 0.0)


@pytest.mark.parametrize(
    ("performance", "density", "name"),
    [
        (4800.0, 0.1, "3A090.a.1"),
        (below(4800.0), 5.92, "3A090.a.2"),
        (1600.0, 5.92, "3A090.a.2"),
        (below(1600.0), 50.0, ""),
        (below(4800.0), below(5.92), "3A090.b.1"),
        (2400.0, 1.6, "3A090.b.1"),
        (2400.0, below(1.6), ""),
        (below(2400.0), 3.2, "3A090.b.2"),
        (1600.0, below(5.92), "3A090.b.2"),
        (1600.0, below(3.2), ""),
    ],
)
def test_thresholds(performance, density, name) -> None:
    assert paragraph(performance, density) == name


@given(st.floats(1.0, 1e5), st.floats(0.0, 100.0), st.floats(1.0, 3.0))
def test_more_performance_or_density_is_never_laxer(performance, density, factor) -> None:
    def rank(*figures: float) -> int:
        # Which .b a chip falls under does not matter: the licence is the same.
        name = paragraph(*figures)
        return STRICT.index("3A090.b.1" if name.startswith("3A090.b") else name)

    assert rank(performance * factor, density) <= rank(performance, density)
    assert rank(performance, density * factor) <= rank(performance, density)


def test_performance_is_operations_times_bits() -> None:
    assert tpp({"bf16": 989.4e12, "fp8": 1979e12}) == pytest.approx(15832)
    assert tpp({"int8": 600e12}) == tpp({"bf16": 300e12}) == pytest.approx(4800)  # the rule's own example


@pytest.mark.parametrize(
    ("name", "eccn"),
    [
        ("nvidia-h100-sxm-80gb", "3A090.a.1"),
        ("nvidia-a100-sxm-80gb", "3A090.a.1"),
        ("nvidia-l40s", "3A090.a.1"),
        ("nvidia-l4", "3A090.a.2"),
        ("nvidia-t4", ""),
        ("nvidia-a2", ""),
        ("furiosaai-warboy", ""),
        ("core-16x16", ""),
    ],
)
def test_chips_of_the_library(name, eccn) -> None:
    found = policy_class(chip.load(name))
    assert found.eccn == eccn
    assert found.certain
    assert ("not controlled" in found.licence) == (eccn == "")


def test_an_area_that_is_not_published_leaves_the_class_open() -> None:
    open_one = classify(2000.0)
    assert (open_one.eccn, open_one.certain, open_one.density) == ("3A090.a.2", False, None)
    assert "not published" in open_one.notes[0]
    assert classify(1000.0).certain
    assert classify(9000.0).certain
    assert classify(2000.0, (1000.0, 300.0)).eccn == "3A090.a.2"
    assert classify(2000.0, (1000.0,)).eccn == ""


def test_planar_dies_have_no_density() -> None:
    figures = 'name = "old"\nprocess_node = "28 nm"\ndie_area_mm2 = 300\n[peak_ops_per_s]\nint8 = 250e12\n'
    planar = chip.parse('schema = "presilicon/chip/1"\n' + figures)
    assert policy_class(planar).density == 0.0
    assert policy_class(planar).eccn == ""


def test_consumer_chips_know_one_threshold() -> None:
    card = chip.load("nvidia-rtx-4090")
    assert policy_class(card, datacenter=False).eccn == rules()["consumer"]["name"]
    assert "NAC" in policy_class(card, datacenter=False).licence
    assert policy_class(chip.load("nvidia-l4"), datacenter=False).eccn == ""


def test_the_review_of_2026_is_told_where_it_applies() -> None:
    assert any("2026-01-15" in note for note in policy_class(chip.load("nvidia-h200-sxm-141gb")).notes)
    assert policy_class(chip.load("nvidia-b200-sxm-180gb")).notes == ()


def test_of_a_chip_to_be_made_it_says_what_its_foundry_must_presume() -> None:
    assert any("30 billion transistors" in note for note in policy_class(chip.load("core-16x16")).notes)
    assert policy_class(chip.load("nvidia-t4")).notes == ()


def test_it_says_what_it_is() -> None:
    told = policy_class(chip.load("nvidia-h100-sxm-80gb")).to_json()
    assert told["advice"] == NOTE
    assert "88 FR 73458" in told["rule"]
    assert told["as_of"]


def test_a_chip_without_rates_has_no_class() -> None:
    with pytest.raises(ChipError, match="no rate of it is published"):
        policy_class(chip.load("etched-sohu"))
