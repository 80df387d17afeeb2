"""The worker of a process: one piece of work at a time, none left behind at its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from system_migration import Migrator, Registry, Settings
from system_migration.background import Background
from system_migration.errors import Interrupted, MigrationSystemError, Refused
from tests.support.host import wait_for

PATIENCE = 20.0


@pytest.fixture
def migrator(tmp_path: Path) -> Iterator[Migrator]:
    """One whose database is never asked."""
    with Migrator(sa.create_engine(f"sqlite:///{tmp_path / 'never.sqlite'}"), Registry([]), Settings()) as migrator:
        yield migrator


def test_what_goes_on_is_waited_for_and_nothing_is_started_beside_or_after_it(migrator: Migrator) -> None:
    background, begun, may_end = Background(migrator), threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        assert may_end.wait(PATIENCE)
        return "done"

    result = background.start(work)
    assert begun.wait(PATIENCE)
    with pytest.raises(Refused):
        background.start(work)
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(background.stop, PATIENCE)
        wait_for(lambda: migrator.stop_asked is not None, PATIENCE, "the wish to stop")
        may_end.set()
        assert stopped.result(PATIENCE)
    assert result.result(0) == "done"
    with pytest.raises(Interrupted):
        background.start(work)


def test_nothing_is_started_after_the_stop(migrator: Migrator) -> None:
    background = Background(migrator)
    assert background.stop()
    with pytest.raises(Interrupted):
        background.start(lambda: None)
    assert not background.busy


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_ends_a_program_ends_only_the_work(migrator: Migrator, end: BaseException) -> None:
    def work() -> None:
        raise end

    error = Background(migrator).start(work).exception(PATIENCE)
    assert isinstance(error, MigrationSystemError)
    assert type(end).__name__ in str(error)
