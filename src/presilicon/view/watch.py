"""What a terminal shows while a search or a replay runs: redrawn in place, on stderr, and gone at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from presilicon.units import percent, si

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FRONT_ROWS = 10
REDRAWN_PER_S = 8


class Design(Protocol):
    """One design of a front."""

    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> Mapping[str, Any]: ...
    @property
    def figures(self) -> Mapping[str, float]: ...


class Search(Protocol):
    """How far a search is."""

    @property
    def phase(self) -> str: ...
    @property
    def evaluated(self) -> int: ...
    @property
    def feasible(self) -> int: ...
    @property
    def budget(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def best(self) -> Design | None: ...
    @property
    def front(self) -> Sequence[Design]: ...


class Replay(Protocol):
    """How far a replay is: requests, virtual time, what runs and waits now, latencies so far."""

    @property
    def ended(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def virtual_s(self) -> float: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def kv_usage(self) -> float: ...
    @property
    def ttft_s(self) -> tuple[float, float]: ...
    @property
    def tpot_s(self) -> tuple[float, float]: ...


@contextmanager
def watch_search(enabled: bool, console: Console | None = None) -> Iterator[Callable[[Search], None]]:
    """Yields what is to be called with each snapshot; draws nothing where it is not enabled or stderr is no terminal."""
    with _live(enabled, console) as draw:
        yield lambda now: draw(search_view(now)) if draw else None


@contextmanager
def watch_replay(enabled: bool, console: Console | None = None) -> Iterator[Callable[[Replay], None]]:
    """Yields what is to be called with each snapshot; draws nothing where it is not enabled or stderr is no terminal."""
    with _live(enabled, console) as draw:
        yield lambda now: draw(replay_view(now)) if draw else None


@contextmanager
def _live(enabled: bool, console: Console | None) -> Iterator[Callable[[RenderableType], None] | None]:
    if not enabled or (console is None and not sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console as Terminal
    from rich.live import Live

    used = console or Terminal(stderr=True)
    with Live(console=used, refresh_per_second=REDRAWN_PER_S, transient=True) as live:
        yield lambda shown: live.update(shown)


def search_view(now: Search) -> RenderableType:
    """A bar of designs evaluated, and the front by cost with the best marked."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    rate = now.evaluated / max(now.seconds, 1e-9)
    told = Text(
        f"{now.phase:8.8}  {now.evaluated:,} of {now.budget:,} designs, {now.feasible:,} within all limits, {rate:,.0f}/s"
    )
    rows = [
        (
            "*" if one == now.best else "",
            f"{one.name}, batch {one.fields.get('batch', 1):g}",
            *(_figure(one.figures.get(key), unit) for key, unit in _COLUMNS.values()),
        )
        for one in sorted(now.front, key=lambda d: d.figures.get("usd_per_million_tokens", 0.0))[:FRONT_ROWS]
    ]
    table = _table(("", "design", *_COLUMNS), rows)
    return Group(told, ProgressBar(total=now.budget, completed=now.evaluated, width=96), Text(), table)


_COLUMNS = {
    "USD/M": ("usd_per_million_tokens", ""), "J/token": ("energy_j_per_token", "J"),
    "s/token": ("time_per_output_token_s", "s"),
    "W": ("tdp_w", ""), "mm2": ("area_mm2", ""), "USD": ("unit_usd", ""),
}  # fmt: skip


def _figure(value: float | None, unit: str) -> str:
    return "-" if value is None else si(value, unit) if unit else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def replay_view(now: Replay) -> RenderableType:
    """A bar of requests that ended, what runs and waits, and latencies so far."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    told = Text(f"{now.ended:,} of {now.total:,} requests at {si(now.virtual_s, 's', 4)} of virtual time")
    state = Text(f"{now.running:,} being answered, {now.waiting:,} waiting, KV cache {percent(now.kv_usage)} in use")
    latencies = (("first token", now.ttft_s), ("then a token", now.tpot_s))
    rows = [(name, si(half, "s"), si(late, "s")) for name, (half, late) in latencies]
    bar = ProgressBar(total=now.total, completed=now.ended, width=96)
    return Group(told, bar, state, Text(), _table(("so far", "median", "p99"), rows))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    words = 1 if columns[0] else 2
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < words else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
