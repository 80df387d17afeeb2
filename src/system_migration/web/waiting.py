"""Keeps requests out while the application must not serve: for hosts that no balancer stands before."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from system_migration.startup import Startup
from system_migration.startup_plan import MEANING
from system_migration.web.problems import answer_to

RETRY_AFTER_SECONDS = 5
OPEN_PATHS = ("/health", "/migration", "/migrations")
_TRY_AGAIN_LATER = 1013


class HoldUntilReady:
    """ASGI middleware: until the application may serve, 503 for all but the paths that tell and steer.

    `app.add_middleware(HoldUntilReady, startup=startup)`.
    """

    def __init__(self, app: ASGIApp, startup: Startup, open_paths: tuple[str, ...] = OPEN_PATHS) -> None:
        self._app, self._startup, self._open_paths = app, startup, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._startup.state().ready or self._is_open(_path(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})
        else:
            detail = f"The application waits for a migration. {MEANING[self._startup.state().stage]}"
            answer = answer_to(HTTPException(503, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)}))
            await answer(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return any(path == prefix or path.startswith(f"{prefix}/") for prefix in self._open_paths)


def _path(scope: Scope) -> str:
    """The path within the application: a server that is told its `--root-path` puts that before every path."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
