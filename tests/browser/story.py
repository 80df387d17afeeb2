"""A project with a migration in each state that is worth seeing, for pictures, and for checks of every screen.

| Migration | State |
|---|---|
| 001-password-bcrypt | completed and verified twice, with held rows |
| 002-phone-numbers | running in another process, half-way, for as long as the story is told |
| 003-city-names | stale: its process was killed half-way |
| 004-country-codes | failed: more rows could not be changed than may be held |
| 005-languages | pending, with the report of a dry run |
| 006-streets | rolled back, after a rehearsal of that |
| 007-salutations | paused half-way |
| 008-nicknames | skipped, with a reason |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.accounts import NAME as PASSWORDS
from tests.support.command import Project, wait_until
from tests.support.hosting import Accounts, account_project
from tests.support.workload import GATE

RUNNING, STALE, FAILED, PENDING = "002-phone-numbers", "003-city-names", "004-country-codes", "005-languages"
ROLLED_BACK, PAUSED, SKIPPED = "006-streets", "007-salutations", "008-nicknames"
GATED = (RUNNING, STALE, FAILED, PAUSED)
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
        if "{name}" in {gated} and str(row.id) == "{half}":
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
    ROLLED_BACK: ("street", "Street ", "St. ", True, "Writes streets as the post office does"),
    PAUSED: ("salutation", "Dear ", "", True, "Keeps the word before a name, not the whole salutation"),
    SKIPPED: ("nickname", "nick:", "", False, "Takes the marks off nicknames"),
}
ADA = ("--executed-by", "ada", "--yes")
SLOWLY = ("--batch-size", "100", "--workers", "1")


@contextmanager
def told(folder: Path, url: str, environment: str = "staging") -> Iterator[Accounts]:
    """Bring a new project on an empty database into these states; the one that runs ends with the block."""
    accounts = account_project(folder, url, damaged=3, environment=environment)
    project = accounts.project
    _write(project)
    project.run("run", PASSWORDS, *ADA, "--batch-size", "50")
    project.run("verify", PASSWORDS)
    project.run("dry-run", PENDING)
    project.run("skip", SKIPPED, "--reason", "nobody uses them any more", *ADA[:2])
    _roll_back(project)
    project.open(FAILED)
    project.run("run", FAILED, *ADA, code=1)
    _pause(project)
    with project.start("run", STALE, *ADA, *SLOWLY, env={"MIGRATION_LEASE_SECONDS": "1"}) as killed:
        project.wait_at(STALE, killed)
        killed.kill()
    wait_until(lambda: bool(project.status(STALE)["stale"]), "the end of the killed process's lease")
    with project.start("run", RUNNING, "--executed-by", "grace", "--yes", *SLOWLY) as running:
        project.wait_at(RUNNING, running)
        yield accounts


def runs(project: Project) -> dict[str, dict[str, str]]:
    """By kind, `run` for example or `dry_run`, and by migration the id of the newest run."""
    found: dict[str, dict[str, str]] = {}
    for run in reversed(project.json("history")):
        found.setdefault(run["kind"].replace("-", "_"), {})[run["migration"]] = run["id"]
    return found


def _roll_back(project: Project) -> None:
    project.run("run", ROLLED_BACK, *ADA, "--batch-size", "1000")
    project.run("rollback", ROLLED_BACK, "--dry-run", *ADA)
    project.run("rollback", ROLLED_BACK, *ADA)


def _pause(project: Project) -> None:
    with project.start("run", PAUSED, *ADA, *SLOWLY) as running:
        project.wait_at(PAUSED, running)
        project.run("pause", PAUSED)
        project.open(PAUSED)
        running.end()
    assert project.status(PAUSED)["status"] == "PAUSED"


def _write(project: Project) -> None:
    (project.folder / "gate.py").write_text(GATE.replace("120", "1200"), encoding="utf-8")  # for all of the screens
    columns = ", ".join(f"{change[0]} VARCHAR(40) NOT NULL" for change in CHANGES.values())
    project.sql(f"CREATE TABLE contact (id INTEGER PRIMARY KEY, {columns})")
    values = ", ".join(
        f"({number}, '0049 30 {number:06}', ' Berlin {number}', 'Country {number % 7}', 'lang-{number % 9}', "
        f"'Street {number % 90}', 'Dear {number % 4}', 'nick:{number}')"
        for number in range(1, CONTACTS + 1)
    )
    project.sql(f"INSERT INTO contact VALUES {values}")
    for name, (column, old, new, rollbackable, description) in CHANGES.items():
        text = MIGRATION.format(
            name=name,
            description=description,
            rollbackable=rollbackable,
            column=column,
            old=old,
            new=new,
            half=HALF,
            gated=GATED,
        )
        project.write(name.replace("-", "_"), text)
