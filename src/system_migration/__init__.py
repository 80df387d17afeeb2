"""System Migration: change production data exactly once.

The public names. Each is imported when it is first used, so that a command that needs no database loads none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from system_migration.background import Background as Background
    from system_migration.batch_migration import BatchContext as BatchContext
    from system_migration.batch_migration import BatchMigration as BatchMigration
    from system_migration.batch_migration import Row as Row
    from system_migration.batch_migration import RowIssue as RowIssue
    from system_migration.discovery import discover as discover
    from system_migration.engines import connect as connect
    from system_migration.errors import ConfigurationError as ConfigurationError
    from system_migration.errors import HeldElsewhere as HeldElsewhere
    from system_migration.errors import MigrationFailed as MigrationFailed
    from system_migration.errors import MigrationSystemError as MigrationSystemError
    from system_migration.errors import Refused as Refused
    from system_migration.migration import Migration as Migration
    from system_migration.migration import MigrationContext as MigrationContext
    from system_migration.migration import MigrationResult as MigrationResult
    from system_migration.migration import MigrationRollbackResult as MigrationRollbackResult
    from system_migration.migrator import Migrator as Migrator
    from system_migration.notifications import Notification as Notification
    from system_migration.records import RunOptions as RunOptions
    from system_migration.registry import Registry as Registry
    from system_migration.schema_changes import SchemaChanges as SchemaChanges
    from system_migration.settings import Settings as Settings
    from system_migration.settings import read_settings as read_settings
    from system_migration.startup import Startup as Startup
    from system_migration.startup import migrate_on_startup as migrate_on_startup
    from system_migration.states import Status as Status

_HOMES = {
    "Background": "background",
    "BatchContext": "batch_migration",
    "BatchMigration": "batch_migration",
    "ConfigurationError": "errors",
    "HeldElsewhere": "errors",
    "Migration": "migration",
    "MigrationContext": "migration",
    "MigrationFailed": "errors",
    "MigrationResult": "migration",
    "MigrationRollbackResult": "migration",
    "MigrationSystemError": "errors",
    "Migrator": "migrator",
    "Notification": "notifications",
    "Refused": "errors",
    "Registry": "registry",
    "Row": "batch_migration",
    "RowIssue": "batch_migration",
    "RunOptions": "records",
    "SchemaChanges": "schema_changes",
    "Settings": "settings",
    "Startup": "startup",
    "Status": "states",
    "connect": "engines",
    "discover": "discovery",
    "migrate_on_startup": "startup",
    "read_settings": "settings",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
