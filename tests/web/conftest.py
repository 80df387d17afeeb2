"""One served API for a module, on SQLite; and one for each test on each database in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.support.databases import application_engine
from tests.web.serving import Served, make_items, served


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served API that the tests of a module share."""
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('api') / 'api.sqlite'}")
    make_items(engine)
    with served(engine) as server:
        yield server
    engine.dispose()


@pytest.fixture
def items(engine: sa.Engine) -> sa.Engine:
    """A database with twenty items."""
    make_items(engine)
    return engine
