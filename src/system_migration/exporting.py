"""The audit chain as a file: one JSON document a line, its head the last. Written here, and read again to be judged."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from system_migration.audit_trail import ADOPTED, EventRow, Evidence, Head, Link, renamings_of, seals_for_adoption
from system_migration.errors import ConfigurationError

_NO_EXPORT = "{} is no export of `migration audit export`: line {} cannot be read. Give the file as it was written."


def lines(evidence: Evidence, environment: str) -> Iterator[str]:
    """The lines, without their ends: the events from before the chain, those in it, and the head."""
    for event in evidence.older():
        yield _line({"position": None, **_told(event.id, event), "mac": None})
    end = evidence.head.position if evidence.head else 0
    for link in evidence.links():
        if link.position <= max(end, evidence.last):
            yield _line({"position": link.position, **_told(link.event_id, link.event), "mac": link.mac})
    head = evidence.head
    place = None if head is None else {"chain": head.chain, "position": head.position, "linked": head.linked}
    yield _line({"head": place and {"environment": environment, **place, **_signature(head)}})


def _signature(head: Head | None) -> dict[str, Any]:
    return {} if head is None else {"mac": head.mac, "key": head.key, "seal": head.seal}


def _told(event_id: int, event: EventRow | None) -> dict[str, Any]:
    """An event as REST has it, and all that is signed of it: the time to the microsecond, the detail to the letter."""
    if event is None:
        return {"id": event_id, "missing": True}
    at = event.at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    told = event.told()
    return {
        "id": event.id,
        "environment": event.environment,
        "migration": event.name,
        "runId": event.run_id,
        "at": at,
        "action": event.action,
        "actor": event.actor,
        "host": event.host,
        # As an object where that gives back the very text; else the text.
        "detail": told if _detail_text(told) == event.detail else event.detail,
    }


def _detail_text(told: Mapping[str, Any] | str) -> str:
    return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document)


def read(file: Path) -> Evidence:
    """The evidence in an export. Raises `ConfigurationError` where the file cannot be read as one."""
    head, last, signed = None, 0, 0  # `signed`: the last signed place that an adoption as the next event would rename
    adoptions: list[tuple[int, EventRow]] = []
    for document in _documents(file):
        if "head" in document:
            head = _head(document["head"])
            continue
        link = _link(document)
        last = max(last, link.position)
        if link.event is not None and link.event.action == ADOPTED and link.position:
            adoptions.append((signed, link.event))
        signed = link.position if link.mac and not seals_for_adoption(link.event) else signed

    def every() -> Iterator[Link]:
        return (_link(document) for document in _documents(file) if "head" not in document)

    return Evidence(
        head=head,
        last=last,
        renamings=renamings_of(adoptions),
        older=lambda: (link.event for link in every() if not link.position and link.event is not None),
        links=lambda: (link for link in every() if link.position),
    )


def _documents(file: Path) -> Iterator[dict[str, Any]]:
    number = 1
    try:
        with file.open(encoding="utf-8") as opened:
            for line in opened:
                document = json.loads(line)
                if not isinstance(document, dict) or not document.keys() & {"head", "position"}:
                    raise ValueError
                yield document
                number += 1
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror}). Give the file of an export.") from None
    except ValueError:
        raise ConfigurationError(_NO_EXPORT.format(file, number)) from None


def _link(document: Mapping[str, Any]) -> Link:
    try:
        event = None if document.get("missing") else _event(document)
        return Link(int(document["position"] or 0), int(document["id"]), document["mac"], event)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"An event of the export lacks a part of it, or has one of another kind ({type(error).__name__}). "
            "Give the file as `migration audit export` wrote it."
        ) from None


def _event(document: Mapping[str, Any]) -> EventRow:
    return EventRow(
        id=document["id"],
        environment=document["environment"],
        name=document["migration"],
        run_id=document["runId"],
        at=datetime.fromisoformat(document["at"].replace("Z", "+00:00")),
        action=document["action"],
        actor=document["actor"],
        host=document["host"],
        detail=_detail_text(document["detail"]),
    )


def _head(told: Mapping[str, Any] | None) -> Head | None:
    if told is None:
        return None
    try:
        place = str(told["chain"]), int(told["position"]), int(told["linked"])
        return Head(*place, told["mac"], told["key"], told["seal"])
    except (KeyError, TypeError, ValueError):
        raise ConfigurationError("The exported head lacks a part of it. Give it as it was exported.") from None


def _last_line(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        last = deque((line for line in opened if line.strip()), maxlen=1)
    return last.pop() if last else ""


def exported_head(given: str) -> Head:
    """The head in an exported file, or in the text of its last line. Raises `ConfigurationError` for anything else."""
    text = given.strip()
    try:
        if not text.startswith("{"):
            text = _last_line(Path(given))
        document = json.loads(text)
        head = _head(document.get("head", document)) if isinstance(document, dict) else None
    except OSError as error:
        raise ConfigurationError(
            f"{given} cannot be read ({error.strerror}). Give the file of an export, or the text of its last line."
        ) from None
    except ValueError:
        head = None
    if head is None:
        raise ConfigurationError(
            "--head is neither an export nor a head. Give the file that `migration audit export` wrote, or the text of "
            "its last line."
        )
    return head
