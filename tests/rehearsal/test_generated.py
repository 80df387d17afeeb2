"""Numbers that a database made up do not tell two ends of the same work apart; what they refer to does."""

from __future__ import annotations

import pytest

from system_migration.rehearsal import fingerprints
from system_migration.rehearsal.fingerprints import Snapshot
from system_migration.rehearsal.generated import Generated

_BEFORE = Snapshot({"city": {}, "visit": {(1,): {"id": 1, "city": None}, (2,): {"id": 2, "city": None}}})
_MADE_UP = Generated({"city": frozenset({"id"}), "visit": frozenset({"id"})}, {("visit", "city"): "city"})


def _end(bonn: int, rome: int, *visited: int) -> Snapshot:
    cities = {(bonn,): {"id": bonn, "name": "Bonn"}, (rome,): {"id": rome, "name": "Rome"}}
    return Snapshot({"city": cities, "visit": {(n,): {"id": n, "city": city} for n, city in enumerate(visited, 1)}})


@pytest.mark.parametrize(
    ("other", "tables"),
    [
        (_end(7, 9, 7, 9), set()),  # as a run numbers them that was killed before
        (_end(7, 9, 9, 7), {"visit"}),  # each visit leads to the other city
        (_end(7, 7, 7, 7), {"city", "visit"}),  # one city is missing
    ],
    ids=["numbered otherwise", "mixed up", "missing"],
)
def test_added_rows_are_compared_by_what_they_hold(other: Snapshot, tables: set[str]) -> None:
    first = _end(1, 2, 1, 2)
    changed = list(fingerprints.changes(_BEFORE, first))
    settled = (_MADE_UP.settled(end, _BEFORE, changed) for end in (first, other))
    assert {change.table for change in fingerprints.changes(*settled)} == tables
