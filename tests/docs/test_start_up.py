"""The how-to page about starts names every setting, every state and every exit code. Its examples are served in
`tests/acceptance/test_startup.py`."""

from __future__ import annotations

import re
from pathlib import Path

from system_migration.settings import FIELDS
from system_migration.startup_plan import Stage

PAGE = (Path(__file__).parents[2] / "docs/how-to/start-up.md").read_text(encoding="utf-8")


def test_every_setting_of_a_start_is_described() -> None:
    named = ("run_on_startup", "auto_migrate", "allow_production_auto_migrate", "startup_wait", "startup_seconds")
    variables = [field.variables[0] for field in FIELDS if field.name in named]
    assert len(variables) == len(named)
    assert [variable for variable in variables if f"`{variable}`" not in PAGE] == []


def test_every_state_is_described_and_no_other() -> None:
    table = PAGE.partition("| State | Means | Ready |")[2]
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [stage.value for stage in Stage]
