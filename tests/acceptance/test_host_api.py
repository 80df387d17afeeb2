"""The whole API of the host: who may ask for what, and whether its description tells all that it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.accounts import NAME
from tests.support.backend import Backend, account_database, configuration

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPEN = {("get", "/health/live"), ("get", "/health/ready"), ("post", "/auth/login")}
OF_EVERYBODY = {("get", "/auth/me"), ("post", "/auth/password")}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with account_database(request.param, tmp_path_factory.mktemp("api"), request) as url:
        with Backend(configuration(url)) as backend:
            yield backend


def operations(backend: Backend) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in backend.app.openapi()["paths"].items() for method in methods}


def ask(backend: Backend, method: str, path: str, token: str | None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    filled = path.replace("{name}", NAME).replace("{id}", "00000000-0000-0000-0000-000000000000")
    return backend.client.request(method, filled, headers=headers).status_code


def test_every_route_but_three_needs_a_token_and_every_migration_route_a_developers(backend: Backend) -> None:
    developer, user = backend.token(backend.add(isDeveloper=True)), backend.token(backend.add())
    assert operations(backend) > OPEN | OF_EVERYBODY
    for method, path in operations(backend) - OPEN:
        assert ask(backend, method, path, None) == 401, (method, path)
        assert (ask(backend, method, path, user) == 403) == path.startswith("/migration/"), (method, path)
    assert ask(backend, "get", "/migration/status", developer) == 200
    assert ask(backend, "get", "/health/live", None) == ask(backend, "get", "/health/ready", None) == 200


def test_a_developer_acts_under_the_accounts_id(backend: Backend) -> None:
    username = backend.add(isDeveloper=True)
    headers = {"Authorization": f"Bearer {backend.token(username)}"}
    skipped = backend.client.post(f"/migration/skip/{NAME}", headers=headers, params={"reason": "a test"})
    assert skipped.status_code == 200, skipped.text
    with backend.engine.connect() as connection:
        actors = connection.exec_driver_sql("SELECT actor FROM system_migration_event").scalars().all()
    assert backend.row(username)["id"] in actors
    assert not [actor for actor in actors if "@example.test" in actor]


@pytest.mark.parametrize("path", ["/auth/login", "/auth/me", "/auth/password"])
def test_every_answer_is_described(backend: Backend, path: str) -> None:
    schema: Any = schemathesis.openapi.from_dict(backend.app.openapi())
    (operation,) = [each.ok() for each in schema.get_all_operations() if each.ok().path == path]
    headers = {"Authorization": f"Bearer {backend.token(backend.add())}"}

    @hypothesis.settings(
        max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @hypothesis.given(case=operation.as_strategy())
    def answered(case: Any) -> None:
        answer = case.call(base_url=str(backend.client.base_url), headers=headers)
        case.validate_response(answer, checks=CHECKS)

    answered()
