"""Visits the running backend as three people would: a user, a developer, and somebody without a token.

`python -m ante_backend.visit --accounts N [--damaged M] [--url ...]`, with the numbers of the seeding. Prints each
request and its answer; 1 when an answer was not the one it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ante_backend.seed import SeededAccount, known_people, make_accounts
from ante_backend.settings import HostSettings, required_key

_PATIENCE_SECONDS: Final = 30
_LOGIN, _STATUS = "POST /auth/login", "GET /migration/status"


@dataclass(frozen=True)
class Answer:
    """A status and the JSON that came with it."""

    status: int
    body: Any


@dataclass
class Visit:
    """Sends requests to one backend, and keeps whether all answers were as they must be."""

    url: str
    as_expected: bool = True

    def log_in(self, account: SeededAccount, password: str, who: str, expected: int) -> str:
        """The token of the account, "" without one."""
        body = {"username": account.row["username"], "password": password}
        answer = self._show(_LOGIN, who, expected, self._send(_LOGIN, body=body))
        return str(answer.body.get("accessToken", ""))

    def status(self, token: str, who: str, expected: int) -> None:
        """Where the migrations stand, for those who may know."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = self._show(_STATUS, who, expected, self._send(_STATUS, headers))
        for migration in answer.body.get("migrations", []):
            print(f"    {migration['name']}: {migration['status']}")

    def await_backend(self) -> None:
        """Wait until it listens. Raises SystemExit when it does not in time."""
        until = time.monotonic() + _PATIENCE_SECONDS
        print(f"waiting for {self.url}", flush=True)
        while time.monotonic() < until:
            try:
                self._send("GET /health/live")
            except urllib.error.URLError:
                time.sleep(0.2)
            else:
                return
        raise SystemExit(f"Nothing answers at {self.url} for {_PATIENCE_SECONDS} seconds. Is the backend started?")

    def _show(self, request: str, who: str, expected: int, answer: Answer) -> Answer:
        fits = answer.status == expected
        self.as_expected &= fits
        print(f"{request:22} {who:40} {answer.status}" + ("" if fits else f", expected {expected}"))
        return answer

    def _send(self, request: str, headers: Mapping[str, str] | None = None, body: Any = None) -> Answer:
        method, path = request.split()
        data = None if body is None else json.dumps(body).encode()
        sent = urllib.request.Request(self.url + path, data, dict(headers or {}), method=method)
        sent.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(sent, timeout=_PATIENCE_SECONDS) as response:
                return Answer(response.status, json.load(response))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.load(error))


def main(argv: list[str]) -> int:
    """Make the visit and print it."""
    parser = argparse.ArgumentParser(prog="python -m ante_backend.visit", description=__doc__)
    parser.add_argument("--accounts", type=int, required=True)
    parser.add_argument("--damaged", type=int, default=0)
    parser.add_argument("--url", default=f"http://127.0.0.1:{os.environ.get('PORT', '8000')}")
    chosen = parser.parse_args(argv)
    key = required_key(HostSettings.from_environment(os.environ))
    people = known_people(make_accounts(chosen.accounts, chosen.damaged, key))
    user, developer = people["user"], people["developer"]

    visit = Visit(chosen.url)
    visit.await_backend()
    visit.log_in(user, f"{user.plaintext}!", "a user, with one character too many", 401)
    user_token = visit.log_in(user, str(user.plaintext), "a user, with the old password", 200)
    developer_token = visit.log_in(developer, str(developer.plaintext), "a developer, with the old password", 200)
    visit.status("", "without a token", 401)
    visit.status(user_token, "with the user's token", 403)
    visit.status(developer_token, "with the developer's token", 200)
    return 0 if visit.as_expected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
