import tomllib
from dataclasses import fields, replace
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon import chip
from presilicon.chip import Chip, Link, Memory, Price, Source
from presilicon.dtypes import FORMATS
from presilicon.errors import ChipError

# Chips that must be there, as users call them.
WANTED = (
    *("rebellions-atom", "rebellions-rebel100", "furiosaai-warboy", "furiosaai-rngd", "sapeon-x220-compact"),
    *("sapeon-x220-enterprise", "sapeon-x330", "microsoft-maia-100", "microsoft-maia-200", "google-tpu-v3", "google-tpu-v4"),
    *("google-tpu-v5e", "google-tpu-v6", "google-tpu-v7", "qualcomm-cloud-ai-100-standard", "qualcomm-cloud-ai-100-pro"),
    *("qualcomm-cloud-ai-100-ultra", "qualcomm-cloud-ai-100-dm-2", "qualcomm-cloud-ai-100-dm-2e", "nvidia-t4", "nvidia-a2"),
    *("nvidia-a10", "nvidia-a30", "nvidia-a40", "nvidia-a100-pcie-40gb", "nvidia-a100-pcie-80gb", "nvidia-a100-sxm-80gb"),
    *("nvidia-l4", "nvidia-l40", "nvidia-l40s", "nvidia-rtx-4090", "nvidia-rtx-pro-6000-blackwell", "nvidia-h100-pcie-80gb"),
    *("nvidia-h100-nvl-94gb", "nvidia-h100-sxm-80gb", "nvidia-h200-sxm-141gb", "nvidia-h200-nvl-141gb", "nvidia-gh200-96gb"),
    *("nvidia-gh200-144gb", "nvidia-b200-sxm-180gb", "nvidia-b300-sxm-270gb", "nvidia-gb200", "nvidia-gb300"),
    *("nvidia-jetson-agx-xavier", "nvidia-jetson-agx-orin", "nvidia-orin-nx", "amd-instinct-mi210", "amd-instinct-mi300x"),
    *("amd-instinct-mi325x", "amd-instinct-mi350x", "amd-instinct-mi355x", "habana-gaudi2", "intel-gaudi3", "habana-goya"),
    *("alibaba-hanguang-800", "biren-br104-300w-pcie", "untetherai-speedai240-preview", "groq-lpu-v1", "aws-inferentia"),
    *("tenstorrent-wormhole-n150d", "tenstorrent-blackhole-p150a", "hailo-8"),
)
H100 = chip.load("nvidia-h100-sxm-80gb")
TEXT = H100.to_toml()


@pytest.mark.parametrize("name", WANTED)
def test_a_chip_that_must_be_there_is(name):
    assert chip.load(name).name == name


@pytest.mark.parametrize("c", chip.library(), ids=lambda c: c.name)
def test_a_chip_of_the_library_is_whole(c):
    path = resources.files("presilicon") / "data" / "chips" / f"{c.name}.toml"
    assert chip.parse(path.read_text(encoding="utf-8")) == c
    assert chip.parse(c.to_toml()) == c
    assert c.title
    assert c.vendor
    assert c.sources
    # What stands in the file has a source; the number of dies is 1 where nothing is said.
    stated = tomllib.loads(path.read_text(encoding="utf-8"))
    for figure in c.figures():
        if figure == "year" or (figure == "dies" and "dies" not in stated):
            continue
        assert c.source_of(figure) is not None, figure
    for source in c.sources:
        assert source.date, source.document


