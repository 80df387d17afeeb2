"""Logging in, knowing who asks, and changing a password: judging, hashing, throttling and SQL in the right order.

What is refused before judging (too many attempts, no free place to hash) is refused before anything about an account is
looked up. Transactions are opened and closed here, each around one or two statements; none is open during bcrypt.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from ante_backend.accounts import Account, Accounts
from ante_backend.attempts import Attempt, Attempts, TooManyAttempts
from ante_backend.hashing import Busy, Hashing
from ante_backend.login import Accepted, Judge
from ante_backend.tokens import Bearer, InvalidToken, Tokens

_log = logging.getLogger(__name__)

#: A row that an upgrade changes under a password change is read again; it is upgraded once, or twice.
_ROUNDS: Final = 3


class CannotStore(Exception):
    """There is no column for hashes yet, so no password can be changed."""


class ChangedMeanwhile(Exception):
    """The account has got another password since this request began; nothing was changed."""


@dataclass(frozen=True)
class Authentication:
    """All of it, for one database. To be used from one event loop; `close` it there."""

    engine: sa.Engine
    judge: Judge
    tokens: Tokens
    accounts: Accounts
    attempts: Attempts
    hashing: Hashing

    async def log_in(self, name: str, password: str, source: str) -> Account | None:
        """The account whose name and password these are; None for every reason there is to refuse.

        Raises TooManyAttempts or Busy before judging. An accepted password is upgraded if it has to be; when that
        fails the login does not, and the row is as it was.
        """
        attempt = self.attempts.begin(f"name {name}", source)
        try:
            with self.hashing.place():
                found = await run_in_threadpool(self._find, name)
                accepted = await self.hashing.run(self.judge.judge, _to_judge(attempt, name, found), password)
        except (Busy, SQLAlchemyError):
            attempt.not_judged()
            raise
        if accepted is None:
            return None
        attempt.succeeded()
        return await run_in_threadpool(self._upgrade, accepted)

    def holder(self, token: str) -> Account:
        """Whose token it is, as the database says now. Raises InvalidToken.

        That is for a forged or expired one, and for one whose account is gone, inactive, or has another password.
        """
        return self.account_of(self.tokens.read(token))

    def account_of(self, bearer: Bearer) -> Account:
        """The account that a genuine token names, as the database says now. Raises InvalidToken as `holder` does."""
        with self.engine.connect() as connection:
            account = self.accounts.by_id(connection, bearer.account_id)
        if account is None or not account.is_active or not bearer.fits(account):
            raise InvalidToken
        return account

    async def change_password(self, account: Account, current: str, new: str, source: str) -> Account | None:
        """The account with its new password, whose tokens are no longer valid; None if `current` is not its password.

        Raises TooManyAttempts, Busy or CannotStore before judging, RowFault for a password that bcrypt cannot take,
        and ChangedMeanwhile. The new hash and the removal of the reversible columns are one statement.
        """
        if not account.can_store_hash:
            raise CannotStore
        attempt = self.attempts.begin(_identity(account), source)
        try:
            attempt.on(_identity(account))
            with self.hashing.place():
                if await self.hashing.run(self.judge.judge, [account], current) is None:
                    return None
                attempt.succeeded()
                new_hash = await self.hashing.run(self.judge.new_hash, new)
        except (Busy, TooManyAttempts):
            attempt.not_judged()
            raise
        return await run_in_threadpool(self._replace, account, new_hash)

    def close(self) -> None:
        """Stop the hashing threads and close the connections."""
        self.hashing.close()
        self.engine.dispose()

    def _find(self, name: str) -> list[Account]:
        with self.engine.connect() as connection:
            return self.accounts.named(connection, name)

    def _upgrade(self, accepted: Accepted) -> Account:
        account, new_hash = accepted.account, accepted.new_hash
        if new_hash is None:
            return account
        try:
            with self.engine.begin() as connection:
                stored = self.accounts.upgrade(connection, account, new_hash)
        except SQLAlchemyError as error:
            _log.warning(
                "Account %r: the hash could not be stored (%s). The next login tries again.", account.id, reason(error)
            )
            return account
        return replace(account, stored_hash=new_hash) if stored else account

    def _replace(self, read: Account, new_hash: str) -> Account:
        for _ in range(_ROUNDS):
            with self.engine.begin() as connection:  # a new one each time: MariaDB's would see what the last saw
                if self.accounts.change_password(connection, read, new_hash):
                    return replace(read, stored_hash=new_hash, ciphertext=None, iv=None)
                now = self.accounts.by_id(connection, read.id)
            if now is None or not set(now.marks) & set(read.marks):
                raise ChangedMeanwhile
            read = now  # the same password, upgraded by the batch or by a login
        raise ChangedMeanwhile


def _identity(account: Account) -> str:
    return f"account {account.id}"


def _to_judge(attempt: Attempt, name: str, found: list[Account]) -> list[Account]:
    """The accounts found, or none while too many attempts on the one, under both its names, have failed.

    That is a refusal as if nobody had the name: "wait" would tell that both names are one account's.
    """
    try:
        attempt.on(_identity(found[0]) if len(found) == 1 else f"name {name}")
    except TooManyAttempts:
        _log.warning("Account %r: too many attempts under its two names have failed. Refused.", found[0].id)
        return []
    return found


def reason(error: SQLAlchemyError) -> str:
    """The kind of error, without the words, in which a database may quote values."""
    return type(error.orig if isinstance(error, DBAPIError) and error.orig else error).__name__
