"""Which workers of a cluster can do a migration, by what they answered, and in which words to say who cannot. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from system_migration.batching.cluster_worker import versions

_NAMED = 5
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Examined:
    """A worker that was examined. `trouble` is what keeps it from working, as a sentence, or None."""

    address: str
    name: str
    threads: int
    trouble: str | None


def examined(answers: Mapping[str, Mapping[str, Any] | BaseException], workers: Mapping[str, int]) -> list[Examined]:
    """The workers that are still there, by their answers to `cluster_worker.examine`.

    One that was lost meanwhile is not listed: it comes again, or it does not.
    """
    return [
        Examined(address, _name(address, answer), workers[address], trouble(answer))
        for address, answer in answers.items()
        if not isinstance(answer, OSError)
    ]


def trouble(answer: Mapping[str, Any] | BaseException) -> str | None:
    """Why the worker that gave this answer cannot work, as a sentence; None when it can."""
    if isinstance(answer, ImportError):
        return f"it has no package {answer.name or 'system_migration'}: install the same as here."
    if isinstance(answer, BaseException):
        return f"it could not be asked ({type(answer).__name__}): install the same there as here."
    for what, ours in versions().items():
        theirs = answer.get("versions", {}).get(what)
        if theirs != ours:
            return f"it has {what} {theirs}, and here is {ours}: install the same."
    found = answer.get("trouble")
    return None if found is None else str(found)


def refusal(unfit: Sequence[Examined]) -> str:
    """Why a run was not started."""
    named = " ".join(sentence(each) for each in unfit[:_NAMED])
    more = f" So it is with {len(unfit) - _NAMED} more." if len(unfit) > _NAMED else ""
    return f"{named}{more} Nothing was started; mend or stop it, or start without --dask."


def sentence(each: Examined) -> str:
    """Which worker cannot work, and why."""
    return f"Worker {each.name} cannot work for this run: {each.trouble}"


def staff(names: Sequence[str], lost: int) -> str:
    """`2 workers: a, b; 1 lost`: how many there are, the first of them by name, and how many were lost."""
    count = f"{len(names)} worker{'' if len(names) == 1 else 's'}"
    shown = [*sorted(names)[:_NAMED], *(["..."] if len(names) > _NAMED else [])]
    return f"{count}{': ' if names else ''}{', '.join(shown)}{f'; {lost} lost' if lost else ''}"


def _name(address: str, answer: Mapping[str, Any] | BaseException) -> str:
    """The name it was started with, or its address."""
    given = "" if isinstance(answer, BaseException) else str(answer.get("name", ""))
    return (given if given.isprintable() and given else address)[:_LONGEST_NAME]
