import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import errors
from presilicon.errors import CheckError, ChipError, InputError, PresiliconError, nearest

EVERY = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, PresiliconError)]


def test_the_tree_in_the_docstring_is_the_tree():
    text = errors.__doc__ or ""
    assert len(EVERY) == 11
    for error in EVERY:
        assert error.__name__ in text
        assert error.__doc__


@pytest.mark.parametrize("error", EVERY)
def test_what_the_user_gave_exits_2_and_a_failed_check_1(error):
    assert error("x").exit_code == (1 if issubclass(error, CheckError) else 2)
    assert issubclass(error, InputError) or error in (PresiliconError, CheckError)


def test_the_text_says_where_what_and_what_would_be_right():
    assert str(ChipError("zero clock")) == "zero clock"
    assert str(ChipError("zero clock", where="a.toml", hint="above zero")) == "a.toml: zero clock (above zero)"


def test_the_outermost_place_comes_first():
    inner = ChipError("zero clock", where="clock_hz", hint="above zero")
    outer = inner.at("a.toml").at("library")
    assert type(outer) is ChipError
    assert (outer.message, outer.where, outer.hint) == ("zero clock", "library: a.toml: clock_hz", "above zero")
    assert ChipError("x").at("here").where == "here"


def test_near_names_are_offered_and_far_ones_are_not():
    known = ["nvidia-h100-sxm-80gb", "nvidia-l4", "rebellions-atom"]
    assert "rebellions-atom" in nearest("Rebelions-Atom", known)
    assert "nvidia-h100-sxm-80gb" in nearest("h100", known)
    assert nearest("zzzzzzzz", known) == ""
    assert nearest("x", []) == ""


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=10), max_size=10))
def test_any_name_gets_a_hint_of_known_names_or_none(name, known):
    hint = nearest(name, known)
    assert hint == "" or any(k in hint for k in known)
    assert hint.count(" or ") <= 2 + sum(k.count(" or ") for k in known)
