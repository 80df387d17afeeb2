"""Whatever the OpenAPI description allows is answered, without a server error, as the description says."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.serving import Served
from tests.web.test_routes import operations

EXAMPLES = 20
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MARK, INCREMENT = "001-mark", "002-increment"


@pytest.fixture(scope="module")
def schema(api: Served) -> Any:
    return schemathesis.openapi.from_dict(api.app.openapi())


@pytest.fixture(scope="module")
def run_id(api: Served) -> str:
    """A run that has ended."""
    with api.client() as client:
        found: str = client.post("/run/001-mark", params={"wait": 30}).json()["run"]["id"]
        return found


@pytest.mark.parametrize("place", range(24))
def test_every_answer_is_described(api: Served, schema: Any, run_id: str, place: int) -> None:
    operation = sorted((each.ok() for each in schema.get_all_operations()), key=lambda each: each.label)[place]
    real = st.sampled_from([{"name": MARK, "id": run_id}, {"name": INCREMENT, "id": run_id}, None])

    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @hypothesis.given(case=operation.as_strategy(), path=real)
    def answered(case: Any, path: dict[str, str] | None) -> None:
        if path is not None and case.path_parameters:
            case.path_parameters = {name: path[name] for name in case.path_parameters}
        answer = case.call(base_url=api.url, headers={"Authorization": "Bearer ada-token"})
        case.validate_response(answer, checks=CHECKS)

    answered()


def test_all_operations_are_tried(api: Served) -> None:
    assert len(set(operations(api))) == 24


def test_each_operation_and_its_parameters_are_told_in_words(api: Served) -> None:
    for methods in api.app.openapi()["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert {"401", "403", "422", "503"} <= set(operation["responses"])
            mute = [each["name"] for each in operation.get("parameters", []) if not each.get("description")]
            assert mute == []
