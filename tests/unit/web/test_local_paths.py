"""Where a sign-in may lead: to a page of ours and to nothing that could be read as another place."""

from __future__ import annotations

import pytest

from system_migration.web.local_paths import MAX_PATH, local_path

BELOW = "/migrations"


@pytest.mark.parametrize(
    "path",
    [
        "/migrations",
        "/migrations/",
        "/migrations?all=yes",
        "/migrations/m/001-password-bcrypt",
        "/migrations/m/002.b_c/start?fromKey=a%2Fb%20%C3%A9&toKey=%0d%0a%5C&reason=why%3F#".rstrip("#"),
        "/migrations/runs/5b3f0e0a-0000-4000-8000-000000000000?level=warning&before=7",
        "/migrations/m/x?next=//evil.example",  # a query leads nowhere
    ],
)
def test_a_page_of_ours_is_led_to(path: str) -> None:
    assert local_path(path, BELOW) == path


STRANGE = [
    "",
    "migrations",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%2fevil.example",
    "/%5cevil.example",
    "%2f%2fevil.example",
    "https:",
    "https://evil.example/migrations",
    "https:/migrations",
    "javascript:alert(1)",
    "data:text/html,x",
    "/migrations\r\nSet-Cookie: a=b",
    "/migrations\n",
    "/migrations\t",
    "\t/migrations",
    " /migrations",
    "/migrations/m/x y",
    "/migrations%0d%0aSet-Cookie:%20a=b",
    "/migrations/%0d%0a",
    "/migrations/%00",
    "/migrations/\\evil.example",
    "/migrations/%5c..",
    "/migrations/../auth/me",
    "/migrations/./m",
    "/migrations/..",
    "/migrations/%2e%2e/auth/me",
    "/migrations/.%2E/auth/me",
    "/migrations/%2e%2e%2fauth/me",
    "/migrations/%252e%252e/auth/me",
    "/migrations//evil.example",
    "/migrations/%2fevil.example",
    "/migrations#/evil",
    "/migrations@evil.example",
    "/migrationsevil",
    "/migration/status",
    "/MIGRATIONS",
    "/migrations/é",
    "/migrations/m/\u2028",
    "/migrations/<script>",
    '/migrations/"',
    "/migrations?" + "x" * MAX_PATH,
]


@pytest.mark.parametrize("path", STRANGE)
def test_nothing_else_is(path: str) -> None:
    assert local_path(path, BELOW) is None
