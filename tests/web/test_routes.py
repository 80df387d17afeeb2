"""Every route and method, from the router itself: who may, who may not, and what a developer is answered."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.web.serving import Served

RUN = "00000000-0000-4000-8000-000000000000"
ROUTES = {
    ("GET", "/status"): 200,
    ("GET", "/list"): 200,
    ("GET", "/pending"): 200,
    ("GET", "/issues/{name}"): 200,
    ("GET", "/metrics"): 200,
    ("GET", "/runs"): 200,
    ("GET", "/runs/{id}"): 404,
    ("GET", "/runs/{id}/logs"): 404,
    ("GET", "/runs/{id}/events"): 404,
    ("GET", "/audit/verify"): 409,
    ("GET", "/audit/export"): 200,
    ("POST", "/run"): 200,
    ("POST", "/run/{name}"): 200,
    ("POST", "/verify/{name}"): 409,
    ("POST", "/rollback/{name}"): 409,
    ("POST", "/retry/{name}"): 409,
    ("POST", "/runs/{id}/resume"): 404,
    ("POST", "/runs/{id}/pause"): 404,
    ("POST", "/runs/{id}/cancel"): 404,
    ("POST", "/skip/{name}"): 422,
    ("POST", "/reset/{name}"): 422,
    ("GET", "/approve/{name}"): 200,
    ("POST", "/approve/{name}"): 422,
    ("POST", "/withdraw-approval/{name}"): 409,
}
"""Each, with what a developer is answered who asks about a pending migration and a run that is not there."""


def operations(api: Served) -> Iterator[tuple[str, str]]:
    """What the application really answers to, taken from its description."""
    for path, methods in api.app.openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path.removeprefix("/migration")


def ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    query = (
        {"dryRun": "true", "wait": "20"} if path.startswith("/run") and method == "POST" and "{id}" not in path else {}
    )
    return client.request(method, path.format(name="001-mark", id=RUN), params=query)


def test_the_routes_are_these(api: Served) -> None:
    assert set(operations(api)) == set(ROUTES)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("bob-token", 403)])
def test_every_route_is_for_developers_only(api: Served, token: str | None, status: int) -> None:
    with api.client(token) as client:
        answers = {each: ask(client, *each) for each in operations(api)}
    assert {each: answer.status_code for each, answer in answers.items()} == dict.fromkeys(ROUTES, status)
    assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers.values())
    assert status == 403 or all("www-authenticate" in answer.headers for answer in answers.values())


def test_every_route_answers_a_developer(api: Served) -> None:
    with api.client() as client:
        answers = {each: ask(client, *each) for each in operations(api)}
    assert {each: answer.status_code for each, answer in answers.items()} == ROUTES
    assert all(answer.headers["cache-control"] == "no-store" for answer in answers.values())
    for (_, path), answer in answers.items():
        good = "application/x-ndjson" if path == "/audit/export" else "application/json"
        kind = "application/problem+json" if answer.status_code >= 400 else good
        kind = "text/plain; version=0.0.4; charset=utf-8" if path == "/metrics" else kind
        assert answer.headers["content-type"] == kind


def test_who_is_no_developer_any_more_may_no_more(api: Served) -> None:
    with api.client("eve-token") as client:
        assert client.get("/status").status_code == 200
        api.developers.dismiss("eve-token")
        assert client.get("/status").status_code == 403
        assert client.post("/run").status_code == 403


@pytest.mark.parametrize(
    "path", ["/run/nope", "/run/" + "x" * 10_000, "/run/%2E%2E%2Fx", "/verify/nope", "/skip/nope?reason=x"]
)
def test_an_unknown_migration_is_a_404_that_does_not_repeat_its_name(api: Served, path: str) -> None:
    with api.client() as client:
        answer = client.post(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "nope" not in answer.text
    assert "xxxx" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(api: Served, method: str) -> None:
    with api.client() as client:
        answer = client.request(method, "/run")
    assert answer.status_code == 405
    assert answer.json()["title"] == "Method Not Allowed"
