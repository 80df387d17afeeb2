"""What was counted, where everybody sees it: in pytest's summary; and what the tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.crash.harness import Gate
from tests.crash.subjects import Items
from tests.support.torture import SEED

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def publish(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with a line of counts for the summary; the seed is added."""
    figures = request.config.stash.setdefault(FIGURES, [])
    return lambda line: figures.append(f"{line}, seed {SEED}")


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
