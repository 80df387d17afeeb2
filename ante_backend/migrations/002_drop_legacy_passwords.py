"""The contract step: the reversible passwords go, for good, wherever a proven hash has taken their place.

Decided here, where the specification leaves it open:

- An account is pending while it has a ciphertext or an IV. What cannot be cleared is held, so that `issues` lists it,
  every status counts it, and `retry` tries it again once it is mended.
- Proven means: the hash is of a known form, and it opens with what one of the keys makes of the ciphertext. Every
  account is proven so, one bcrypt each, because nothing can be proven afterwards. That takes as long as making
  the hashes did; a run may be stopped and continued at any time.
- `stale_hash`: the ciphertext hides another password than the hash's. Something still writes the old columns, and
  what it wrote is the account's newest password, so it must not be lost.
- `no_hash`: the ciphertext is all the account has. If 001-password-bcrypt could still hash it, the run is refused.
- Held accounts need --max-issues, be they one: unlike in 001 nobody is waiting for this run.
- An IV without a ciphertext hides nothing and is cleared.
- Afterwards no password is left to compare with: verification says that nothing reversible is left but what is held.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from system_migration import BatchContext, BatchMigration, Refused, Row, RowIssue

if TYPE_CHECKING:
    from ante_backend.release import Release
    from ante_backend.settings import HostSettings

_FIRST = "001-password-bcrypt"
_PIN = "ENCRYPTION_KEY"


class DropLegacyPasswords(BatchMigration):
    """Clears the reversible columns of every account whose hash is proven; all others stay as they are."""

    name = "002-drop-legacy-passwords"
    version = "1.0.0"
    description = "Deletes the reversible passwords whose bcrypt hashes are proven, for good"
    rollbackable = False
    manual = True
    requires = (_FIRST,)
    table = "Account"
    reads = ("password", "key", "passwordHash")
    writes = ("password", "key")
    sensitive = ("password", "key", "passwordHash")

    def settings(self) -> HostSettings:
        """The host's settings; raises Refused when a variable cannot be used."""
        from ante_backend.migration_settings import host_settings

        return host_settings()

    def pending(self, t: sa.FromClause) -> sa.ColumnElement[bool]:
        return t.c.password.is_not(None) | t.c.key.is_not(None)

    # Before the first write

    def preflight(self, context: BatchContext) -> None:  # type: ignore[override]
        """Refuse unless 001 has been observed long enough, left nothing to do, and the keys open its hashes."""
        from ante_backend.migration_settings import derived_keys
        from ante_backend.plausibility import single_fingerprint
        from ante_backend.release import Release

        if next(context.scan((), self.pending(context.table)), None) is None:
            return  # and no key is needed any more
        settings = self.settings()
        pinned = _PIN in context.pins
        if not pinned:  # what was begun in time may be finished, and its held accounts tried again
            _check_observed(context.completed_at(_FIRST), settings.observation_days)
        keys = derived_keys(settings)
        context.pin(_PIN, single_fingerprint(keys[0][1], self.name))  # refuses another key than was begun with
        release = Release(keys, settings.over_72_bytes)
        held = Counter(self._without_hash(context, release))
        held += self._sampled(context, release, settings.verify_sample, prove_keys=not pinned)
        self._check_held(held, context.max_issues or 0)
        pending = sa.select(sa.func.count()).select_from(context.table).where(self.pending(context.table))
        context.log.warning(
            "this deletes the reversible passwords of %s for good: no rollback brings them back, only a backup",
            _accounts((context.connection.scalar(pending) or 0) - held.total()),
        )

    def _without_hash(self, context: BatchContext, release: Release) -> Iterator[str]:
        """Why each account keeps its ciphertext that has no hash of a known form. Raises Refused for 001's work."""
        from ante_backend.hash_audit import is_well_formed
        from ante_backend.key_survey import NAMED

        t = context.table
        no_hash = t.c.passwordHash.is_(None) | ~is_well_formed(t.c.passwordHash)
        for key, row in context.scan(self.reads, t.c.password.is_not(None) & no_hash):
            if not row.passwordHash and release.could_be_hashed(row.password, row.key):
                raise Refused(
                    f"Account {key[0]}, and perhaps others, has no hash yet, and {_FIRST} can make it. Run it again "
                    f"first: `migration run {_FIRST}`."
                )
            code = "unrecognised_hash" if row.passwordHash else "no_hash"
            if len(context.foreseen) < NAMED:
                context.foresee(key, code)
            yield code

    def _sampled(self, context: BatchContext, release: Release, size: int, *, prove_keys: bool) -> Counter[str]:
        """Why some of a random sample of the accounts with a hash would be held. Raises Refused if all would."""
        from ante_backend.cores import usable_cores
        from ante_backend.hash_audit import is_well_formed, random_sample

        t = context.table
        rows = random_sample(
            context.scan(self.reads, t.c.password.is_not(None) & is_well_formed(t.c.passwordHash)), size
        )
        with ThreadPoolExecutor(usable_cores()) as pool:  # bcrypt runs beside Python
            codes = list(pool.map(lambda found: _code(release, found[1]), rows))
        held = {key: code for (key, _), code in zip(rows, codes, strict=True) if code is not None}
        if prove_keys and rows and len(held) == len(rows):
            raise Refused(
                f"None of {len(rows):,} hashes that were tried opens with its encrypted password: ENCRYPTION_KEY is "
                "not the key of these accounts, or something still writes the old columns. Set the key that "
                f"{_FIRST} was run with."
            )
        for key, code in held.items():
            context.foresee(key, code)
        return Counter(held.values())

    def _check_held(self, held: Counter[str], allowed: int) -> None:
        """Refuse when more accounts would keep their reversible password than the operator accepted."""
        if held.total() <= allowed:
            return
        codes = ", ".join(f"{count:,} {code}" for code, count in held.most_common())
        writer = " Something still writes the old columns: stop it first." if held["stale_hash"] else ""
        raise Refused(
            f"{_accounts(held.total())} would keep their reversible password ({codes}), and {allowed:,} may.{writer} "
            f"Mend them (`migration dry-run {self.name}` lists them), or, to leave them as they are and clear the "
            f"others, start again with --max-issues {held.total()}."
        )

    # The work, in the workers

    def setup_worker(self) -> None:
        """Derive the keys: 30 ms each, so once a worker."""
        from ante_backend.migration_settings import derived_keys
        from ante_backend.release import Release

        settings = self.settings()
        self._release = Release(derived_keys(settings), settings.over_72_bytes)

    def transform(self, row: Row) -> Mapping[str, Any]:
        """Nothing in place of the ciphertext and its IV; raises RowIssue when the hash is not beyond doubt."""
        from ante_backend.faults import RowFault

        try:
            _prove(self._release, row)
        except RowFault as fault:
            raise RowIssue(fault.code, fault.message) from None
        return {"password": None, "key": None}


