"""What a dry-run report is evidence for: a hash over code, parameters and counts, and what still fits it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from system_migration import code
from system_migration.migration import Migration
from system_migration.records import Approval, DryRunReport, RunOptions, as_json

_PRESENTATION = ("wait", "verbose", "unattended")
"""Options that change neither what is written nor how: they are in no hash, and may differ at the start."""
_OF_A_RETRY = ("heldOnly", "keys")
"""Which of the rows that the approved run held are tried again: all of them were looked at before it."""
_COUNTS = ("rows", "examined", "complete", "wouldChange", "wouldHold", "unchanged")


def parameters(options: RunOptions) -> dict[str, Any]:
    """What was said of a start that decides what is changed, or how; in camelCase, in the order of the names.

    A range of keys is among it, and no dry run has one: what was looked at as a whole is approved as a whole.
    """
    said = options.given()
    return {name: said[name] for name in sorted(said) if name not in (*_PRESENTATION, *_OF_A_RETRY)}


def code_of(migration: type[Migration]) -> str:
    """What tells a migration's code from any other: that of its file, and of the files of classes that it inherits."""
    return code.with_bases(migration)


def sealed(
    report: DryRunReport, migration: type[Migration], environment: str, generation: int, options: RunOptions
) -> DryRunReport:
    """The report with its hash, and what that is over beside the counts. A refused or failed one gets none."""
    if report.refusal is not None or report.error is not None or report.undoing:
        return report
    basis = {
        "version": migration.version,
        "code": code_of(migration),
        "environment": environment,
        "generation": generation,
        "parameters": parameters(options),
    }
    whole = replace(report, basis=basis)
    return replace(whole, hash=digest(as_json(whole)))


def digest(report: Mapping[str, Any]) -> str:
    """The SHA-256, in hex, of a report in its JSON form: of its name, its counts, and its `basis`."""
    said = {name: report.get(name) for name in ("name", *_COUNTS, "basis")}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def outdated(basis: Mapping[str, Any], migration: type[Migration], generation: int) -> str | None:
    """Why a report with this basis says nothing of a run as it would be now, as the end of a sentence; or None."""
    if basis["generation"] != generation:
        return "the migration was reset or rolled back since"
    if code.source(migration) is None:
        return "its source cannot be read here, so nothing tells what would run"
    return "its file has changed since" if basis["code"] != code_of(migration) else None


def differences(approval: Approval, options: RunOptions) -> str | None:
    """The parameters, in words, in which a start differs from the dry run that was approved; None without any."""
    asked, approved = parameters(options), approval.parameters
    others = sorted(name for name in {*asked, *approved} if asked.get(name) != approved.get(name))
    return ", ".join(map(_words, others)) or None


def _words(name: str) -> str:
    """`batchSize` as two words."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