@pytest.mark.parametrize("c", chip.library(), ids=lambda c: c.name)
def test_figures_of_the_library_are_in_si_units(c):
    ranges = {
        "clock_hz": (1e8, 5e9), "cores": (1, 1e4), "memory.bytes_per_s": (1e9, 1e15), "memory.bytes": (1e6, 1e13),
        "tdp_w": (0.5, 3000), "idle_w": (0.1, 500), "die_area_mm2": (10, 5e4), "year": (2015, 2028), "transistors": (1e8, 1e13),
        "link.bytes_per_s": (1e9, 1e14), "host.bytes_per_s": (1e8, 1e13), "shared_sram_bytes": (1e4, 1e11),
        "scratchpad_bytes": (1e3, 1e9), "vector_ops_per_s": (1e9, 1e16), "price.purchase_usd": (10, 1e6),
        "price.rent_usd_per_hour": (0.05, 100),
    }  # fmt: skip
    for name, value in c.figures().items():
        low, high = ranges.get(name, (1e9, 1e17) if name.startswith("peak_ops_per_s.") else (1, 1e6))
        assert low <= value <= high, name
    # A narrower format is never slower.
    rates = [c.peak_ops_per_s[n] for n in ("fp32", "tf32", "bf16", "fp8", "nvfp4") if n in c.peak_ops_per_s]
    assert rates == sorted(rates)


def test_names_and_aliases_are_unique():
    names = list(chip.names())
    aliases = [a for c in chip.library() for a in c.aliases]
    assert len({*names, *aliases}) == len(names) + len(aliases)
    assert all(n == n.lower() and " " not in n for n in names + aliases)
    for c in chip.library():
        for alias in c.aliases:
            assert chip.load(alias.upper()) is chip.load(c.name)


def test_most_of_the_library_can_be_estimated_and_the_rest_says_what_is_missing():
    missing = {c.name: c.missing() for c in chip.library() if c.missing()}
    assert len(missing) < 0.25 * len(chip.names())
    for name, blanks in missing.items():
        c = chip.load(name)
        for blank in blanks:
            with pytest.raises(ChipError, match="is not published") as caught:
                c.need(blank if "." in blank else f"{blank}.int8")
            assert caught.value.where == name


numbers = st.floats(1e7, 1e10)


@given(
    st.builds(
        Chip,
        name=st.text("abc-123", min_size=1),
        title=st.text(),
        year=st.none() | st.integers(1990, 2100),
        aliases=st.lists(st.text()).map(tuple),
        cores=st.none() | st.integers(1, 10**6),
        clock_hz=st.none() | numbers,
        memory=st.none() | st.builds(Memory, st.text(), st.none() | numbers, st.none() | numbers),
        link=st.none() | st.builds(Link, st.text(), st.none() | numbers, st.none() | st.integers(1, 10**4)),
        price=st.builds(Price, st.none() | numbers, st.none() | numbers),
        peak_ops_per_s=st.dictionaries(st.sampled_from(sorted(FORMATS)), numbers),
        constants=st.dictionaries(st.sampled_from(["launch_s", "wave_s"]), numbers),
        sources=st.lists(st.builds(Source, st.lists(st.text()).map(tuple), st.text(min_size=1), st.text(), st.text())).map(
            tuple
        ),
    )
)
@settings(max_examples=100, deadline=None)
def test_any_chip_prints_as_text_that_reads_back(c):
    assert chip.parse(c.to_toml()) == c


