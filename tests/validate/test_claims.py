"""The three claims: the ratios of the published rows, as MLPerf's rules were read for them by hand, and what follows."""

import json
import math
import tomllib
from importlib import resources

import numpy as np
import pytest

from presilicon.validate.claims import HOLDS, LESS, NOT_COMPARED, Claim, Comparison, claims, page
from presilicon.validate.facts import shipped


@pytest.fixture(scope="module")
def found() -> dict[str, Claim]:
    return {claim.name: claim for claim in claims()}


def rows(claim: Claim, part: int = 0, **wanted: str) -> list[Comparison]:
    return [o for o in claim.parts[part].comparisons if all(str(getattr(o, k)).startswith(v) for k, v in wanted.items())]


# Benchmark, scenario, other chip, beginning of its system: ratio as printed where the claims were first checked.
ATOM = [
    ("bert-99", "SingleStream", "NVIDIA T4", "", 1.42),
    ("bert-99", "SingleStream", "NVIDIA A2", "", 1.98),
    ("bert-99", "SingleStream", "NVIDIA L4", "", 0.59),
    ("bert-99", "SingleStream", "NVIDIA Jetson AGX Orin", "", 1.31),
    ("bert-99", "SingleStream", "Qualcomm Cloud AI 100 PCIe/HHHL Standard", "chai", 1.75),
    ("bert-99", "SingleStream", "Qualcomm Cloud AI 100 PCIe/HHHL Standard", "e920d_q4", 1.76),
    ("bert-99", "SingleStream", "Qualcomm Cloud AI 100 PCIe/HHHL Pro", "se350_q1", 1.84),
    ("bert-99", "SingleStream", "Qualcomm Cloud AI 100 DM.2e", "heimdall", 3.04),
    ("resnet50", "SingleStream", "NVIDIA T4", "", 3.43),
    ("resnet50", "SingleStream", "NVIDIA A2", "", 2.98),
    ("resnet50", "SingleStream", "NVIDIA A30", "", 2.13),
    ("resnet50", "SingleStream", "Qualcomm Cloud AI 100 PCIe/HHHL Standard", "e920d_q4", 1.41),
    ("resnet50", "MultiStream", "NVIDIA T4", "", 1.64),
    ("resnet50", "MultiStream", "NVIDIA L4", "", 0.63),
    ("resnet50", "MultiStream", "NVIDIA A30", "", 0.62),
    ("resnet50", "MultiStream", "Qualcomm Cloud AI 100 PCIe/HHHL Pro", "se350_q1", 0.73),
    ("resnet50", "MultiStream", "Qualcomm Cloud AI 100 PCIe/HHHL Standard", "e920d_q4", 0.43),
    ("resnet50", "Offline", "NVIDIA T4", "", 1.18),
    ("resnet50", "Offline", "NVIDIA A2", "", 2.3),
    ("resnet50", "Offline", "Qualcomm Cloud AI 100 PCIe/HHHL Pro", "", 0.29),
    ("bert-99", "Offline", "NVIDIA T4", "", 0.55),
    ("bert-99", "Offline", "NVIDIA A2", "", 0.93),
]
WARBOY = [
    ("resnet50", "SingleStream", "Lenovo", 1.10),
    ("ssd-mobilenet", "SingleStream", "Lenovo", 1.11),
    ("ssd-mobilenet", "SingleStream", "Alibaba", 1.21),
    ("ssd-resnet34", "SingleStream", "Lenovo", 0.61),
    ("resnet50", "Offline", "Lenovo", 0.45),
    ("ssd-mobilenet", "Offline", "Lenovo", 0.56),
    ("ssd-mobilenet", "Offline", "Alibaba", 0.49),
    ("ssd-resnet34", "Offline", "Lenovo", 0.55),
]
X220 = [
    ("SAPEON X220-compact", "Server", "Dell", 2.34),
    ("SAPEON X220-compact", "Offline", "Dell", 2.19),
    ("SAPEON X220-enterprise", "Server", "Dell", 4.57),
    ("SAPEON X220-enterprise", "Offline", "Dell", 4.24),
    ("SAPEON X220-compact", "Server", "ASUSTeK", 2.01),
    ("SAPEON X220-compact", "Offline", "ASUSTeK", 2.06),
]