def _prove(release: Release, row: Row) -> None:
    """Return if the account may lose its ciphertext, or has none; else raise RowFault."""
    if row.password is not None:
        release.prove(row.password, row.key, row.passwordHash)


def _code(release: Release, row: Row) -> str | None:
    """Why the account must keep its ciphertext, or None."""
    from ante_backend.faults import RowFault

    try:
        _prove(release, row)
    except RowFault as fault:
        return fault.code
    return None


def _check_observed(completed: datetime | None, days: int) -> None:
    """Refuse before so many days have passed in which the hashes alone had to do."""
    if not days:
        return
    if completed is None:
        raise Refused(
            f"{_FIRST} did not complete here, so nothing tells how long its hashes have been in use. Run it first, or "
            "where another way made the hashes, set LEGACY_OBSERVATION_DAYS=0."
        )
    left = completed + timedelta(days=days) - datetime.now(UTC)
    if left > timedelta():
        raise Refused(
            f"{_FIRST} completed at {completed:%Y-%m-%d %H:%M} UTC, and is to be observed for {days} days: the "
            f"reversible passwords are what a bad run is repaired from. Start again in {left.days + 1} days, or set "
            "LEGACY_OBSERVATION_DAYS to less."
        )


def _accounts(number: int) -> str:
    return f"{number:,} account{'' if number == 1 else 's'}"
