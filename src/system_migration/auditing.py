"""What a migrator says of its audit chain: whether it holds, and all of it as evidence to be kept elsewhere."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path

from system_migration import exporting, proving
from system_migration.audit_trail import Evidence, Head
from system_migration.errors import AuditKeyError, ConfigurationError, MigrationSystemError
from system_migration.records import AuditVerdict
from system_migration.settings import Settings
from system_migration.signing import AuditKey
from system_migration.store import chain_pages, tables, tracking
from system_migration.store.database import Database
from system_migration.tracked import Tracked


class Auditing:
    """The verbs about the chain that only read. Each reads all events once, page by page."""

    settings: Settings
    _database: Database
    _tracked: Tracked

    def audit_verify(self, head: str | None = None) -> AuditVerdict:
        """Check every link of this database's audit chain, up to the first that does not hold.

        With `head`, an exported head (a file, or its text), the end too. Raises `AuditKeyError` without the key,
        or with another one than the chain's. Writes nothing, takes no lock.
        """
        keys, exported = keys_of(self.settings), exporting.exported_head(head) if head else None
        if not self._demand_chain():
            return judge(NO_CHAIN, keys, exported)
        with self._database.read() as connection:
            return judge(chain_pages.evidence(connection), keys, exported)

    def audit_export(self) -> Iterator[str]:
        """The lines of an export, each a JSON document: all events in order, then the head. Needs no key.

        The connection is given back when the last line is taken, or the iterator closed.
        """
        if not self._demand_chain():
            yield from exporting.lines(NO_CHAIN, self._tracked.environment)
            return
        with self._database.read() as connection:
            yield from exporting.lines(chain_pages.evidence(connection), self._tracked.environment)

    def _demand_chain(self) -> bool:
        """Whether anything was ever written here. Raises `MigrationSystemError` where that was without a chain."""
        binding = tracking.find_binding(self._database)
        if binding is not None and binding.schema_version < tables.WITH_CHAIN:
            raise MigrationSystemError(
                f"The tracking tables have version {binding.schema_version}, which has no audit chain. "
                "`migration init`, or the next run, brings them forward."
            )
        if damage := tracking.explain(self._database):
            raise MigrationSystemError(damage)
        return binding is not None


NO_CHAIN = Evidence(Head("", 0, 0, None, None, None), 0, [], lambda: iter(()), lambda: iter(()))
"""Of a database to which nothing was ever written."""


def verify_file(settings: Settings, file: str, head: str | None = None) -> AuditVerdict:
    """As `audit_verify`, of an export: no database is asked."""
    keys, exported = keys_of(settings), exporting.exported_head(head) if head else None
    return judge(exporting.read(Path(file)), keys, exported)


def keys_of(settings: Settings) -> builtins.list[AuditKey]:
    """The key in use, and the earlier ones. Raises `AuditKeyError` without one."""
    if settings.audit_key is None:
        raise AuditKeyError(
            "The audit chain can be checked with its key only. Set MIGRATION_AUDIT_KEY to the one that its events are "
            "signed with."
        )
    return [settings.audit_key, *settings.audit_keys_old]


def judge(evidence: Evidence, keys: builtins.list[AuditKey], exported: Head | None) -> AuditVerdict:
    """The verdict. Raises a `ConfigurationError` where key, chain and exported head do not belong together."""
    head = evidence.head
    if head is not None and head.key not in (None, keys[0].id):
        raise AuditKeyError(
            f"The key does not match: the chain is signed with {head.key}, and MIGRATION_AUDIT_KEY is {keys[0].id}. "
            "Give the chain's key; if this is it, the head of the chain was changed."
        )
    if exported is not None and not any(map(exported.is_sealed_by, keys)):
        raise ConfigurationError("The exported head bears no signature of this key. Give it as it was exported.")
    if exported is not None and head is not None and head.chain not in ("", exported.chain):
        raise ConfigurationError(
            "The exported head is of another database's chain. Give one that was exported here; if it "
            "is, the head of the chain was changed."
        )
    return proving.check(evidence, keys, exported)
