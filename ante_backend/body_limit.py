"""No request body is read beyond a limit, whatever the client says of its length.

It only raises: add it before the library's problem handlers, which then stand around it and answer.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Around an application: HTTPException 413 for a body of more bytes than `limit`, before more of them are read."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._limit:
            raise self._too_long()
        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:  # sent in chunks, of no declared length
                raise self._too_long()
            return message

        return await self._app(scope, receive_within_limit, send)

    def _too_long(self) -> HTTPException:
        return HTTPException(413, f"The request is longer than {self._limit} bytes.")
