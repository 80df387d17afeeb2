"""The figures of the kill sweeps, where everybody sees them: in pytest's summary; and what the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.crash.harness import Gate
from tests.crash.subjects import Items

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def publish(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with a line for the summary."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was published. A claim without a count is not made."""
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)


@pytest.fixture
def items(database_url: str) -> Iterator[Items]:
    """Six items in a database that has no tracking tables yet, and a look at them from outside."""
    found = Items(database_url)
    yield found
    found.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made


@pytest.fixture
def second_gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made


@pytest.fixture
def third_gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made
