"""Did a page of ours send this request? What a browser says of a request's origin, no page of a stranger can change."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import Request


def is_same_origin(request: Request) -> bool:
    """Whether the request comes from our own pages, or from no page at all.

    A browser says so in `Sec-Fetch-Site`; one that is older, or that was reached over plain HTTP, in `Origin`, which
    is then compared with the address that was asked for. A request with neither is no browser's: whoever sends it has
    only what they bring themselves, so nobody can be made to send it.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")  # none: typed, or sent again by the person
    origin = request.headers.get("origin")
    if origin is None:
        return True
    return _host_of(origin) == request.headers.get("host", "").lower() != ""


def comes_from_elsewhere(request: Request) -> bool:
    """Whether a link on a page of another site led here: a browser then withholds cookies that are SameSite=Strict."""
    return request.headers.get("sec-fetch-site") in ("cross-site", "same-site")


def _host_of(origin: str) -> str:
    """The host and port of an origin; empty for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # "http://[": no browser writes that
        return ""