def edited(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


BAD = {
    "unknown field": (edited('vendor = "NVIDIA"', 'vendo = "NVIDIA"'), "unknown field 'vendo'", "vendor"),
    "unknown part": (edited("bytes_per_s = 3350", "bandwidth = 3350"), "unknown field 'bandwidth'", "one of"),
    "a unit": (edited("clock_hz = 1830000000.0", 'clock_hz = "1.83 GHz"'), "clock_hz is '1.83 GHz'", "plain number"),
    "zero": (edited("clock_hz = 1830000000.0", "clock_hz = 0"), "clock_hz is 0", "above zero"),
    "negative": (edited("tdp_w = 700.0", "tdp_w = -700.0"), "tdp_w is -700", "above zero"),
    "nan": (edited("tdp_w = 700.0", "tdp_w = nan"), "tdp_w is nan", "above zero"),
    "inf": (edited("tdp_w = 700.0", "tdp_w = inf"), "tdp_w is inf", "finite"),
    "half a core": (edited("cores = 132", "cores = 132.5"), "cores is 132.5", "whole number"),
    "true": (edited("cores = 132", "cores = true"), "cores is True", "plain number"),
    "no format": (edited("bf16 = ", "bf17 = "), "no format 'bf17'", "bf16"),
    "zero rate": (edited("bf16 = 989400000000000.0", "bf16 = 0.0"), "peak_ops_per_s.bf16 is 0", "above zero"),
    "a rate as text": (edited("bf16 = 989400000000000.0", 'bf16 = "fast"'), "peak_ops_per_s.bf16 is 'fast'", "plain number"),
    "table as number": (edited("[memory]", "[[memory]]"), "memory is", "a table"),
    "aliases as text": (edited('aliases = [', 'aliases = "h100"\nx = ['), "", ""),
    "schema": (edited("chip/1", "chip/2"), "schema is 'presilicon/chip/2'", "begins with"),
    "no schema": ("name = 'x'", "schema is None", "begins with"),
    "no TOML": (TEXT[: len(TEXT) // 2] + "\n= 3", "not a TOML file", ""),
    "no name": ('schema = "presilicon/chip/1"\ncores = 3', "a field is missing", ""),
    "empty name": ('schema = "presilicon/chip/1"\nname = ""', "no name", ""),
    "idle": (edited("tdp_w = 700.0", "tdp_w = 700.0\nidle_w = 700"), "idle_w 700 is not below tdp_w 700", ""),
    "confidence": (edited('confidence = "high"', 'confidence = "sure"'), "confidence is 'sure'", "high, medium or low"),
    "document": (edited("document = ", "documents = "), "unknown field 'documents'", "document"),
    "sources": ('schema = "presilicon/chip/1"\nname = "x"\nsource = 3', "source is not a list", "[[source]]"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_one_sentence(case):
    text, message, hint = BAD[case]
    with pytest.raises(ChipError) as caught:
        chip.parse(text, "my.toml")
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.where
    assert "\n" not in str(caught.value)


def test_a_file_is_loaded_by_its_path_and_a_chip_by_its_name(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(replace(H100, name="mine").to_toml(), encoding="utf-8")
    assert chip.load(str(path)) == replace(H100, name="mine")
    with pytest.raises(ChipError, match="cannot be read"):
        chip.load(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ChipError, match="cannot be read"):
        chip.load(str(tmp_path / "bytes.toml"))
    with pytest.raises(ChipError, match="unknown chip 'h1000'") as caught:
        chip.load("h1000")
    assert "h100" in caught.value.hint
    with pytest.raises(ChipError) as caught:
        chip.load("qqqqqqqqqqqqqqq")
    assert "presilicon chips" in caught.value.hint


def test_figures_by_path():
    assert H100.get("memory.bytes_per_s") == 3.35e12
    assert H100.get("peak_ops_per_s.nvfp4") is None
    assert H100.get("no.such.path") is None
    assert H100.need("peak_ops_per_s.fp8") == 1.979e15
    assert H100.macs_per_cycle("bf16") == pytest.approx(132 * 2048, rel=1e-3)
    assert H100.on_chip_bytes == 132 * 262144 + 52428800
    with pytest.raises(ChipError, match=r"peak_ops_per_s.mxfp4 is not published") as caught:
        H100.need("peak_ops_per_s.mxfp4")
    assert "chip TOML of your own" in caught.value.hint
    assert "memory.bytes" in H100.figures()
    assert H100.source_of("no_such_field") is None


def test_a_chip_cannot_be_changed():
    with pytest.raises(TypeError):
        H100.peak_ops_per_s["bf16"] = 1.0  # type: ignore[index]
    assert all(f.name in Chip.__slots__ for f in fields(Chip))


@pytest.mark.parametrize(
    ("line", "field"),
    [("clock_hz = 2.04", "clock_hz"), ("cores = 1e12", "cores"), ("[memory]\nbytes_per_s = 3350", "memory.bytes_per_s")],
)
def test_a_figure_in_the_wrong_unit_is_refused(line: str, field: str) -> None:
    with pytest.raises(ChipError, match=f"{field} is .*outside"):
        chip.parse(f'schema = "presilicon/chip/1"\nname = "mine"\n{line}\n', "mine.toml")
