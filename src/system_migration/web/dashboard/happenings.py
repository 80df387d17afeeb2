"""What the audit says, in words: an action, and what was noted with it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from system_migration import wording
from system_migration.approvals import SHOWN_DIGITS
from system_migration.records import Event
from system_migration.web.dashboard import figures

_ACTIONS = {
    "run_started": "started a run",
    "rollback_started": "began to roll it back",
    "dry-run_started": "started a dry run",
    "verify_started": "started a verification",
    "takeover": "took an unfinished run over",
    "completed": "completed it",
    "verified": "verified it",
    "rolled_back": "rolled it back",
    "failed": "the run failed",
    "refused": "was refused",
    "paused": "the run paused",
    "cancelled": "cancelled it",
    "interrupted": "the run was interrupted",
    "skipped": "skipped it",
    "reset": "reset it",
    "released": "let held rows be tried again",
    "pause_asked": "asked it to pause",
    "cancel_asked": "asked it to end",
    "pause_at_once": "paused it",
    "cancel_at_once": "cancelled it",
    "pause_withdrawn": "took the pause back",
    "request_came_too_late": "what was asked of the run came too late",
    "prune_started": "began to prune its journal",
    "pruned": "pruned its journal",
    "adopted": "adopted the database",
    "approve": "approved a dry run",
    "withdraw-approval": "withdrew the approval",
    "sealed": "vouched for what was written before, with the audit key",
}
_OURS = (
    *("door", "request", "named", "fence", "look", "version", "code", "generation"),
    *("ahead", "digest", "olderDigest", "olderLast"),
)
"""What is noted for programs only."""


def deed(event: Event) -> str:
    """What was done; an action that this version does not know by its own name."""
    if event.action == "run_started" and _options(event).get("heldOnly"):
        return "started a retry"
    if event.action == "verified" and event.detail.get("verified") is False:
        return "found it not verified"
    return _ACTIONS.get(event.action, event.action.replace("_", " "))


def remarks(event: Event) -> list[str]:
    """What was noted with it, each a few words."""
    return [text for name, noted in event.detail.items() if name not in _OURS for text in _remark(name, noted)]


def _options(event: Event) -> Mapping[str, Any]:
    options = event.detail.get("options")
    return options if isinstance(options, Mapping) else {}


def _remark(name: str, noted: Any) -> Iterator[str]:
    match name, noted:
        case _, None:
            return
        case "report", str():
            yield f"report {noted[:SHOWN_DIGITS]}"
        case "identity", str():
            yield f"proven by {'an' if noted == 'account' else 'a'} {noted}"
        case "options" | "parameters", Mapping():
            for option, said in noted.items():
                if option == "keys":
                    yield wording.counted(len(said), "chosen row")
                elif option != "heldOnly":
                    yield _spaced(option) if said is True else f"{_spaced(option)} {_number(said)}"
        case "reason" | "note", str():
            yield noted
        case "status", str():
            yield f"was {noted.replace('_', ' ')}"
        case "died", bool():
            yield "its runner had died" if noted else "its runner had stopped"
        case "verified", bool():
            yield "verified" if noted else "not verified"
        case "issues" | "held" | "listed", 0:
            return
        case "issues" | "held", int():
            yield f"{wording.counted(noted, 'row')} held"
        case "rows", int():
            yield wording.counted(noted, "row")
        case "restored", int():
            yield f"{wording.counted(noted, 'row')} restored"
        case "listed", int():
            yield f"{wording.counted(noted, 'row')} not restored"
        case _:
            yield f"{_spaced(name)} {wording.value(noted)}"


def _spaced(name: str) -> str:
    """`batchSize` as two words."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).replace("_", " ").strip()


def _number(said: Any) -> str:
    return wording.value(figures.plain(said) if isinstance(said, float) else said)