@pytest.mark.parametrize(("benchmark", "scenario", "other", "system", "ratio"), ATOM)
def test_atom(found: dict[str, Claim], benchmark: str, scenario: str, other: str, system: str, ratio: float):
    (one,) = [o for o in rows(found["ATOM"], benchmark=benchmark, scenario=scenario, system=system) if o.other == other]
    assert one.published == pytest.approx(ratio, abs=0.00501)


@pytest.mark.parametrize(("benchmark", "scenario", "submitter", "ratio"), WARBOY)
def test_warboy(found: dict[str, Claim], benchmark: str, scenario: str, submitter: str, ratio: float):
    (one,) = rows(found["Warboy"], benchmark=benchmark, scenario=scenario, submitter=submitter)
    assert one.published == pytest.approx(ratio, abs=0.00501)


@pytest.mark.parametrize(("subject", "scenario", "submitter", "ratio"), X220)
def test_x220(found: dict[str, Claim], subject: str, scenario: str, submitter: str, ratio: float):
    (one,) = rows(found["X220"], subject=subject, scenario=scenario, submitter=submitter)
    assert one.published == pytest.approx(ratio, abs=0.00501)


def test_verdicts_follow_from_the_rows(found: dict[str, Claim]):
    atom, warboy, x220 = (found[name] for name in ("ATOM", "Warboy", "X220"))
    assert atom.parts[0].verdict.startswith("holds only for bert-99 SingleStream (not against NVIDIA L4, NVIDIA A30")
    assert "resnet50 SingleStream," in atom.parts[0].verdict
    assert "bert-99 Offline" not in atom.parts[0].verdict
    assert warboy.parts[0].verdict == "holds only for resnet50 SingleStream, ssd-mobilenet SingleStream"
    assert "X220-compact resnet50 Server (not against NVIDIA A2 of ASUSTeK)" in x220.parts[0].verdict
    assert "no power was submitted" in x220.parts[1].verdict
    assert not x220.parts[1].comparisons
    (orin,) = rows(atom, benchmark="bert-99", scenario="SingleStream", other="NVIDIA Jetson")
    assert orin.verdict == LESS
    assert all(o.verdict == NOT_COMPARED for o in rows(atom, scenario="MultiStream") if o.cards > 1)


def test_what_is_not_public_is_not_predicted(found: dict[str, Claim]):
    assert all(o.predicted is None and "not public" in o.reason for o in rows(found["X220"]))
    for name in ("ATOM", "Warboy"):
        for one in rows(found[name]):
            assert one.predicted is not None
            assert math.isfinite(one.predicted)
            assert one.predicted > 0


def test_predictions_mostly_say_what_the_results_say(found: dict[str, Claim]):
    judged = [o for name in ("ATOM", "Warboy") for o in rows(found[name]) if o.verdict != NOT_COMPARED]
    ahead = [(o.published > 1) == (o.predicted is not None and o.predicted > 1) for o in judged]
    assert np.mean(ahead) > 0.85
    assert any(o.predicted_verdict == HOLDS for o in judged)


def test_no_result_is_typed_into_the_claims():
    text = (resources.files("presilicon") / "data" / "published" / "claims.toml").read_text(encoding="utf-8")
    table = shipped("mlperf")
    numbers = {f"{value:g}" for value in table["value"].tolist() if value != int(value)}
    assert not numbers & set(text.replace(",", " ").split())
    assert {claim["round"] for claim in tomllib.loads(text)["claim"]} <= set(table["round"].tolist())


def test_page_and_json(found: dict[str, Claim]):
    text = page(tuple(found.values()))
    assert text.count("\n## ") == 3
    assert "| 1.42 |" in text
    assert "nan" not in text
    assert json.loads(json.dumps([claim.to_json() for claim in found.values()], allow_nan=False))[2]["parts"][0]["comparisons"]
