"""A project with a migration in each state that is worth seeing, for pictures, and for checks of every screen.

| Migration | State |
|---|---|
| 001-password-bcrypt | completed and verified, with held rows |
| 002-phone-numbers | running in another process, half-way, for as long as the story is told |
| 003-city-names | stale: its process was killed half-way |
| 004-country-codes | failed: more rows could not be changed than may be held |
| 005-languages | pending, with the report of a dry run |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.accounts import NAME as PASSWORDS
from tests.support.command import Project, wait_until
from tests.support.hosting import Accounts, account_project

RUNNING, STALE, FAILED, PENDING = "002-phone-numbers", "003-city-names", "004-country-codes", "005-languages"
CONTACTS = 4000
HALF = "2100"
MIGRATION = '''
import gate

from system_migration import BatchMigration, RowIssue


class Contacts(BatchMigration):
    """{description}."""

    name = "{name}"
    version = "1.0.0"
    description = "{description}"
    rollbackable = {rollbackable}
    table = "contact"
    reads = ("id", "{column}")
    writes = ("{column}",)
    max_issues = 2

    def pending(self, t):
        return t.c.{column}.like("{old}%")

    def transform(self, row):
        if "{name}" != "005-languages" and str(row.id) == "{half}":
            gate.stop("{name}")
        if "{name}" == "004-country-codes" and row.id % 40 == 0:
            raise RowIssue("unknown_country", "no country is known by this name")
        return {{"{column}": "{new}" + row.{column}.removeprefix("{old}")}}
'''
#: The column that each migration changes, its values' beginning before and after, and whether it can be undone.
CHANGES = {
    RUNNING: ("phone", "00", "+", False, "Writes phone numbers with a plus, as other countries dial them"),
    STALE: ("city", " ", "", False, "Takes the blanks before the names of cities away"),
    FAILED: ("country", "Country ", "C", False, "Replaces the names of countries by their codes"),
    PENDING: ("language", "lang-", "", True, "Shortens language tags"),
}


@contextmanager
def told(folder: Path, url: str, environment: str = "staging") -> Iterator[Accounts]:
    """Bring a new project on an empty database into these states; the one that runs ends with the block."""
    accounts = account_project(folder, url, damaged=3, environment=environment)
    project = accounts.project
    _write(project)
    by_ada = ("--executed-by", "ada", "--yes")
    slowly = ("--batch-size", "100", "--workers", "1")
    project.run("run", PASSWORDS, *by_ada, "--batch-size", "50")
    project.run("dry-run", PENDING)
    project.open(FAILED)
    project.run("run", FAILED, *by_ada, code=1)
    with project.start("run", STALE, *by_ada, *slowly, env={"MIGRATION_LEASE_SECONDS": "1"}) as killed:
        project.wait_at(STALE, killed)
        killed.kill()
    wait_until(lambda: bool(project.status(STALE)["stale"]), "the end of the killed process's lease")
    with project.start("run", RUNNING, "--executed-by", "grace", "--yes", *slowly) as running:
        project.wait_at(RUNNING, running)
        yield accounts


def _write(project: Project) -> None:
    columns = ", ".join(f"{change[0]} VARCHAR(40) NOT NULL" for change in CHANGES.values())
    project.sql(f"CREATE TABLE contact (id INTEGER PRIMARY KEY, {columns})")
    values = [
        f"({number}, '0049 30 {number:06}', ' Berlin {number}', 'Country {number % 7}', 'lang-{number % 9}')"
        for number in range(1, CONTACTS + 1)
    ]
    project.sql(f"INSERT INTO contact VALUES {', '.join(values)}")
    for name, (column, old, new, rollbackable, description) in CHANGES.items():
        text = MIGRATION.format(
            name=name, description=description, rollbackable=rollbackable, column=column, old=old, new=new, half=HALF
        )
        project.write(name.replace("-", "_"), text)
