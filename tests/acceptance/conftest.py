"""Projects to run the command in: one on each database in turn, or on SQLite alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.support.command import Project, make_project

MakeProject = Callable[[str], Project]


@pytest.fixture
def new_project(tmp_path: Path) -> MakeProject:
    """Call it with a database's URL; each call makes a new, empty project."""
    numbers = count(1)
    return lambda url: make_project(tmp_path / f"project-{next(numbers)}", url)


@pytest.fixture
def project(new_project: MakeProject, database_url: str) -> Project:
    """An empty project on each kind of database in turn."""
    return new_project(database_url)


@pytest.fixture
def sqlite_project(new_project: MakeProject, sqlite_url: str) -> Project:
    return new_project(sqlite_url)
