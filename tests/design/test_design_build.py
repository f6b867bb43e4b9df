from pathlib import Path

import pytest

from design.problems import narrowed, small, template
from presilicon import design
from presilicon.errors import ChipError

CORE = {
    "array_rows": [8.0], "array_cols": [8.0], "vector_lanes": [8.0], "bus_bytes": [16.0], "weight_rows_per_cycle": [4.0],
    "accumulator_rows": [128.0], "scratchpad_bytes": [131072.0],
}  # fmt: skip


def test_a_template_design_is_written_and_its_copy_agrees_on_reference_and_simulator(tmp_path: Path) -> None:
    problem = narrowed(template(), CORE)
    *_, last = design.search(problem, budget=1000, workers=1)
    built = design.build(problem, last.best, tmp_path, rtl=False)
    assert built.agrees
    assert [one.name for one in built.checks] == ["gemm-32x64x48", "block-16x64"]
    assert all(one.cycles["simulate"] > 0 for one in built.checks)
    assert {"rtl/files.f", *built.files} >= set(built.files)
    assert all((tmp_path / "rtl" / name).exists() for name in built.files)


def test_other_chips_have_no_rtl(tmp_path: Path) -> None:
    problem = small()
    *_, last = design.search(problem, budget=5000, workers=1)
    with pytest.raises(ChipError, match="bf16 and fp8"):
        design.build(problem, last.best, tmp_path)
