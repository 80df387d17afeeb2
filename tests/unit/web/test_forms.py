"""What a browser sends with a form, read strictly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from fastapi import Request

from system_migration.web.dashboard.forms import MAX_BYTES, MAX_FIELDS, Form, read_form
from system_migration.web.refusals import InvalidRequest

TYPE = "application/x-www-form-urlencoded"


def sent(*chunks: bytes, kind: str | None = TYPE) -> Form:
    """The form in a request of these pieces."""
    messages = iter([{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks])

    async def receive() -> dict[str, object]:
        return next(messages, {"type": "http.request", "body": b"", "more_body": False})

    headers: Iterable[tuple[bytes, bytes]] = [] if kind is None else [(b"content-type", kind.encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": list(headers)}
    return asyncio.run(read_form(Request(scope, receive)))


def test_fields_are_read_in_their_order_whatever_is_in_them() -> None:
    form = sent(b"key=1&ke", b"y=%5B1%2C+%22a%22%5D&note=a%26b%3D%C3%BC%0D%0A&empty=")
    assert form.all("key") == ["1", '[1, "a"]']
    assert form.one("note") == "a&b=ü\r\n"
    assert (form.one("empty"), form.one("absent"), form.all("absent")) == (None, None, [])
    assert form.typed(("note",)) == [("key", "1"), ("key", '[1, "a"]'), ("empty", "")]


def test_an_empty_form_is_one() -> None:
    assert sent(b"").typed(()) == []


def test_a_field_that_is_there_twice_is_not_guessed() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        sent(b"seen=1&seen=2").one("seen")


def test_a_field_that_the_form_does_not_have_is_refused() -> None:
    form = sent(b"dryrun=true")
    form.demand_only(("dryrun",))
    with pytest.raises(InvalidRequest, match="does not know") as refusal:
        form.demand_only(("dry_run",))
    assert "dryrun" not in str(refusal.value)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "multipart/form-data; boundary=x", "application/json"])
def test_what_a_form_of_another_site_can_send_without_asking_is_no_form(kind: str | None) -> None:
    with pytest.raises(InvalidRequest, match="not a form"):
        sent(b"a=1", kind=kind)


def test_a_type_may_have_parameters_and_any_case() -> None:
    assert sent(b"a=1", kind="Application/X-WWW-Form-Urlencoded; charset=UTF-8").one("a") == "1"


@pytest.mark.parametrize(
    "body", [b"a", b"a=1&&b=2", b"a=%FF", b"a=%ED%A0%80", "a=ü".encode(), b"=%"], ids=lambda body: repr(body)
)
def test_what_cannot_be_read_is_refused_and_not_repeated(body: bytes) -> None:
    if body == b"=%":
        assert sent(body).typed(()) == [("", "%")]
        return
    with pytest.raises(InvalidRequest, match="cannot be read"):
        sent(body)


def test_a_nul_is_refused_before_a_database_meets_it() -> None:
    for body in (b"a=%00", b"%00=a"):
        with pytest.raises(InvalidRequest, match="NUL"):
            sent(body)


def test_a_form_is_bounded_in_bytes_and_in_fields() -> None:
    half = b"a" * (MAX_BYTES // 2)
    assert len(sent(b"a=", half, half[2:]).all("a")[0]) == MAX_BYTES - 2
    with pytest.raises(InvalidRequest, match="256 KiB"):
        sent(b"a=", half, half, b"and no more of it is read")
    assert len(sent(b"&".join([b"a=1"] * MAX_FIELDS)).all("a")) == MAX_FIELDS
    with pytest.raises(InvalidRequest):
        sent(b"&".join([b"a=1"] * (MAX_FIELDS + 1)))
