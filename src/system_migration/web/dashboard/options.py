"""The options of a start as fields of a form: what the API takes, with its own limits and descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from system_migration.errors import MigrationSystemError
from system_migration.records import RunOptions
from system_migration.web.dashboard import figures
from system_migration.web.dashboard.forms import Form
from system_migration.web.queries import (
    ContinueQuery,
    RollbackQuery,
    RunOneQuery,
    VerifyQuery,
)

MODELS: dict[str, type[VerifyQuery]] = {
    "run": RunOneQuery,
    "rollback": RollbackQuery,
    "resume": ContinueQuery,
    "retry": ContinueQuery,
    "verify": VerifyQuery,
}
"""What each verb that starts something takes."""

_LATER = ("batch_size", "workers", "processes", "max_rate", "max_issues", "max_rows", "stop_after_issues")
_FIXED = ("from_key", "to_key", "allow_scan", "accept_code_change", "allow_environment", "verbose")
_LABELS = {
    "batch_size": "Batch size",
    "workers": "Workers",
    "processes": "Processes",
    "max_rate": "Rate limit",
    "max_issues": "Held rows allowed",
    "max_rows": "Row limit",
    "stop_after_issues": "Held rows to stop at",
    "from_key": "First key",
    "to_key": "Last key",
    "allow_scan": "Allow scans",
    "accept_code_change": "Accept the code change",
    "allow_environment": "Allow another environment",
    "verbose": "Log every step",
}


class FieldErrors(MigrationSystemError):
    """Fields of a form that cannot be taken, each with a sentence; nothing was started."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("Look at what is marked.")
        self.errors = dict(errors)


@dataclass(frozen=True)
class Field:
    """A field of the form: `kind` is number, text or tick; `step` is that of a number."""

    name: str
    label: str
    hint: str
    kind: str
    step: str | None = None


def changeable(verb: str) -> list[Field]:
    """The options that a later start of the same run may give anew."""
    return list(_fields(verb, _LATER))


def fixed(verb: str) -> list[Field]:
    """The options that a run keeps, or that are said anew at each start."""
    return list(_fields(verb, _FIXED))


def names(verb: str) -> list[str]:
    """The names of all of them, as the form sends them."""
    return [field.name for field in (*changeable(verb), *fixed(verb))]


def are_in(verb: str, form: Form) -> bool:
    """Whether the form asks for them: a plain button has none of their fields, a form all that are typed in."""
    return any(form.has(name) for name in names(verb))


def as_started(verb: str, start: RunOptions) -> dict[str, str]:
    """What an earlier start said of the options that can be given anew, as their fields have it."""
    said = start.given()
    return {field.name: figures.plain(said[field.name]) for field in changeable(verb) if field.name in said}


def read_options(verb: str, form: Form) -> VerifyQuery:
    """What the form says of them. Raises `FieldErrors`."""
    given = {name: value for name in names(verb) if (value := form.one(name)) is not None}
    try:
        return MODELS[verb].model_validate(given)
    except ValidationError as error:
        wrong = {str(each["loc"][0]): _plain(str(each["msg"])) for each in error.errors()}
        listed = [field for field in (*changeable(verb), *fixed(verb)) if field.name in wrong]
        raise FieldErrors({field.name: f"{field.label}: {wrong[field.name]}." for field in listed}) from None


def _fields(verb: str, wanted: tuple[str, ...]) -> Iterator[Field]:
    known = MODELS[verb].model_fields
    for name in wanted:
        if name in known:
            yield _field(name, known[name])


def _field(name: str, info: FieldInfo) -> Field:
    hint, alias = info.description or "", str(info.alias)
    if info.annotation is bool:
        return Field(alias, _LABELS[name], hint, "tick")
    if "str" in str(info.annotation):
        return Field(alias, _LABELS[name], hint, "text")
    return Field(alias, _LABELS[name], hint, "number", "any" if "float" in str(info.annotation) else "1")


def _plain(message: str) -> str:
    """What is wrong, in the words of a form."""
    return message.partition(", unable to")[0].replace("Input should be", "it should be")
