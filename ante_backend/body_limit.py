"""No request body is read beyond a limit, whatever the client says of its length.

It only raises: add it before the library's problem handlers, which then stand around it and answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Around an application: HTTPException 413 for a body of more bytes than `limit`, before more of them are read.

    `below` has other limits, by the paths below which they hold.
    """

    def __init__(self, app: ASGIApp, limit: int, below: Mapping[str, int] | None = None) -> None:
        self._app, self._limit, self._below = app, limit, below or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        limit = self._limit_of(scope["path"])
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _too_long(limit)
        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:  # sent in chunks, of no declared length
                raise _too_long(limit)
            return message

        return await self._app(scope, receive_within_limit, send)

    def _limit_of(self, path: str) -> int:
        found = (limit for prefix, limit in self._below.items() if path.startswith(f"{prefix}/"))
        return next(found, self._limit)


def _too_long(limit: int) -> HTTPException:
    return HTTPException(413, f"The request is longer than {limit} bytes.")
