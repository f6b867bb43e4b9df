import numpy as np
import pytest
from test_facts import ATTENTION, COLLECTIVE

from presilicon.chip import load
from presilicon.validate import attention, collective, facts, gemm, power, refit
from presilicon.validate.bench import Library
from presilicon.validate.fit import error, fit_constants

CHIP = load("nvidia-h100-sxm-80gb")
POWERS = [2**i for i in range(5, 15, 2)]


def gemm_table(
    chip: str = CHIP.name, dtypes: tuple[str, ...] = ("bf16", "fp8"), latency: list[float] | None = None
) -> facts.Table:
    shapes = [(d, m, n, k) for d in dtypes for m in (1, 16, 128, 1024, 8192) for n in POWERS for k in POWERS]
    took = latency or [1e-5] * len(shapes)
    rows = "".join(f"{chip},{d},{m},{n},{k},{t!r}\n" for (d, m, n, k), t in zip(shapes, took, strict=True))
    return facts.parse("chip,dtype,m,n,k,latency_s\n" + rows, "mine.csv")


def measured_by(constants: dict[str, float], dtypes: tuple[str, ...] = ("bf16", "fp8")) -> facts.Table:
    """Shapes as a chip with these constants would take them."""
    found = gemm.predict(gemm_table(dtypes=dtypes), Library(constants=constants))
    return gemm_table(dtypes=dtypes, latency=found.predicted.tolist())


def test_a_fit_finds_the_constants_that_made_the_data():
    x = np.linspace(0.1, 10, 200)
    data = 0.3 + 2.5 * x
    fit = fit_constants(lambda c: error(c["a"] + c["b"] * x, data), {"a": 1.0, "b": 1.0})
    assert fit.constants == pytest.approx({"a": 0.3, "b": 2.5}, rel=0.02)
    again = fit_constants(lambda c: error(c["a"] + c["b"] * x, data), {"a": 1.0, "b": 1.0})
    assert again == fit


def test_shares_stay_shares():
    fit = fit_constants(lambda c: error(np.array([c["matmul_share"]]), np.array([1.2])), {"matmul_share": 0.8})
    assert fit.constants["matmul_share"] == 1.0


def test_gemm_constants_are_found_again_and_those_without_evidence_left_alone():
    truth = {"launch_s": 3e-6, "memory_share": 0.7, "matmul_share": 0.8}
    table = measured_by(truth, ("bf16",))
    found = refit.fit_bench(gemm.BENCH, table, Library(), refit.starting())
    assert found is not None
    assert found.fit.loss < 0.02
    assert found.fit.constants["launch_s"] == pytest.approx(3e-6, rel=0.25)
    assert found.fit.constants["memory_share"] == pytest.approx(0.7, rel=0.1)
    assert "quantize_s" not in found.fit.constants


def attention_table(latency: list[float] | None = None) -> facts.Table:
    shapes = [
        (phase, batch, 1 if phase == "decode" else kv, kv, heads, kv_heads, dim)
        for phase in ("prefill", "decode")
        for batch in (1, 16, 128)
        for kv in (64, 1024, 16384)
        for heads, kv_heads in ((8, 8), (32, 8), (64, 4), (16, 1), (32, 32))
        for dim in (64, 128)
    ]
    took = latency or [1e-5] * len(shapes)
    rows = [
        f"{CHIP.name},{p},{b},{q},{kv},{h},{hk},{d},0,bf16,bf16,{t!r}"
        for (p, b, q, kv, h, hk, d), t in zip(shapes, took, strict=True)
    ]
    return facts.parse("\n".join([ATTENTION.split("\n")[0], *rows]), "mine.csv")


def test_attention_meets_rows_that_its_formula_made():
    truth = {"attention_start_s": 9e-6, "attention_share": 0.5, "cache_elements_per_cycle": 20.0, "attention_fill_s": 4e-6}
    made = attention_table(attention.predict(attention_table(), Library(constants=truth)).predicted.tolist())
    found = refit.fit_bench(attention.BENCH, made, Library(), refit.starting())
    assert found is not None
    after = attention.predict(made, Library(constants=found.fit.constants))
    assert np.median(after.ape[after.held]) < 0.03


def test_equal_heads_are_held_back_together():
    found = attention.predict(attention_table())
    groups = {}
    for index, own in enumerate(found.held.tolist()):
        row = found.table.row(index)
        key = tuple(row[name] for name in ("num_heads", "num_key_value_heads", "head_dim", "window_size"))
        assert groups.setdefault(key, own) == own
    assert 0 < found.held.sum() < len(found.held)


def test_rows_that_cannot_be_predicted_say_why():
    text = gemm_table().path
    unknown = gemm.predict(gemm_table("no-such-chip"))
    assert unknown.skipped == [{"reason": "the chip is not in the library", "rows": len(unknown.table)}]
    assert text == "mine.csv"
    old = gemm.predict(gemm_table("nvidia-a100-sxm-80gb"))
    assert old.skipped == [{"reason": "the chip does not multiply fp8", "rows": len(old.table) // 2}]
    narrow = gemm.predict(gemm_table("nvidia-a100-sxm-80gb", ("int4",)))  # weights alone may be narrower
    assert not narrow.skipped


def test_a_chip_with_blanks_is_skipped_with_what_is_missing():
    blank = "etched-sohu"
    found = gemm.predict(gemm_table(blank, ("bf16",)))
    assert found.skipped
    assert not found.used.any()


def test_every_bench_gives_finite_positive_predictions():
    tables = {
        gemm: gemm_table(),
        attention: facts.parse(ATTENTION, "t.csv"),
        collective: facts.parse(COLLECTIVE, "t.csv"),
        power: facts.parse("chip,dtype,m,n,k,latency_s,power_w\nh200,bf16,4096,4096,4096,3e-4,600\n", "t.csv"),
    }
    for room, table in tables.items():
        found = room.predict(table)
        assert found.used.all()
        assert np.all(found.predicted > 0)
        assert found.roofline is not None
        assert np.all(found.roofline > 0)


def test_a_feature_that_does_not_help_is_absent():
    sizes = [512 * 4**i for i in range(11)]
    shape = "chip,collective,chips,message_bytes,latency_s\n"
    rows = [(kind, n, size) for kind in ("all_reduce", "all_gather") for n in (4, 8) for size in sizes]
    blank = facts.parse(shape + "".join(f"{CHIP.name},{kind},{n},{size},1e-5\n" for kind, n, size in rows), "t.csv")
    for share in (0.0, 0.6):
        took = collective.predict(blank, Library(constants={"in_switch_share": share})).predicted
        text = "".join(f"{CHIP.name},{kind},{n},{size},{t!r}\n" for (kind, n, size), t in zip(rows, took.tolist(), strict=True))
        found = refit.fit_bench(collective.BENCH, facts.parse(shape + text, "t.csv"), Library(), refit.starting())
        assert found is not None
        assert (found.fit.constants["in_switch_share"] > 0) == (share > 0)


def test_fitted_values_are_written_over_the_old_ones_and_comments_stay():
    text = 'like = "generic"\n[constants]\nlaunch_s = 1e-6 # a note\nstep_s = 2.0\n\n[source]\nlaunch_s = "x"\n'
    new = refit.with_values(text, {"launch_s": 2.5e-6, "wave_s": 3.0})
    assert new == (
        'like = "generic"\n[constants]\nlaunch_s = 2.5e-06 # a note\nstep_s = 2.0\nwave_s = 3.0\n\n[source]\nlaunch_s = "x"\n'
    )
