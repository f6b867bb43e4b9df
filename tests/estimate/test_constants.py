from dataclasses import fields, replace

import pytest

from presilicon import chip
from presilicon.errors import ChipError
from presilicon.estimate.constants import Constants, constants_of, families, family

SHARES = [f.name for f in fields(Constants) if f.name.endswith("_share") and f.name != "in_switch_share"]

MAY_BE_ZERO = ("in_switch_share", "operation_j_per_bit", "padding_share", "resident_share", "intake_s", "wave_s")


@pytest.mark.parametrize("name", sorted(families()))
def test_a_familys_constants_are_physical(name):
    found = family(name)
    for f in fields(found):
        value = getattr(found, f.name)
        zero = (
            "in_switch_share",
            "operation_j_per_bit",
            "padding_share",
            "resident_share",
            "intake_s",
            "wave_s",
            "voltage_slope",
            "weight_copies",
            "not_overlapped",
        )
        assert 0 < value < 1e10 or (value == 0 and f.name in zero), f.name
        if f.name.endswith("_s"):
            assert value < 0.1, f.name
    for share in SHARES:
        assert getattr(found, share) <= 1.0, share
    assert found.static_share + found.active_share < 0.9
    assert found.imbalance >= 1
    assert found.serving_slowdown >= 1


@pytest.mark.parametrize("name", sorted(families()))
def test_a_familys_file_names_known_constants_and_what_they_were_fitted_on(name):
    table = families()[name]
    known = {f.name for f in fields(Constants)}
    assert set(table.get("constants", {})) <= known
    assert table.get("like", "generic") in families()


def test_every_familys_constants_are_used_by_a_chip():
    assert set(families()) - {"generic"} <= {c.family for c in chip.library()}


def test_a_family_takes_what_it_lacks_from_the_one_it_is_like():
    for name, table in families().items():
        if "like" in table:
            own, other = family(name), family(table["like"])
            for f in fields(Constants):
                if f.name not in table.get("constants", {}):
                    assert getattr(own, f.name) == getattr(other, f.name)
    assert family("no-such-family") == family("generic")


def test_a_chips_own_constants_come_first():
    c = chip.load("h100")
    own = constants_of(replace(c, constants={"launch_s": 9e-6}))
    assert own == replace(family(c.family), launch_s=9e-6)
    with pytest.raises(ChipError, match="unknown constant 'lunch_s'") as caught:
        constants_of(replace(c, constants={"lunch_s": 9e-6}))
    assert "launch_s" in caught.value.hint
