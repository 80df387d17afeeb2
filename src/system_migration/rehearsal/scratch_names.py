"""Names of scratch databases: they say what they are, of what, and since when, so that leftovers can be told. Pure."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta

LEFTOVER_AFTER = timedelta(days=1)
"""A scratch database that is older was left behind: no rehearsal takes so long."""
_LONGEST = 63
_MARK = "_rehearsal_"
_STAMP = "%Y%m%d%H%M%S"


def make(source: str) -> str:
    """A new name for a scratch database of `source`."""
    rest = f"{_MARK}{_now():{_STAMP}}_{secrets.token_hex(4)}"
    return _beginning(source, rest) + rest


def is_leftover(name: str, source: str) -> bool:
    """Whether it is a scratch database of `source` that nobody can be using any more."""
    rest = re.search(rf"{_MARK}(\d{{14}})_[0-9a-f]{{8}}\Z", name)
    if rest is None or name[: rest.start()] != _beginning(source, rest[0]):
        return False
    try:
        return _now() - datetime.strptime(rest[1], _STAMP) > LEFTOVER_AFTER
    except ValueError:  # no such day: we did not name it
        return False


def _beginning(source: str, rest: str) -> str:
    return source.encode()[: _LONGEST - len(rest)].decode(errors="ignore")


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
