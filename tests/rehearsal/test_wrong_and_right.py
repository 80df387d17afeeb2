"""Wrong migrations are each caught with the right sentence, and right ones pass, on three databases."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import sqlalchemy as sa

from system_migration import Migration, Registry
from system_migration.rehearsal.rehearsing import rehearse
from tests.rehearsal.conftest import MakeCopies
from tests.rehearsal.right import RIGHT
from tests.rehearsal.tables import fill
from tests.rehearsal.wrong import ON_ONE_DATABASE, TRIGGERS, WRONG
from tests.support.databases import KINDS
from tests.support.torture import scale


def everywhere(migrations: Iterable[type[Migration]], every: int) -> pytest.MarkDecorator:
    """All of them on SQLite, and `every` so many on each server, in turn; with `--long` all on every database."""
    pairs = [
        pytest.param(kind, each, id=f"{kind}-{each.__name__}")
        for number, each in enumerate(migrations)
        for server, kind in enumerate(KINDS)
        if kind == "sqlite" or (number + server) % scale(every, 1) == 0
    ]
    return pytest.mark.parametrize(("make_copies", "migration"), pairs, indirect=["make_copies"])


@everywhere((each for each in WRONG if each not in ON_ONE_DATABASE), every=2)
def test_a_wrong_one_is_caught(migration: type[Migration], make_copies: MakeCopies) -> None:
    _is_caught(migration, make_copies)


@pytest.mark.parametrize("make_copies", ["sqlite"], indirect=True)
@pytest.mark.parametrize("migration", sorted(ON_ONE_DATABASE, key=str), ids=lambda migration: migration.__name__)
def test_a_variant_is_caught(migration: type[Migration], make_copies: MakeCopies) -> None:
    _is_caught(migration, make_copies)


def _is_caught(migration: type[Migration], make_copies: MakeCopies) -> None:
    promise, sentence = WRONG[migration]

    def fill_with_triggers(connection: sa.Connection) -> None:
        fill(connection)
        if migration in TRIGGERS:
            connection.exec_driver_sql(TRIGGERS[migration][connection.dialect.name.replace("mariadb", "mysql")])

    found = rehearse(Registry([migration]), migration.name, make_copies(fill_with_triggers))
    assert found.first_broken is not None, found.text()
    assert (found.first_broken.name, found.ok) == (promise, False), found.text()
    assert sentence in found.first_broken.sentence, found.text()


@everywhere(RIGHT[1:], every=4)  # the first: `test_plugin`
def test_a_right_one_passes(migration: type[Migration], make_copies: MakeCopies) -> None:
    found = rehearse(Registry([migration]), migration.name, make_copies(fill))
    assert found.ok, found.text()
    tried = [promised for promised in found.promises if promised.outcome == "kept"]
    assert len(tried) == len(found.promises) - (0 if migration.rollbackable else 1), found.text()
