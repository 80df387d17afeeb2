"""Where a sign-in may lead: within the page, and nowhere else."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI, Request

from system_migration.web.dashboard.failures import LONGEST_QUERY, _local, _way_back

ROOT = "/migrations"


def request(method: str = "POST", body: bytes = b"", name: str | None = None, **headers: str) -> Request:
    """A request to the page, which is mounted at `ROOT`."""
    app = FastAPI()
    app.add_api_route(ROOT, lambda: None, name="dashboard_overview")

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": f"{ROOT}/m/a/retry", "query_string": b"", "app": app}
    scope |= {"headers": [(b"host", b"page.example"), *sent], "router": app.router, "root_path": "", "scheme": "https"}
    scope["path_params"] = {} if name is None else {"name": name}
    return Request(scope, receive)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("https://page.example/migrations/m/a?code=b#part", "/migrations/m/a?code=b"),
        ("/migrations", "/migrations"),
        ("https://page.example/", ROOT),
        ("https://page.example/elsewhere?x=1", ROOT),
        ("https://page.example/migrations-of-others", ROOT),
        ("https://evil.example", ROOT),
        ("//evil.example", ROOT),
        ("//evil.example/migrations/m/a", "/migrations/m/a"),
        ("javascript:alert(1)", ROOT),
        ("", ROOT),
    ],
)
def test_an_address_is_taken_for_its_path_within_the_page(address: str, local: str) -> None:
    assert _local(address, request()) == local


TYPING = {"content_type": "application/x-www-form-urlencoded"}
PAGE = "https://page.example/migrations/m/a/held?key=old"


def test_a_form_leads_back_to_its_own_page_with_what_was_typed() -> None:
    form = b"key=1&key=2&rows=chosen&note=a+b%26c&empty=&token=t&request=r&seen=3&confirm=production"
    there = asyncio.run(_way_back(request("POST", form, name="a/b", referer=PAGE, **TYPING)))
    assert there == "/migrations/m/a%2Fb/start?verb=retry&key=1&key=2&rows=chosen&note=a+b%26c&empty="


def test_too_many_chosen_rows_are_chosen_anew_rather_than_taken_for_all() -> None:
    form = b"rows=chosen&" + b"&".join([b"key=" + b"f" * 81] * 100)
    assert asyncio.run(_way_back(request("POST", form, name="a", **TYPING))) == "/migrations/m/a/held"
    form = b"reason=" + b"f" * LONGEST_QUERY
    assert asyncio.run(_way_back(request("POST", form, name="a", **TYPING))) == "/migrations/m/a/start?verb=retry"


def test_what_is_no_form_leads_back_without_it() -> None:
    sent = request("POST", b"{}", name="a", content_type="application/json")
    assert asyncio.run(_way_back(sent)) == "/migrations/m/a/start?verb=retry"
    assert asyncio.run(_way_back(request("POST", b"a=1", referer=PAGE))) == "/migrations/m/a/held"
    assert asyncio.run(_way_back(request("POST", b"a=1"))) == ROOT


def test_whoever_only_looked_goes_on_where_they_were() -> None:
    assert asyncio.run(_way_back(request("GET"))) == "/migrations/m/a/retry"
