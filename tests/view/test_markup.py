"""Text is never markup."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon.view.markup import Markup, join, tag

texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=40)
ODD = {*range(32)} - {9, 10, 13} | {0x7F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFFFE, 0xFFFF}


def meant(text: str) -> str:
    """What a reader of XML finds of a text: line ends as one character, what XML cannot hold replaced."""
    shown = "".join("\ufffd" if ord(c) in ODD else c for c in text)
    return shown.replace("\r\n", "\n").replace("\r", "\n")


@given(texts, texts)
def test_text_comes_back_as_it_was(text: str, value: str) -> None:
    found = ElementTree.fromstring(tag("p", text, title=value))
    assert (found.text or "") == meant(text)
    assert found.get("title") == meant(value).replace("\n", " ").replace("\t", " ")
    assert len(found) == 0


@given(st.lists(texts, max_size=4))
def test_only_tags_are_elements(children: list[str]) -> None:
    found = ElementTree.fromstring(tag("g", *children, tag("b", "x")))
    assert [child.tag for child in found] == ["b"]


def test_numbers_and_attributes() -> None:
    assert tag("rect", x=1.0, y=2.345678, class_="a", stroke_width=2, hidden=None, open=True, shut=False) == (
        '<rect x="1" y="2.35" class="a" stroke-width="2" open></rect>'
    )
    assert tag("svg", viewbox="0 0 1 1") == '<svg viewBox="0 0 1 1"></svg>'
    assert join("<", Markup("<b>"), None, 1.5) == "&lt;<b>1.5"
    assert tag("br") == "<br>"


@pytest.mark.parametrize("name", ["<script>", '"><img src=x onerror=alert(1)>', "'", "&lt;", "a\x00b", "\u202e"])
def test_hostile_names(name: str) -> None:
    made = tag("text", name, aria_label=name)
    assert "<script" not in made
    assert "<img" not in made
    assert "\x00" not in made
    assert "\u202e" not in made
