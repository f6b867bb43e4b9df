"""Being here makes the helpers beside it (``fuzz``) importable; tests marked ``facts`` run where the measurements are."""

import pytest

from presilicon.errors import FactsError
from presilicon.validate import facts


def _have_facts() -> bool:
    try:
        return facts.folder() is not None
    except FactsError:
        return False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _have_facts():
        terminalreporter.write_line(
            f"The measurements were not found ({facts.VARIABLE} names their folder): tests that need them were left out."
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _have_facts():
        return
    left_out = [item for item in items if item.get_closest_marker("facts")]
    items[:] = [item for item in items if not item.get_closest_marker("facts")]
    config.hook.pytest_deselected(items=left_out)
