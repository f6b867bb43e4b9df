import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_facts import GEMM

from presilicon.errors import InputError
from presilicon.validate import facts
from presilicon.validate.score import Predictions, held_back, score, spearman, table_report


def predictions(
    measured: list[float], predicted: list[float], held: list[bool], reason: list[str] | None = None
) -> Predictions:
    rows = len(measured)
    text = GEMM.split("\n")[0] + "\n" + "".join(f"h100,bf16,{i + 1},32,64,{v}\n" for i, v in enumerate(measured))
    return Predictions(
        table=facts.parse(text, "t.csv"),
        chip=np.array(["h100"] * rows, dtype=object),
        label=np.array(["bf16"] * rows, dtype=object),
        measured=np.array(measured),
        predicted=np.array(predicted),
        reason=np.array(reason or [""] * rows, dtype=object),
        held=np.array(held),
    )


def test_errors_are_fractions_of_the_measured_value():
    found = score(np.array([1.0, 2.0, 4.0]), np.array([1.1, 2.0, 2.0]))
    assert found.median_ape == pytest.approx(0.1)
    assert found.bias == 0.0
    assert found.rows == 3
    assert score(np.array([]), np.array([])).median_ape is None


def test_only_rows_kept_out_of_every_fit_are_scored():
    report = table_report(predictions([1, 1, 1, 1], [1.5, 1.5, 1.1, 1.1], [False, False, True, True]))
    assert report.median_ape == pytest.approx(0.1)
    assert report.scored_on == "held-back rows"
    assert report.by_chip[0]["fitted_median_ape"] == pytest.approx(0.5)
    alone = table_report(predictions([1, 1], [1.5, 1.5], [False, False]))
    assert (alone.scored, alone.scored_on, alone.median_ape) == (2, "all rows", 0.5)


def test_skipped_rows_carry_their_reason_and_count_for_nothing():
    report = table_report(predictions([1, 1, 1], [np.nan, 1.1, np.nan], [True] * 3, ["no chip", "", "no chip"]))
    assert report.skipped == [{"reason": "no chip", "rows": 2}]
    assert report.scored == 1
    assert report.to_json()["median_ape"] == pytest.approx(0.1)


def test_nothing_predicted_is_blank_and_not_nan():
    report = table_report(predictions([1.0], [np.nan], [True], ["no chip"]))
    assert report.median_ape is None
    assert report.by_chip == []


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_prediction_is_finite_and_above_zero(bad: float):
    with pytest.raises(InputError, match="not a finite number above zero"):
        predictions([1.0], [bad], [True])


def test_the_split_is_the_same_everywhere():
    keys = [f"{n},{k}" for n in range(64, 2048, 64) for k in range(64, 2048, 64)]
    held = held_back(keys)
    assert 0.45 < held.mean() < 0.55
    assert held_back(keys[::-1]).tolist() == held[::-1].tolist()
    assert held_back(["32,32", "65536,16384"]).tolist() == [True, True]  # crc32 of the text, odd


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.floats(1e-6, 1e3), min_size=3, max_size=30, unique=True))
def test_ranks_do_not_care_about_scale(values: list[float]):
    array = np.array(values)
    assert spearman(array, array * 3) == pytest.approx(1.0)
    assert spearman(array, -array) == pytest.approx(-1.0)


def test_ranks_of_too_few_or_equal_values_are_blank():
    assert spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])) is None
