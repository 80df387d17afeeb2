"""What a browser sends with a form, read strictly: a name that the form does not have is never passed over."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from fastapi import Request

from system_migration.web.refusals import InvalidRequest

MAX_BYTES = 256 * 1024
MAX_FIELDS = 2_000
_TYPE = "application/x-www-form-urlencoded"


class Form:
    """The fields of one form. A field that was left empty counts as not given."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._sent = fields
        self._fields = [(name, text) for name, text in fields if text != ""]

    def one(self, name: str) -> str | None:
        """The value of a field that is there once at most. Raises `InvalidRequest` where it is there twice."""
        given = self.all(name)
        if len(given) > 1:
            raise InvalidRequest(f"The form gives `{name}` twice. Open the page again.")
        return given[0] if given else None

    def all(self, name: str) -> list[str]:
        """Every value of a field."""
        return [text for known, text in self._fields if known == name]

    def has(self, name: str) -> bool:
        """Whether the form has the field, empty or not."""
        return any(name == known for known, _ in self._sent)

    def typed(self, hidden: Collection[str]) -> list[tuple[str, str]]:
        """What a person typed, chose or left empty: everything but the `hidden` fields."""
        return [(name, text) for name, text in self._sent if name not in hidden]

    def demand_only(self, known: Collection[str]) -> None:
        """Raise `InvalidRequest` for a field that is not among the `known`."""
        if any(name not in known for name, _ in self._fields):
            raise InvalidRequest("The form has a field that this server does not know. Open the page again.")


async def read_form(request: Request) -> Form:
    """The form in a request's body. Raises `InvalidRequest` for what is none, or is too large."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise InvalidRequest(f"The request is not a form ({_TYPE}).")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise InvalidRequest(f"The form has more than {MAX_BYTES // 1024} KiB. Choose fewer rows at once.")
    return Form(_parse(bytes(body)))


def _parse(body: bytes) -> list[tuple[str, str]]:
    try:
        text = body.decode("ascii")
        fields = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError:  # also what is not UTF-8
        raise InvalidRequest("The form cannot be read. Open the page again and press the button there.") from None
    if any("\0" in part for field in fields for part in field):
        raise InvalidRequest("The form has a NUL character in a field. Take it out.")
    return fields
