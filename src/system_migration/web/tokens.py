"""The developers of a token file as those of a router: who sends a token that is in it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from system_migration import token_file
from system_migration.token_file import make_token as make_token

_bearer = HTTPBearer(auto_error=False, description="A token whose hash is in the token file")


class TokenFile(token_file.TokenFile):
    """Who may act, as a file says; its method `require` is the `require_developer` of a router."""

    def require(self, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
        """The name behind the token. Raises `HTTPException` 401, and `ConfigurationError` while the file is bad.

        Whoever asks is nobody we know yet, so what is wrong with the file is not for the answer.
        """
        name = self.name_of(given.credentials if given is not None else None)
        if name is None:
            raise HTTPException(401, "This needs a developer's token.", {"WWW-Authenticate": "Bearer"})
        return name
