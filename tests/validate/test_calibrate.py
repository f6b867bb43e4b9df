from pathlib import Path

import pytest
from test_fit import CHIP, gemm_table, measured_by

from presilicon.chip import parse
from presilicon.errors import FactsError
from presilicon.validate import facts
from presilicon.validate.calibrate import calibrate


def write(path: Path, table: facts.Table) -> Path:
    names = list(table.columns)
    rows = [",".join(str(table[name][i]) for name in names) for i in range(len(table))]
    path.write_text("\n".join([",".join(names), *rows]) + "\n")
    return path


def test_a_chip_takes_on_the_constants_of_its_measurements(tmp_path: Path):
    path = write(tmp_path / "mine.csv", measured_by({"launch_s": 6e-6, "memory_share": 0.6}))
    found = calibrate(CHIP.name, path)
    assert found.after < 0.03 < found.before
    assert found.scored_on == "held-back rows"
    assert found.chip.constants["launch_s"] == pytest.approx(6e-6, rel=0.2)
    assert parse(found.chip.to_toml()) == found.chip
    assert set(found.to_json()) >= {"before", "after", "constants"}


def test_few_rows_are_all_fitted_and_that_is_said(tmp_path: Path):
    table = measured_by({"launch_s": 6e-6}, ("bf16",))
    found = calibrate(CHIP, write(tmp_path / "few.csv", table.take(table["m"] == 1)))
    assert found.scored_on == "all rows"
    assert found.after <= found.before


def test_what_cannot_be_fitted_is_refused(tmp_path: Path):
    table = gemm_table()
    with pytest.raises(FactsError, match="a fit needs 8"):
        calibrate(CHIP, write(tmp_path / "a.csv", table.take(table["m"] * table["n"] * table["k"] < 4000)))
    with pytest.raises(FactsError, match="no row is of"):
        calibrate("nvidia-l4", write(tmp_path / "b.csv", table))
    (tmp_path / "c.csv").write_text(
        "round,accelerator,total_accelerators,benchmark,scenario,unit,value,inferred,power_tuned\nv5,x,1,b,s,u,1,0,0\n"
    )
    with pytest.raises(FactsError, match="mlperf table fits no constants"):
        calibrate(CHIP, tmp_path / "c.csv")
