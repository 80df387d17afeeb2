"""Sessions in memory: how long they last, how many there are, and that they end with their token's line."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from fastapi import HTTPException, Request

from system_migration.web.session_cookie import SessionCookie
from system_migration.web.token_sessions import IDLE_SECONDS, LIMIT_SECONDS, Sessions, TokenDoor
from system_migration.web.tokens import TokenFile, make_token


class Now:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_session_lasts_an_hour_without_a_request_and_twelve_with(now: Now) -> None:
    sessions = Sessions(now)
    idle, busy = sessions.begin("idle"), sessions.begin("busy")
    now.seconds += IDLE_SECONDS - 1
    assert sessions.line(busy) == "busy"
    now.seconds += 1
    assert sessions.line(idle) is None
    while now.seconds < 1000 + LIMIT_SECONDS - 1:
        assert sessions.line(busy) == "busy"
        now.seconds = min(now.seconds + IDLE_SECONDS - 1, 1000 + LIMIT_SECONDS - 1)
    assert sessions.line(busy) == "busy"
    now.seconds += 1
    assert sessions.line(busy) is None
    assert len(sessions) == 0


def test_there_are_so_many_and_the_one_that_was_idle_longest_makes_room(now: Now) -> None:
    sessions = Sessions(now, capacity=2)
    first, second = sessions.begin("first"), sessions.begin("second")
    assert sessions.line(first) == "first"
    third = sessions.begin("third")
    assert [sessions.line(each) for each in (first, second, third)] == ["first", None, "third"]
    assert len(sessions) == 2


def test_a_session_ends_alone_and_only_by_its_id(now: Now) -> None:
    sessions = Sessions(now)
    one, other = sessions.begin("ada"), sessions.begin("ada")
    assert one != other
    sessions.end("nothing")
    sessions.end(one)
    assert [sessions.line(each) for each in (one, other, "", "\udc80")] == [None, "ada", None, None]
    assert one not in repr(vars(sessions)) + repr(sessions._sessions)
    assert other not in repr(sessions._sessions)


@pytest.fixture
def now() -> Now:
    return Now()


def carrying(identity: str | None) -> Request:
    headers = [(b"cookie", f"session={identity}".encode())] if identity else []
    return Request({"type": "http", "scheme": "http", "path": "/", "server": ("x", 80), "headers": headers})


def who(door: TokenDoor, identity: str | None) -> str | int:
    """The developer's name, or the status of the refusal."""
    try:
        return door.require(carrying(identity))
    except HTTPException as refused:
        return refused.status_code


def test_a_session_is_its_tokens_and_ends_when_the_line_leaves_the_file(tmp_path: Path, now: Now) -> None:
    (ada, ada_line), (eve, eve_line) = make_token("ada"), make_token("eve")
    file = tmp_path / "tokens"

    def write(*lines: str) -> None:
        fresh = file.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(fresh, file)

    def enter(typed: str) -> str:
        return asyncio.run(door.enter(carrying(None), {"token": typed}))

    write(ada_line, eve_line)
    sessions = Sessions(now)
    door = TokenDoor(TokenFile(file), SessionCookie("session"), sessions)
    of_ada, of_eve = enter(ada), enter(f"  {eve}\n")
    for typed in ("", "wrong", ada[:-1], ada_line, ada_line.partition(":")[2]):
        with pytest.raises(HTTPException) as refused:
            enter(typed)
        assert refused.value.status_code == 401
    assert [who(door, each) for each in (of_ada, of_eve, ada, None, "x")] == ["ada", "eve", 401, 401, 401]
    write(ada_line)
    assert [who(door, each) for each in (of_ada, of_eve)] == ["ada", 401]
    write(ada_line, eve_line)
    assert who(door, of_eve) == 401  # over is over
    door.leave(of_ada)
    assert (who(door, of_ada), len(sessions)) == (401, 0)
