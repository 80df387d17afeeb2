"""The page about signing in: its example signs people in, and its times are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from ante_backend import page_sessions
from system_migration import Migrator, Registry, Settings, connect
from system_migration.web import token_sessions
from tests.web.serving import listening
from tests.web.test_page_of_server import browser

PAGE = (Path(__file__).parents[2] / "docs/reference/signing-in.md").read_text(encoding="utf-8")


def test_the_example_signs_developers_in_and_out(tmp_path: Path) -> None:
    code = PAGE.partition("<!-- example: sign-in -->\n```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"is_right": lambda name, password: (name, password) == ("ada", "right")}
    exec(compile(code, "signing-in.md", "exec"), names)
    app = FastAPI()
    database = connect(f"sqlite:///{tmp_path}/x.sqlite", create=True)
    with Migrator(database, Registry([]), Settings(environment="staging")) as migrator:
        names["add_page"](app, migrator)
        with listening(app) as url, browser(url) as client:
            asked = client.get("/migrations")
            assert (asked.status_code, asked.headers["location"]) == (303, "/auth/sign-in?next=%2Fmigrations")
            wrong = client.post("/auth/sign-in", data={"username": "ada", "password": "wrong"})
            assert (wrong.status_code, "The name or the password is wrong." in wrong.text) == (401, True)
            right = client.post("/auth/sign-in", data={"username": "ada", "password": "right"})
            cookie = {"Cookie": right.headers["set-cookie"].partition(";")[0]}  # which a client sends by TLS alone
            assert client.get("/migrations", headers=cookie).status_code == 200
            assert client.post("/auth/sign-out", headers=cookie).status_code == 303
            assert names["signed_in"] == {}


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (r"\| when nobody has asked for \| (\d+) minutes;", page_sessions.IDLE_SECONDS / 60),
        (r"\| in any case after \| (\d+) hours", page_sessions.LIMIT_SECONDS / 3600),
        (r"an hour without a request, after (\d+) hours, with the server", token_sessions.LIMIT_SECONDS / 3600),
        (r"they end after\n(an hour) without a request", {3600.0: "an hour"}[token_sessions.IDLE_SECONDS]),
    ],
)
def test_the_times_are_the_codes(words: str, seconds: float | str) -> None:
    found = re.search(words, PAGE)
    assert found is not None
    assert found[1] == (seconds if isinstance(seconds, str) else str(int(seconds)))
