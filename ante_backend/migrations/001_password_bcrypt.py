"""From reversible AES-256-CTR passwords to bcrypt hashes.

Decided here, where the specification leaves it open:

- Without ciphertext, or without IV, an account is not selected; both are counted in the log.
- A stored hash of no known form counts as pending, so it is held as `unrecognised_hash`: listed, never overwritten,
  and verification, for which no pending row may be left but the held ones, covers the form of every hash.
- With nothing pending, a key is needed only while ciphertexts are left to verify hashes by.
- Soft-deleted and inactive accounts are migrated like all others.
- With PASSWORD_OVER_72_BYTES=truncate the preflight logs each account it concerns, by id.
- An account with a ciphertext that is not its hash's fails verification if it is in the sample. The new backend
  clears the ciphertext when it sets a password, so this is damage, or a writer that has to be stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from system_migration import BatchContext, BatchMigration, Refused, Row, RowIssue

if TYPE_CHECKING:
    from ante_backend.key_preflight import Known
    from ante_backend.key_survey import LegacyRow
    from ante_backend.settings import HostSettings
    from system_migration import SchemaChanges

_PIN = "ENCRYPTION_KEY"
_PROGRESS_ROWS = 5_000
_HASH_LENGTH, _PREHASH_LENGTH = 60, 83


class PasswordBcrypt(BatchMigration):
    """Hashes what the legacy application encrypted, once the key is proven right; doubtful rows stay as they are."""

    name = "001-password-bcrypt"
    version = "1.0.0"
    description = "Migrates passwords from AES-256-CTR encryption to bcrypt hashing"
    rollbackable = False
    deterministic = False  # each hash has a salt of its own
    table = "Account"
    reads = ("password", "key", "passwordHash")
    writes = ("passwordHash",)
    sensitive = ("password", "key", "passwordHash")

    def settings(self) -> HostSettings:
        """The host's settings; raises Refused when a variable cannot be used."""
        from ante_backend.migration_settings import host_settings

        return host_settings()

    def prepare(self, schema: SchemaChanges) -> None:
        schema.add_column("Account", sa.Column("passwordHash", sa.String(255), nullable=True))

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        from ante_backend.hash_audit import is_well_formed

        stored = t.c.passwordHash
        no_hash = stored.is_(None) | (stored == "")
        malformed = stored.is_not(None) & (stored != "") & ~is_well_formed(stored)
        return (t.c.password.is_not(None) & t.c.key.is_not(None) & no_hash) | malformed

    def allowed_issues(self, rows: int) -> int:
        from ante_backend.key_preflight import allowed_issues

        return allowed_issues(rows)

    def _comparable(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        """Accounts that have both, a hash and what it was made of."""
        from ante_backend.hash_audit import is_well_formed

        return t.c.password.is_not(None) & t.c.key.is_not(None) & is_well_formed(t.c.passwordHash)

    # Before the first write

    def preflight(self, context: BatchContext) -> None:  # type: ignore[override]
        """Refuse unless every key that opens rows is proven and no more rows would be held than may be."""
        from ante_backend.key_preflight import allowed_issues, judge, warnings
        from ante_backend.key_survey import Survey
        from ante_backend.migration_settings import derived_keys, main_key
        from ante_backend.plausibility import KeyRing, single_fingerprint

        settings = self.settings()
        _check_hash_column(context.table.c.passwordHash.type, settings.over_72_bytes)
        if next(context.scan((), self.pending(context.table)), None) is None:
            if next(context.scan((), self._comparable(context.table)), None) is not None:
                main_key(settings)  # verification will want it: better refused now than failed then
            return
        keys = derived_keys(settings)
        pinned = _PIN in context.pins
        fingerprint = single_fingerprint(keys[0][1], self.name)
        if pinned:
            context.pin(_PIN, fingerprint)  # refuses another key than this generation began with
        survey = Survey(KeyRing(keys), settings.over_72_bytes)
        for row in _legacy_rows(context):
            survey.add(row)
        for identity, code in survey.held_ids.items():
            context.foresee((identity,), code)
        context.allowed_issues = allowed_issues(survey.rows)
        judge(
            survey,
            main_key(settings),
            canaries=[_known(context, canary.username, canary.password, canary.line) for canary in settings.canaries],
            pinned=pinned,
            max_issues=context.max_issues,
            ask=lambda: _asked(context),
        )
        context.pin(_PIN, fingerprint)
        for warning in [*warnings(survey), *_shared_ivs(context)]:
            context.log.warning(warning)
        context.log.info(
            "%d accounts to migrate, %d of them to be held; %d have no password here",
            *(survey.pending, survey.would_hold, survey.without_password),
        )

    # The work, in the workers

    def setup_worker(self) -> None:
        """Derive the keys: 30 ms each, so once a worker."""
        from ante_backend.migration_settings import derived_keys
        from ante_backend.plausibility import KeyRing

        settings = self.settings()
        self._ring = KeyRing(derived_keys(settings))
        self._cost, self._over_72 = settings.bcrypt_cost, settings.over_72_bytes

    def transform(self, row: Row) -> Mapping[str, Any]:
        """The hash of the exact bytes behind the ciphertext; raises RowIssue when that is not beyond doubt."""
        from ante_backend import passwords
        from ante_backend.faults import RowFault
        from ante_backend.legacy_cipher import parse_ciphertext, parse_iv

        try:
            if row.passwordHash:
                raise RowFault("unrecognised_hash")
            opened = self._ring.open(parse_ciphertext(row.password), parse_iv(row.key))
            return {"passwordHash": passwords.hash_password(opened.text.encode(), self._cost, self._over_72)}
        except RowFault as fault:
            raise RowIssue(fault.code, fault.message) from None

    # Afterwards

    def verify(self, context: BatchContext) -> bool:  # type: ignore[override]
        """Whether each hash of a random sample is that of the password which its account's ciphertext hides.

        Accounts whose ciphertext is cleared have nothing to compare with. The log names those that fail.
        """
        from ante_backend.cores import usable_cores
        from ante_backend.hash_audit import HashAudit, random_sample
        from ante_backend.migration_settings import main_key

        settings = self.settings()
        rows = random_sample(context.scan(self.reads, self._comparable(context.table)), settings.verify_sample)
        if not rows:
            context.log.info("no account has both a hash and an encrypted password: nothing to compare with")
            return True
        audit = HashAudit([main_key(settings), *settings.encryption_keys_old], settings.over_72_bytes)
        with ThreadPoolExecutor(usable_cores()) as pool:  # bcrypt runs beside Python
            good = pool.map(lambda found: audit.opens(found[1].password, found[1].key, found[1].passwordHash), rows)
        failed = [key[0] for (key, _), opens in zip(rows, good, strict=True) if opens is False]
        for identity in failed:
            context.log.error("account %s: the stored hash is not that of its encrypted password", identity)
        context.log.info("%d of %d sampled hashes open with their passwords", len(rows) - len(failed), len(rows))
        return not failed


def _check_hash_column(kind: sa.types.TypeEngine[Any], over_72: str) -> None:
    needed = _PREHASH_LENGTH if over_72 == "prehash" else _HASH_LENGTH
    if not isinstance(kind, sa.String):
        problem = "is not text"
    elif isinstance(kind, sa.CHAR):
        problem = "has a fixed width, which pads what it stores"
    elif kind.length is not None and kind.length < needed:
        problem = f"holds {kind.length} characters, and a hash has {needed}"
    else:
        return
    raise Refused(f'Column "passwordHash" of "Account" {problem}: make it VARCHAR(255).')


def _legacy_rows(context: BatchContext) -> Iterator[LegacyRow]:
    from ante_backend.key_survey import LegacyRow

    dated = "createdAt" in context.table.c
    columns = ("password", "key", "passwordHash", *(("createdAt",) if dated else ()))
    total = context.connection.scalar(sa.select(sa.func.count()).select_from(context.table))
    for number, (key, row) in enumerate(context.scan(columns), start=1):
        if number % _PROGRESS_ROWS == 0:
            context.progress(number, total)
        yield LegacyRow(key[0], row.createdAt if dated else None, row.password, row.key, row.passwordHash)


def _known(context: BatchContext, name: str, password: str, line: int | None = None) -> Known:
    """The accounts that a claim "this is the account's password" may mean, looked up as the login does it."""
    from ante_backend.key_preflight import Known
    from ante_backend.key_survey import LegacyRow

    t = context.table
    found = context.scan(("password", "key"), (t.c.username == name) | (t.c.email == name))
    source = "The answer" if line is None else f"ENCRYPTION_CANARY line {line}"
    return Known(source, [LegacyRow(key[0], None, row.password, row.key) for key, row in found], password)


def _asked(context: BatchContext) -> Known | None:
    name = context.ask(
        "The accounts alone do not prove ENCRYPTION_KEY. Username or e-mail of one whose password you know:"
    )
    password = context.ask("Its password:") if name else None
    return _known(context, name, password) if name and password else None


def _shared_ivs(context: BatchContext) -> Iterator[str]:
    t = context.table
    shared = (
        sa.select(sa.func.count().label("accounts"))
        .where(t.c.password.is_not(None), t.c.key.is_not(None))
        .group_by(t.c.key)
        .having(sa.func.count() > 1)
        .subquery("shared")
    )
    accounts = context.connection.scalar(sa.select(sa.func.sum(shared.c.accounts)))
    if accounts:
        yield f"{int(accounts):,} accounts share an IV with another: their ciphertexts share a keystream"
