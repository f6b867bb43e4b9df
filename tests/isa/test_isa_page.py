"""The instruction page is made from the definitions, and is the one of today."""

from pathlib import Path

import pytest

from presilicon.isa import DEFINITIONS, LAYOUT, UOPS
from presilicon.isa.layout import ERROR_CODES
from presilicon.isa.page import page
from presilicon.isa.text import _instruction

DOCS = Path(__file__).resolve().parents[2] / "docs" / "isa.md"


def test_the_page_is_current():
    assert DOCS.read_text(encoding="utf-8") == page(), "python -m presilicon.isa.page > docs/isa.md"


@pytest.mark.parametrize("op", LAYOUT)
def test_every_instruction_is_defined_in_words(op: str):
    definition = DEFINITIONS[op]
    assert definition.summary
    assert definition.cycles
    assert all(f"`{f.name}`" in page() for f in definition.fields)
    if op not in ("loop", "end"):
        assert _instruction(definition.example, {"scale": 0}, {}).op == op


def test_every_micro_operation_and_error_is_on_it():
    for name in (*UOPS, *ERROR_CODES.values()):
        assert name in page()


def test_the_rtl_has_the_same_errors():
    engine = pytest.importorskip("presilicon.rtl.engine")
    assert dict(engine.ERROR_CODES) == dict(ERROR_CODES)
