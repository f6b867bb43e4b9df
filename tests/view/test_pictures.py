"""Every picture: well formed, named, sourced, small, to scale, and with its figures beside it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from presilicon import view
from presilicon.chip import load
from presilicon.errors import InputError
from presilicon.estimate import report_of
from presilicon.frontend import load as load_model
from presilicon.trace import Span
from presilicon.view.floorplan import Rect, place
from presilicon.view.picture import Picture
from presilicon.view.scale import Axis
from presilicon.view.serving import QUEUE
from presilicon.view.wafer import dies_on

SVG = "{http://www.w3.org/2000/svg}"
DIE = view.Die(
    name="die", cores=12, core_parts={"array": 40.0, "vector unit": 8.0, "scratchpad": 12.0}, shared_memory_mm2=20.0,
    memory_interface_mm2=18.0, memory_interfaces=5, links_mm2=6.0, other_mm2=30.0,
)  # fmt: skip
REPORT = report_of(load_model("llama-3.1-8b"), load("h100"), batch=8)
SPANS = [Span("matmul", 10 * i, 10 * i + 7, "matmul", {"pc": i}) for i in range(20)] + [Span("load", 0, 50, "load")]


def designs(number: int) -> list[view.Design]:
    chance = np.random.default_rng(3)
    drawn = chance.lognormal(size=(number, 2)).tolist()
    return [view.Design(f"d{i}", {"usd": usd, "j": joule}) for i, (usd, joule) in enumerate(drawn)]


COMPARED = [view.Comparison(f"chip-{i % 9}", 10.0 + i, 11.0 + i, f"row {i}") for i in range(30)]
TIMES = [0.01 * i for i in range(1, 202)]
BARS = [view.Bar("wafer", "9", "12", 1.8, 2.4), view.Bar("yield", "0.5", "0.7", 2.1, math.inf)]


PICTURES: dict[str, Callable[[float], Picture]] = {
    "roofline": lambda width: view.roofline(REPORT, load("h100"), width=width),
    "stacks": lambda width: view.stacks(
        "Energy", [view.Stack("a", REPORT.energy_parts), view.Stack("b", {"x": 1.0})], "J", summary="s", source="s", width=width
    ),
    "floorplan": lambda width: view.floorplan(DIE, source="s", width=width),
    "pareto": lambda width: view.pareto(
        designs(40), view.Measure("usd", "cost", "USD"), view.Measure("j", "energy", "J"), source="s", chosen="d3", width=width
    ),
    "published": lambda width: view.published("Rows", COMPARED, "/s", source="s", width=width),
    "distribution": lambda width: view.distribution("TTFT", TIMES, source="s", limit_s=1.0, width=width),
    "over_time": lambda width: view.over_time(
        "Requests", {"start_s": [0.0, 1.0, 2.0], "running": [0.0, 3.0, 1.0], "waiting": [0.0, 0.0, 2.0]}, QUEUE, source="s",
        width=width,
    ),
    "throughput_latency": lambda width: view.throughput_latency(
        {"a": [view.Point(1, 10.0, 0.01), view.Point(8, 60.0, 0.02)]}, source="s", limit_s=0.05, width=width
    ),
    "tornado": lambda width: view.tornado("Cost", 2.0, BARS, "USD", source="s", width=width),
    "wafer": lambda width: view.wafer_map(
        view.Wafer(die_mm2=100.0, die_yield=0.7, counted=600.0, node="n7", aspect=1.2), source="s", width=width
    ),
    "timeline": lambda width: view.timeline({"simulator": SPANS, "RTL": SPANS}, source="s", width=width),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("width", [320.0, 720.0])
def test_a_picture_says_what_it_is(name: str, width: float) -> None:
    picture = PICTURES[name](width)
    root = ElementTree.fromstring(picture.svg())
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == picture.title
    assert root.find(f"{SVG}desc").text == picture.summary
    assert picture.source
    assert picture.rows
    assert all(len(row) == len(picture.columns) for row in picture.rows)
    assert len(picture.svg()) < 100_000
    assert "style=" not in picture.svg()  # the page forbids it
    assert not re.search(r"nan|inf[^o]", re.sub(r"<(title|desc|text)[^>]*>[^<]*</\1>|aria-label=\"[^\"]*\"", "", picture.svg()))
    figure = picture.figure()
    assert "Source: " in figure
    assert "<table>" in figure


@pytest.mark.parametrize("name", PICTURES)
def test_nothing_is_drawn_outside(name: str) -> None:
    picture = PICTURES[name](640.0)
    root = ElementTree.fromstring(picture.svg())
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(k, "0")) for k in ("x", "y", "width", "height"))
        assert -1 <= x <= x + w <= picture.width + 1
        assert -1 <= y <= y + h <= picture.height + 1
    for words in root.iter(f"{SVG}text"):
        assert -1 <= float(words.get("x", "0")) <= picture.width + 1
        assert -1 <= float(words.get("y", "0")) <= picture.height + 1


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_a_file_of_its_own_has_its_style(theme: str) -> None:
    text = PICTURES["roofline"](640.0).file(theme)
    ElementTree.fromstring(text.encode())
    assert "Source: estimate of" in text
    assert ("prefers-color-scheme" in text) == (theme == "auto")
    assert "http://www.w3.org/2000/svg" in text
    assert len(re.findall("https?:", text)) == 1


def overlap(a: Rect, b: Rect) -> float:
    wide = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    high = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    return max(wide, 0.0) * max(high, 0.0)


areas = st.floats(0.1, 300.0)
maybe = st.just(0.0) | areas


@given(
    cores=st.integers(1, 40), array=areas, vector=maybe, shared=maybe, interface=maybe, interfaces=st.integers(1, 9),
    links=maybe, other=maybe, aspect=st.floats(0.5, 2.0),
)  # fmt: skip
def test_floorplans_are_to_scale(
    cores: int, array: float, vector: float, shared: float, interface: float, interfaces: int, links: float, other: float,
    aspect: float,
) -> None:  # fmt: skip
    die = view.Die(
        name="d", cores=cores, core_parts={"array": array, "vector unit": vector}, shared_memory_mm2=shared,
        memory_interface_mm2=interface, memory_interfaces=interfaces, links_mm2=links, other_mm2=other, aspect=aspect,
    )  # fmt: skip
    rects = place(die)
    total: dict[str, float] = {}
    for r in rects:
        total[r.kind] = total.get(r.kind, 0.0) + r.w * r.h
    wanted = {"array": array, "vector unit": vector, "shared memory": shared, "memory interface": interface, "links": links,
              "other": other}  # fmt: skip
    for kind, area in wanted.items():
        assert total.get(kind, 0.0) == pytest.approx(area, rel=1e-9, abs=1e-9)
    assert sum(r.kind == "array" for r in rects) == cores
    assert max(r.x + r.w for r in rects) <= math.sqrt(die.area_mm2 * aspect) * (1 + 1e-9)
    if cores <= 12:
        for a, b in itertools.combinations(rects, 2):
            assert overlap(a, b) < 1e-6 * die.area_mm2


def test_a_floorplan_needs_an_area() -> None:
    with pytest.raises(InputError, match="areas above zero"):
        view.Die(name="d", cores=0, core_parts={"array": 1.0})


@given(st.floats(4.0, 800.0), st.floats(0.5, 2.0))
def test_dies_lie_on_the_wafer_apart(area: float, aspect: float) -> None:
    wafer = view.Wafer(die_mm2=area, die_yield=0.5, counted=1.0, node="n7", aspect=aspect)
    centres = dies_on(wafer)
    wide, high = math.sqrt(area * aspect), math.sqrt(area / aspect)
    assert all(math.hypot(abs(x) + wide / 2, abs(y) + high / 2) <= 147.0 + 1e-6 for x, y in centres)
    assert len({(round(x / (wide + 0.1), 3), round(y / (high + 0.1), 3)) for x, y in centres}) == len(centres)
    assert len(centres) * area < math.pi * 147.0**2


def test_wafer_shows_the_yield() -> None:
    picture = PICTURES["wafer"](400.0)
    paths = re.findall(r'<path d="([^"]*)" class="(f\d)', picture.svg())
    good, bad = (len(re.findall("M", d)) for d, _ in paths)
    assert bad == round(0.3 * (good + bad))


@given(st.floats(1e-12, 1e12), st.floats(1.01, 1e9), st.booleans())
def test_ticks_lie_on_the_axis(low: float, factor: float, log: bool) -> None:
    axis = Axis("x", "s", low, low * factor, log=log)
    places = [value for value, _ in axis.ticks()]
    assert all(low * (1 - 1e-9) <= value <= low * factor * (1 + 1e-9) for value in places)
    assert places == sorted(places)
    assert len(places) <= 14
    shares = [axis.share(value) for value in places]
    assert shares == sorted(shares)


def test_an_axis_that_cannot_be() -> None:
    for low, high, log in ((1.0, 1.0, False), (0.0, 1.0, True), (math.nan, 1.0, False)):
        with pytest.raises(InputError):
            Axis("x", "", low, high, log=log)


def test_roofline_has_every_operator_below_its_roof() -> None:
    picture = PICTURES["roofline"](640.0)
    counted = [line for line in REPORT.operators if line.operations > 0 and line.latency_s > 0]
    assert len(picture.rows) == len(counted)
    for line in counted:
        if line.multiplied:
            assert line.operations / line.latency_s <= load("h100").peak_ops_per_s[line.multiplied] * 1.001
        assert line.memory_bytes / line.latency_s <= load("h100").memory.bytes_per_s * 1.001


def test_timeline_counts_busy_cycles() -> None:
    rows = {(level, unit): (n, busy) for level, unit, n, busy, _ in PICTURES["timeline"](900.0).rows}
    assert rows["simulator", "matmul"] == ("20", "140")
    assert rows["RTL", "load"] == ("1", "50")
    cut = view.timeline({"simulator": SPANS}, source="s", window=(0, 35))
    assert next(r for r in cut.rows if r[1] == "matmul")[2:4] == ("4", "26")
    with pytest.raises(InputError, match="no spans"):
        view.timeline({"simulator": []}, source="s")


def test_stairs_hold_the_front() -> None:
    every = designs(200)
    front = [
        d for d in every
        if not any(e.figures["usd"] < d.figures["usd"] and e.figures["j"] < d.figures["j"] for e in every)
    ]  # fmt: skip
    usd, joule = view.Measure("usd", "cost", "USD"), view.Measure("j", "energy", "J")
    picture = view.pareto(front, usd, joule, source="s", others=every, chosen=front[0].name, evaluated=200)
    assert f"{len(front)} designs of 200 evaluated" in picture.summary
    assert len(picture.rows) == len(front)
