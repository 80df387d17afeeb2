"""The pages whose commands run: each is followed from its first line to its last, in a project made for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs import adoption, stages
from tests.docs.pages import ROOT, Events, Step, check_said, follow, perform, steps_of
from tests.support.command import Project
from tests.support.host import BinaryMissing, program

Stage = Callable[[pytest.FixtureRequest, Path], tuple[Project, Events]]

PAGES: dict[str, Stage] = {
    "docs/how-to/approve-a-production-run.md": stages.phones,
    "docs/how-to/back-up-before-a-migration.md": stages.backups,
    "docs/how-to/keep-evidence.md": stages.phones,
    "docs/how-to/monitor-a-run.md": stages.run_at_work,
    "docs/how-to/password-migration.md": stages.passwords,
    "docs/how-to/rehearse-a-migration.md": stages.weakly_checked_phones,
    "docs/how-to/staged-roll-out.md": stages.environments,
    "docs/how-to/use-the-page.md": stages.run_to_pause,
    "docs/how-to/when-a-migration-failed.md": stages.bad_phones,
    "docs/how-to/when-it-is-slow.md": stages.phones,
    "docs/how-to/when-verification-failed.md": stages.tampered_phones,
    "docs/explanation/security.md": stages.phones,
    "docs/reference/rest-api.md": stages.phones,
    "docs/tutorial.md": stages.tutorial,
}


PROGRAMS = {
    "sqlite3": "sqlite3",
    "pg_dump": "postgresql-client",
    "mariadb-dump": "mariadb-client",
}
"""What the pages need beside Python, and the package that brings it."""


@pytest.mark.parametrize("page", PAGES, ids=[Path(page).stem for page in PAGES])
def test_what_a_page_says_works(page: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    need_programs(page)
    project, events = PAGES[page](request, tmp_path)
    follow(page, project, events)


def need_programs(page: str) -> None:
    """Skip, as loudly as for a database, or fail where databases are required, when a program is not installed."""
    said = (ROOT / page).read_text(encoding="utf-8")
    try:
        for name, package in PROGRAMS.items():
            if f"$ {name} " in said:
                program(name, package)
    except BinaryMissing as missing:
        if os.environ.get("REQUIRE_DATABASES") == "1":
            pytest.fail(f"DATABASE NOT TESTED: {missing}", pytrace=False)
        pytest.skip(f"DATABASE NOT TESTED: {missing}")


def test_every_page_with_commands_is_followed() -> None:
    written = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("docs/**/*.md")
        if any(step.event is None for step in steps_of(path.read_text(encoding="utf-8")))
    }
    assert written == {*PAGES, *adoption.PAGES}


PAGE = """
```console
$ migration status
  PENDING
$ false  # exits with 1
$ echo one \\
    two
  o...two
```

<!-- meanwhile: it rains -->

1. In a list:

   ```console
   $ export A='b c'
   ```
"""


def test_a_page_is_read_in_order() -> None:
    assert list(steps_of(PAGE)) == [
        Step("migration status", said=["  PENDING"]),
        Step("false", 1),
        Step("echo one      two", said=["  o...two"]),
        Step(event="it rains"),
        Step("export A='b c'"),
    ]


@pytest.mark.parametrize(
    "command",
    [
        Step("migration status", said=["COMPLETED"]),
        Step("migration status", 3),
        Step("migration run --environment nowhere"),
        Step("echo one", said=["two"]),
        Step("false"),
    ],
    ids=["other words", "another exit", "no exit named", "a shell's other words", "a shell's other exit"],
)
def test_a_page_that_lies_is_caught(command: Step, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    project, _ = stages.phones(request, tmp_path)
    perform(Step("migration init --environment somewhere"), project)
    with pytest.raises(AssertionError):
        check_said(command, perform(command, project))
