"""The table of status arrows: every one explained, every other pair refused."""

from __future__ import annotations

from itertools import product

import pytest

from system_migration.errors import Refused
from system_migration.states import ARROWS, Status, check

DIAGRAM = {
    Status.PENDING: {Status.RUNNING, Status.SKIPPED},
    Status.RUNNING: {Status.COMPLETED, Status.FAILED, Status.PAUSED, Status.ROLLED_BACK},
    Status.PAUSED: {Status.RUNNING, Status.FAILED},
    Status.COMPLETED: {Status.RUNNING, Status.PENDING},
    Status.FAILED: {Status.RUNNING, Status.SKIPPED, Status.PENDING},
    Status.SKIPPED: {Status.RUNNING, Status.PENDING},
    Status.ROLLED_BACK: {Status.RUNNING, Status.PENDING},
}
"""The picture of the design, copied: a new arrow is drawn here too."""

ALLOWED = {(old, new) for old, targets in DIAGRAM.items() for new in targets}
FORBIDDEN = sorted(set(product(Status, Status)) - ALLOWED)


def test_the_arrows_are_those_of_the_diagram() -> None:
    assert set(DIAGRAM) == set(Status)
    assert set(ARROWS) == ALLOWED


@pytest.mark.parametrize(("old", "new"), sorted(ALLOWED))
def test_every_arrow_has_a_sentence_and_is_let_through(old: Status, new: Status) -> None:
    assert len(ARROWS[old, new].split()) >= 3
    check("001-a", old, new)


@pytest.mark.parametrize(("old", "new"), FORBIDDEN)
def test_every_other_pair_is_refused_with_the_ways_there_are(old: Status, new: Status) -> None:
    with pytest.raises(Refused) as refused:
        check("001-a", old, new)
    ways = ", ".join(sorted(DIAGRAM[old]))
    assert str(refused.value) == (
        f"Migration 001-a is {old}; it cannot become {new}. From {old} it can become: {ways}."
    )
