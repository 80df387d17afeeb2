"""How long a body may be, here and there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from ante_backend.body_limit import BodyLimit


async def length(request: Request) -> int:
    return len(await request.body())


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("path", "limit"), [("/api", 10), ("/page", 10), ("/pages/x", 10), ("/page/x", 20), ("/page/x/y", 20)]
)
def test_each_path_has_its_limit(path: str, limit: int, declared: bool) -> None:
    app = FastAPI()
    app.add_middleware(BodyLimit, limit=10, below={"/page": 20})
    app.add_api_route("/{where:path}", length, methods=["POST"])

    async def post(size: int) -> httpx.Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(size):
                yield b"x"

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post(path, content=b"x" * size if declared else chunks())

    assert asyncio.run(post(limit)).json() == limit
    if declared:  # raised before the application and its handlers of errors: the backend's own stand around
        with pytest.raises(Exception, match="longer than"):
            asyncio.run(post(limit + 1))
    else:
        refused = asyncio.run(post(limit + 1))
        assert refused.status_code == 413
        assert f"longer than {limit} bytes" in refused.text
