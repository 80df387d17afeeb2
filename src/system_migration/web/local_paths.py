"""Where somebody is sent after signing in: to a page of ours, never to an address that a stranger chose."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

MAX_PATH = 8000
"""A form that is filled to its limits fits into its own address."""

# What RFC 3986 has in a path or a query. Not `\`, which browsers read as `/`, nor anything that ends a header's line.
_PATH_AND_QUERY = re.compile(r"(?P<path>/[\w.~!$&'()*+,;=:@/%-]*)(\?[\w.~!$&'()*+,;=:@/?%-]*)?", re.ASCII)
_ODD = re.compile(rb"[\x00-\x1f\x7f\\%]|//")


def local_path(text: str, below: str) -> str | None:
    """The text, if it is the address of a page at or below this path of this server; None for anything else.

    Nothing is mended: what could be read in two ways is refused.
    """
    found = _PATH_AND_QUERY.fullmatch(text) if len(text) <= MAX_PATH else None
    if found is None:
        return None
    path = found["path"]
    if path != below and not path.startswith(f"{below}/"):
        return None
    decoded = unquote_to_bytes(path)
    if _ODD.search(decoded) or {b".", b".."} & set(decoded.split(b"/")):
        return None
    return text
