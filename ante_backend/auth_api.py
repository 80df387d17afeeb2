"""The routes of authentication, and who may pass: parse, call `Authentication`, answer."""

# Without `from __future__ import annotations`: FastAPI could not see the local names in the signatures of the routes.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic.alias_generators import to_camel

from ante_backend.accounts import Account
from ante_backend.attempts import TooManyAttempts
from ante_backend.authentication import Authentication, CannotStore, ChangedMeanwhile
from ante_backend.faults import RowFault
from ante_backend.hashing import Busy
from ante_backend.texts import is_text
from ante_backend.tokens import InvalidToken
from system_migration.web import ProblemRoute, problem_responses

MAX_NAME: Final = 320
MAX_PASSWORD: Final = 1_024
#: For passwords that somebody chooses now; what was migrated stays as it is.
MIN_NEW_PASSWORD: Final = 8

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_DESCRIPTIONS: Final = {
    400: "The body cannot be read as JSON: not UTF-8, nested too deeply, or a number of too many digits",
    401: "Not logged in, or not with this name and password",
    403: "The current password is wrong",
    409: "The password was changed meanwhile",
    413: "The request is too long",
    422: "The request is not valid, or the new password cannot be used",
    429: "Too many attempts, or too many people at once",
    500: "Something unexpected went wrong; the server's log says where",
    503: "The database is away, or cannot store passwords yet",
}
#: For every reason there is.
REFUSED: Final = "The name or the password is wrong."

#: Not judged yet, only not too long to be; empty ones are judged like any other.
Password = Annotated[SecretStr, Field(max_length=MAX_PASSWORD)]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if not is_text(value.get_secret_value() if isinstance(value, SecretStr) else value):
            raise ValueError("a lone surrogate")
        return value


class _Answer(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class LoginBody(_Body):
    """A username, or an e-mail address, as it is written in the account, and its password."""

    username: Annotated[str, Field(max_length=MAX_NAME)]
    password: Password


class PasswordBody(_Body):
    """The password the account has, and the one it shall have."""

    current_password: Password
    new_password: Annotated[SecretStr, Field(min_length=MIN_NEW_PASSWORD, max_length=MAX_PASSWORD)]

    @field_validator("new_password")
    @classmethod
    def _no_nul(cls, value: SecretStr) -> SecretStr:
        if "\0" in value.get_secret_value():
            raise ValueError("NUL")
        return value


class TokenAnswer(_Answer):
    """A token, to be sent as `Authorization: Bearer ...`."""

    access_token: str
    token_type: str = "bearer"
    expires_in: int


class MeAnswer(_Answer):
    """Who the token belongs to."""

    id: str
    username: str
    is_developer: bool


def account_dependency(authentication: Authentication) -> Callable[..., Account]:
    """A dependency that gives the account whose token came with the request, or answers 401."""
    bearer = HTTPBearer(auto_error=False, description="A token from /auth/login.")

    def current_account(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> Account:
        if credentials is None:
            raise HTTPException(401, "Log in and send the token.", _CHALLENGE)
        try:
            return authentication.holder(credentials.credentials)
        except InvalidToken:
            raise HTTPException(401, "The token is not valid. Log in again.", _CHALLENGE) from None

    return current_account


def developer_dependency(current_account: Callable[..., Account]) -> Callable[..., str]:
    """A dependency that gives a developer's account id, or answers 401 or 403. The database decides, not the token."""

    def require_developer(account: Annotated[Account, Depends(current_account)]) -> str:
        if not account.is_developer:
            raise HTTPException(403, "This account is not a developer's.")
        return account.id

    return require_developer


def create_auth_router(authentication: Authentication, current_account: Callable[..., Account]) -> APIRouter:
    """The routes under /auth."""
    # The class also forbids that an answer is stored, a token not less than a refusal.
    router = APIRouter(prefix="/auth", tags=["auth"], route_class=ProblemRoute)

    @router.post("/login", responses=_problems(400, 401, 413, 422, 429, 500, 503))
    async def login(body: LoginBody, request: Request) -> TokenAnswer:
        """A token for the account. Every refusal is the same 401, whatever its reason."""
        with refusals():
            account = await authentication.log_in(body.username, body.password.get_secret_value(), source(request))
        if account is None:
            raise HTTPException(401, REFUSED, _CHALLENGE)
        return _token(authentication, account)

    @router.get("/me", responses=_problems(401, 500, 503))
    def me(account: Annotated[Account, Depends(current_account)]) -> MeAnswer:
        """Who the token belongs to."""
        return MeAnswer(id=account.id, username=account.username, is_developer=account.is_developer)

    @router.post("/password", responses=_problems(400, 401, 403, 409, 413, 422, 429, 500, 503))
    async def password(
        body: PasswordBody, request: Request, account: Annotated[Account, Depends(current_account)]
    ) -> TokenAnswer:
        """Change the password. All tokens of the account end; the answer has a new one."""
        current, new = body.current_password.get_secret_value(), body.new_password.get_secret_value()
        with refusals():
            changed = await authentication.change_password(account, current, new, source(request))
        if changed is None:
            raise HTTPException(403, "The current password is wrong.")
        return _token(authentication, changed)

    return router


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the description of a route says about its refusals."""
    return problem_responses({status: _DESCRIPTIONS[status] for status in statuses})


def _token(authentication: Authentication, account: Account) -> TokenAnswer:
    tokens = authentication.tokens
    return TokenAnswer(access_token=tokens.issue(account), expires_in=tokens.lifetime_seconds)


def source(request: Request) -> str:
    """The address that attempts are counted for."""
    return request.client.host if request.client else "unknown"


@contextmanager
def refusals() -> Iterator[None]:
    """What authentication refuses, as answers."""
    answer: Any
    try:
        yield
        return
    except TooManyAttempts as refusal:
        answer = 429, "Too many attempts. Wait, then try again.", {"Retry-After": str(refusal.retry_after)}
    except Busy:
        answer = 429, "Too many people are logging in just now. Try again.", {"Retry-After": "1"}
    except CannotStore:
        answer = 503, "Passwords cannot be changed before migration 001-password-bcrypt has begun.", None
    except ChangedMeanwhile:
        answer = 409, "The password was changed meanwhile. Log in again.", None
    except RowFault as fault:
        answer = 422, f"This password cannot be used: {fault.message}.", None
    raise HTTPException(*answer)
