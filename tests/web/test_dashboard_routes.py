"""Every route of the page, from the router itself: for developers only, kept by no cache, loading nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.routing import APIRoute

from system_migration.web.dashboard.pages import HEADERS
from tests.web.serving import Served

RUN = "00000000-0000-4000-8000-000000000000"
GETS = {
    "",
    "/",
    "/events",
    "/history",
    "/history/audit",
    "/m/{name}",
    "/m/{name}/held",
    "/m/{name}/held.csv",
    "/m/{name}/start",
    "/runs/{id}",
    "/runs/{id}/events",
    "/m/{name}/{verb}",
    "/{elsewhere:path}",
}
VERBS = ("run", "verify", "rollback", "retry", "resume", "pause", "cancel", "skip", "reset")
POSTS = {f"/m/{{name}}/{verb}" for verb in (*VERBS, "approve", "withdraw-approval")}
FORM = {"reason": "no"}
ROUTES = {("GET", path) for path in GETS} | {("POST", path) for path in POSTS}


def routes(api: Served) -> Iterator[tuple[str, str]]:
    for route in api.page.routes:
        if isinstance(route, APIRoute):
            yield from ((method, route.path) for method in route.methods)


def address(api: Served, path: str) -> str:
    filled = path.replace("{elsewhere:path}", "m/001%2Fmark").format(name="001-mark", id=RUN, verb="skip")
    return f"{api.url}/migrations{filled}"


def test_the_routes_are_these(api: Served) -> None:
    assert set(routes(api)) == ROUTES


@pytest.mark.parametrize(("token", "status"), [(None, 303), ("wrong", 303), ("bob-token", 403)])
def test_every_route_is_for_developers_only(api: Served, token: str | None, status: int) -> None:
    with api.browser(token) as client:
        answers = {
            (method, path): client.request(
                method, address(api, path), data={"reason": "no"} if method == "POST" else None
            )
            for method, path in routes(api)
        }
    assert {each: answer.status_code for each, answer in answers.items()} == dict.fromkeys(ROUTES, status)
    for answer in answers.values():
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        assert status == 403 or answer.headers["location"].startswith("/sign-in?next=%2Fmigrations")
    assert api.migrator.audit() == []


def test_every_screen_is_kept_by_no_cache_and_loads_nothing_from_elsewhere(api: Served) -> None:
    with api.browser() as client:
        for path in sorted(GETS - {"/events"}):
            headers = client.get(address(api, path)).headers
            assert {name: headers.get(name) for name in HEADERS} == HEADERS, path


def test_a_slash_too_many_leads_to_a_path_whatever_host_is_named(api: Served) -> None:
    with api.browser("ada-token") as client:
        answer = client.get(f"{api.url}/migrations/?all=true", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/migrations?all=true")


def test_an_address_that_nobody_knows_is_answered_with_a_page(api: Served) -> None:
    with api.browser() as client:
        answer = client.get(f"{api.url}/migrations/m/001%2Fmark")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no page at this address." in answer.text


def test_the_address_that_a_refused_form_leaves_leads_to_the_form(api: Served) -> None:
    with api.browser() as client:
        refused = client.post(address(api, "/m/{name}/skip"), data={"reason": "no"})
        assert refused.status_code == 403
        again = client.get(refused.url)
    assert (again.status_code, again.headers["location"]) == (303, "/migrations/m/001-mark/start?verb=skip")
