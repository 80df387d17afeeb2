"""The cookie of a page's session: for the browser to send to this host alone, and for no script to see."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")
_PREFIX = "__Host-"


class SessionCookie:
    """How a session's cookie is named, written and read; what is in it is its maker's affair.

    It is HttpOnly, SameSite=Strict, of this host only, and ends with the browser's session. Over TLS it is also Secure
    and has the prefix `__Host-`, with which no other host of the domain and no plain HTTP can put another in its place.
    Whether it is TLS the server says, which believes a proxy's X-Forwarded-Proto where it is told to, or the browser,
    in the Origin of a form; `always_secure` does without asking, for where a session must never travel in the clear.
    """

    def __init__(self, name: str, *, always_secure: bool = False) -> None:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no name for a cookie: use letters, digits, dots and dashes")
        self._name, self._always_secure = name, always_secure

    def read(self, request: Request) -> str | None:
        """What the cookie holds; None without one. Where it must be Secure, one that is not is not looked at."""
        value = request.cookies.get(_PREFIX + self._name)
        if value is None and not self._must_be_secure(request):
            value = request.cookies.get(self._name)
        return value or None

    def header(self, request: Request, value: str) -> str:
        """The `Set-Cookie` that stores the value, in answer to this request."""
        if not _TOKEN.fullmatch(value):
            raise ValueError("a cookie's value is made of letters, digits, dots, dashes and underscores")
        secure = self._must_be_secure(request) or _PREFIX + self._name in request.cookies
        return self._written(value, secure)

    def headers_that_clear(self, request: Request) -> list[str]:
        """A `Set-Cookie` for each form of it that came with the request, after which the browser has none."""
        forms = {self._name: False, _PREFIX + self._name: True}
        return [f"{self._written('', forms[name])}; Max-Age=0" for name in forms if name in request.cookies]

    def is_kept(self, request: Request) -> bool:
        """Whether the browser that sent this form will keep the cookie: not a Secure one that comes by plain HTTP.

        Except from its own machine, which browsers trust.
        """
        origin = urlsplit(request.headers.get("origin", ""))
        return not self._always_secure or origin.scheme != "http" or _is_this_machine(origin.hostname or "")

    def _must_be_secure(self, request: Request) -> bool:
        by_tls = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
        return self._always_secure or by_tls

    def _written(self, value: str, secure: bool) -> str:
        written = f"{_PREFIX * secure}{self._name}={value}; Path=/; HttpOnly; SameSite=Strict"
        return written + "; Secure" * secure


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
