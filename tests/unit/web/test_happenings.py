"""The audit in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from system_migration.records import Event
from system_migration.web.dashboard.happenings import deed, remarks


def event(action: str, **detail: Any) -> Event:
    return Event(datetime(2026, 1, 1, tzinfo=UTC), "001-a", action, "ada", "host", detail)


@pytest.mark.parametrize(
    ("happened", "words"),
    [
        (event("run_started", options={"batchSize": 20}), "started a run"),
        (event("run_started", options={"heldOnly": True}), "started a retry"),
        (event("run_started", options="odd"), "started a run"),
        (event("verified", verified=True), "verified it"),
        (event("verified", verified=False, reason="3 rows differ"), "found it not verified"),
        (event("pause_asked"), "asked it to pause"),
        (event("of_a_later_version"), "of a later version"),
    ],
)
def test_an_action_is_told_in_words(happened: Event, words: str) -> None:
    assert deed(happened) == words


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({}, []),
        ({"status": "ROLLED_BACK"}, ["was ROLLED BACK"]),
        ({"door": "api", "request": "id", "named": True, "fence": 3, "look": "full"}, []),
        (
            {"options": {"batchSize": 20, "acceptCodeChange": True, "heldOnly": True}},
            ["batch size 20", "accept code change"],
        ),
        ({"options": {"keys": ["1-a", "2-b"]}}, ["2 chosen rows"]),
        ({"died": True}, ["its runner had died"]),
        ({"died": False}, ["its runner had stopped"]),
        ({"verified": False, "issues": 1200}, ["not verified", "1,200 rows held"]),
        ({"verified": True, "issues": 0}, ["verified"]),
        ({"restored": 1, "listed": 0}, ["1 row restored"]),
        ({"restored": 5, "listed": 2}, ["5 rows restored", "2 rows not restored"]),
        ({"rows": 3, "parts": 2}, ["3 rows", "parts 2"]),
        ({"reason": "nobody\nneeds it"}, ["nobody\nneeds it"]),
        ({"reason": None}, []),
        ({"from": "staging"}, ["from staging"]),
        ({"later": {"a": [1, 2]}}, ["later a 1, 2"]),
    ],
)
def test_what_was_noted_with_it_is_told_where_people_need_it(detail: dict[str, Any], words: list[str]) -> None:
    assert remarks(event("run_started", **detail)) == words
