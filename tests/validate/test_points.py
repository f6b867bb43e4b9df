"""Single published measurements: within their bars or the estimate's intervals, with nothing fitted to them."""

import csv
import io
import json
import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from presilicon import chip, frontend
from presilicon.dtypes import FP16, Formats
from presilicon.estimate.machine import machine
from presilicon.frontend.language import LanguageModel
from presilicon.validate import points
from presilicon.validate.page import markdown
from presilicon.validate.report import validate

DATA = tomllib.loads((resources.files("presilicon") / "data" / "published" / "points.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found() -> dict[str, points.Point]:
    return {point.name: point for point in points.points()}


def gpt3() -> LanguageModel:
    model = frontend.load("gpt3-175b")
    assert isinstance(model, LanguageModel)
    return model


@pytest.mark.parametrize(("phase", "measured_s", "bar"), [("prefill", 66.75e-3, 0.05), ("decode", 1.111e-3, 0.10)])
def test_a_layer_of_gpt3_on_four_a100(found: dict[str, points.Point], phase: str, measured_s: float, bar: float):
    (point,) = [p for p in found.values() if p.name.startswith(f"GPT-3 175B layer, {phase}")]
    assert point.measured == measured_s
    assert abs(point.predicted / measured_s - 1) <= bar
    assert point.inside
    assert point.modern is not None
    assert point.modern < point.predicted


def test_a_layer_is_one_of_the_model_without_embedding_and_head():
    model = gpt3()
    graph = points.layer(model, "decode", 8, 3072, Formats(FP16, FP16, FP16), 4)
    assert all(op.count in (0, 1) for op in graph.operators)
    width = 12288
    matmuls = 8 * 12 * width**2 / 4
    attention = 8 * 2 * 3072 * width / 4
    assert float(np.max(graph.macs)) == pytest.approx(matmuls + attention, rel=0.001)
    assert sum(op.kind == "collective" for op in graph.operators) == 2


def test_the_framework_costs_what_its_calls_cost():
    found, eager = machine(chip.load("nvidia-a100-sxm-80gb")), DATA["eager"]
    graph = points.layer(gpt3(), "decode", 8, 3072, Formats(FP16, FP16, FP16), 4)
    free = {key: 0.0 if key.endswith("_s") else value for key, value in eager.items()}
    added = points.eager_s(found, graph, eager) - points.eager_s(found, graph, free)
    assert added == pytest.approx(8 * 21e-6 + 12e-6 + 2 * 45e-6 + 45e-6)
    slow = replace(found, constants=replace(found.constants, launch_s=1.0))
    assert points.eager_s(slow, graph, eager) == pytest.approx(points.eager_s(found, graph, eager))


def test_what_is_said_of_rngd_lies_inside_the_intervals(found: dict[str, points.Point]):
    own = [point for point in found.values() if point.chip == "furiosaai-rngd"]
    assert [point.measured for point in own] == [5.8e-3, 3935.25, 957.05]
    for point in own:
        assert point.low < point.predicted < point.high
        assert point.inside, point
        assert abs(point.error) < 0.5  # the intervals of a family never validated are wide: they are not leaned on
    assert own[0].card_w is not None
    assert own[0].card_w < 180.0


def test_a_card_that_draws_more_than_was_said_is_outside(found: dict[str, points.Point]):
    (point,) = [p for p in found.values() if p.card_power_below_w]
    assert not replace(point, card_w=181.0).inside
    assert not replace(point, low=point.measured * 1.01).inside


def test_points_without_a_number_of_cards_are_left_out(found: dict[str, points.Point]):
    predicted = points.predict(tuple(found.values()))
    assert predicted.skipped == [{"reason": "the number of cards is not stated", "rows": 2}]
    assert all("70B" in entry["model"] for entry in DATA["point"] if "left_out" in entry)


def test_every_point_has_a_source():
    assert DATA["eager"]["source"]
    assert all(entry["source"] for entry in DATA["point"])


def test_points_stand_in_the_report_of_everything(tmp_path: Path):
    report = validate(facts=tmp_path, leave_one_out=False)
    assert [table.table for table in report.tables] == ["mlperf", "points"]
    entry = json.loads(json.dumps(report.to_json(), allow_nan=False))["tables"][1]
    assert entry["rows"] == 9
    assert entry["scored"] == 7
    assert {"name", "measured", "predicted", "error", "inside", "low", "high"} <= set(entry["points"][0])
    page = markdown(report)
    assert "## points" in page
    assert "| GPT-3 175B layer, prefill of 2048 tokens |" in page
    rows = [row for row in csv.DictReader(io.StringIO(report.rows_csv())) if row["table"] == "points"]
    assert len(rows) == 9
