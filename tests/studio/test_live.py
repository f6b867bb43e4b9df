"""Sliders to figures, without a page: the same figures as the command line's, laws, limits, and what follows along."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import chip as chips
from presilicon import design
from presilicon.cli import main
from presilicon.errors import PresiliconError
from presilicon.studio import blank, live
from presilicon.studio.asked import Asked, library_chip, report_for
from presilicon.studio.making import making
from presilicon.studio.variant import controls, varied


def answered(**state: object) -> dict[str, object]:
    return live.answer(Asked.of(state), library_chip)


@pytest.mark.parametrize(
    "state",
    [
        {"batch": 4, "input_tokens": 512, "output_tokens": 64},
        {"model": "llama-3.1-70b", "chips": 4, "weights": "fp8", "batch": 16},
        {"model": "resnet50", "chip": "l4", "weights": "int8", "batch": 8},
        {"changes": {"cores": 96, "clock_hz": 1.5e9, "memory.bytes": 40e9, "tdp_w": 450}},
        {"chip": "blank", "changes": {"cores": 32}, "choices": {"node": "n7"}},
        {"model": "resnet50", "chip": "core-16x16", "weights": "int8", "activations": "int8", "kv_cache": "int8",
         "changes": {"array_rows": 32, "array_cols": 32}},
    ],
)  # fmt: skip
def test_figures_are_those_of_the_command_line(state: dict[str, object], tmp_path, capsys) -> None:
    """The chip of a state written as TOML and read by `estimate` gives the same figures, bit for bit."""
    asked = Asked.of(state)
    report, one = report_for(asked, library_chip)
    path = tmp_path / "chip.toml"
    path.write_text(one.to_toml())
    from presilicon.studio.chip_report import command

    words = command(asked, report).replace("chip.toml", str(path)).split()
    assert main([*words[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    mine = answered(**state)["report"]
    for key in ("latency_s", "throughput_per_s", "energy_j", "power_w", "memory_bytes", "parallelism", "formats"):
        assert told[key] == mine[key], key


ESTIMATED = [chip.name for chip in chips.library() if not chip.missing()]


@pytest.mark.parametrize("name", ESTIMATED)
def test_a_slider_that_stands_where_it_was_changes_nothing(name: str) -> None:
    chip = chips.load(name)
    assert varied(chip, {control.key: control.value for control in controls(chip)}) is chip
    assert all(control.low <= control.value <= control.high for control in controls(chip))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_change_is_a_chip_or_a_sentence(data: st.DataObject) -> None:
    chip = chips.load(data.draw(st.sampled_from(["h100", "l4", "core-16x16", "groq", "mi300x", "furiosaai-rngd"])))
    known = controls(chip)
    changes = {}
    for control in data.draw(st.lists(st.sampled_from(known), max_size=4, unique_by=lambda c: c.key)):
        stops = st.sampled_from(control.stops) if control.stops else st.floats(control.low, control.high)
        changes[control.key] = data.draw(stops)
    try:
        one = varied(chip, changes)
    except PresiliconError as error:
        assert error.message  # noqa: PT017 - any refusal is a sentence
        return
    assert chips.parse(one.to_toml()).figures() == one.figures()


def test_what_follows_is_changed_along() -> None:
    h100 = chips.load("h100")
    twice = varied(h100, {"cores": 264.0})
    assert twice.peak_ops_per_s["bf16"] == pytest.approx(2 * h100.peak_ops_per_s["bf16"])
    assert twice.vector_ops_per_s == pytest.approx(2 * h100.vector_ops_per_s)
    assert twice.price.purchase_usd is None
    assert twice.die_area_mm2 is None
    assert "cores 264" in twice.note
    assert varied(h100, {"clock_hz": 0.915e9}).peak_ops_per_s["fp8"] == pytest.approx(h100.peak_ops_per_s["fp8"] / 2)


def test_a_change_begins_at_the_published_area() -> None:
    h100 = chips.load("h100")
    assert making(h100, h100).area_mm2 == pytest.approx(814.0)
    one_more = making(h100, varied(h100, {"cores": 133.0})).area_mm2
    assert 814.0 < one_more < 825.0
    assert making(h100, varied(h100, {"link.bytes_per_s": 200e9})).area_mm2 < 814.0


def test_a_blank_chip_is_the_search_s_own() -> None:
    asked = Asked.of({"chip": "blank", "changes": {"cores": 32}, "choices": {"memory": "HBM2E"}})
    _, one = report_for(asked, library_chip)
    assert one == design.chip_of(blank.START | {"cores": 32.0, "memory": "HBM2E"}, name="design")
    for changes, choices, told in (
        ({"cores": 304.0, "array": 128.0}, {}, "reticle"),
        ({"stacks": 16.0, "cores": 1.0}, {}, "edge"),
        ({"horns": 2.0}, {}, "no slider moves"),
        ({}, {"node": "n1"}, "node is 'n1'"),
    ):
        refused = answered(chip="blank", changes=changes, choices=choices)["refused"]
        assert told in refused["message"]


def test_limits_are_told_in_sentences() -> None:
    limits = {"max_power_w": 100, "ttft_s": 1e-3, "tpot_s": 1e-3, "max_area_mm2": 100, "max_unit_usd": 100}
    broken = answered(limits=limits)["broken"]
    assert len(broken) == 5
    assert "area of the die is 814 mm2, above the limit of 100 mm2" in broken
    assert not answered(limits={"max_power_w": 700})["broken"]
    assert "no limit is called" in answered(limits={"max_beauty": 1})["refused"]["message"]


def test_comparison_keeps_going_where_one_is_refused() -> None:
    found = live.compared(
        [{"chip": "h100"}, {"chip": "h100", "changes": {"memory.bytes": 10e9}}, {"chip": "h200"}], 640.0, library_chip
    )
    assert ["refused" in column for column in found["columns"]] == [False, True, False]
    assert set(found["pictures"]) == {"curve", "time", "energy", "cost"}
    with pytest.raises(PresiliconError, match="not a list"):
        live.compared([{}] * 5, 640.0, library_chip)


def test_the_curve_ends_where_memory_does() -> None:
    asked = Asked.of({"input_tokens": 8192})
    points = live.curve(asked, library_chip("l4"), library_chip)
    assert [p.batch for p in points] == sorted(p.batch for p in points)
    report, _ = report_for(Asked.of({"chip": "l4", "input_tokens": 8192, "batch": points[-1].batch}), library_chip)
    assert points[-1].tokens_per_s == pytest.approx(report.tokens_per_s, rel=1e-12)
    with pytest.raises(PresiliconError):
        report_for(Asked.of({"chip": "l4", "input_tokens": 8192, "batch": points[-1].batch * 2}), library_chip)
