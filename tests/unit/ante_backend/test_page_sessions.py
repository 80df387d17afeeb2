"""Sessions of the page without a server: what is remembered of those that were signed out of."""

from __future__ import annotations

import pytest

from ante_backend.page_sessions import LIMIT_SECONDS, MAX_ENDED, PageSessions, form_secret
from ante_backend.tokens import InvalidToken
from tests.unit.ante_backend.test_tokens import HASHED, NEW, OLD


def test_a_session_outlives_a_rotation_and_is_renewed_under_the_new_secret() -> None:
    now = 1_000_000.0
    before, during = PageSessions([OLD], lambda: now), PageSessions([NEW, OLD], lambda: now)
    value = before.begin(HASHED)
    now += 600
    session = during.read(value)
    assert session.fits(HASHED)
    renewed = during.renewed(session, HASHED)
    assert renewed is not None
    assert PageSessions([NEW], lambda: now).read(renewed).numbers["auth_time"] == 1_000_000


def test_what_is_remembered_of_ended_sessions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ante_backend.page_sessions.MAX_ENDED", 3)
    now = 1_000_000.0
    sessions = PageSessions([NEW], lambda: now)
    values = [sessions.begin(HASHED) for _ in range(5)]
    for value in (*values, "nothing", ""):
        sessions.end(value)
    assert len(sessions._ended) == 3 < MAX_ENDED
    with pytest.raises(InvalidToken):
        sessions.read(values[-1])
    now += LIMIT_SECONDS + 1
    sessions.end(sessions.begin(HASHED))
    assert len(sessions._ended) == 1  # the others are over anyhow


def test_the_secret_of_forms_is_the_same_everywhere_and_not_the_tokens_own() -> None:
    assert form_secret(NEW) == form_secret(bytes(NEW)) != form_secret(OLD)
    assert form_secret(NEW) != NEW
    assert len(form_secret(NEW)) == 32
