"""The query parameters of the routes. What a route does not know is refused: `dryrun` must not become a real run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Self, get_args, get_origin

from fastapi import Path, Query, Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from system_migration.migrator import KEYS_AT_ONCE
from system_migration.records import RunOptions
from system_migration.web.refusals import InvalidRequest

_MANY = 1_000_000_000_000
LONGEST_WAIT = 60.0
Name = Annotated[str, Path(description="The migration's name.")]
RunId = Annotated[str, Path(description="The run's id.")]
Count = Annotated[int, Field(ge=0, le=_MANY)]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]
_NO_NUL = r"^[^\x00]*$"


def refuse_unknown(request: Request) -> None:
    """Raise `InvalidRequest` for a query parameter that the route does not have, or that is given twice.

    The same one may come several times only where the route takes a list of it.
    """
    dependant = request.scope["route"].dependant
    known, lists = set(_names(dependant)), set(_lists(dependant))
    given = [name for name, _ in request.query_params.multi_items()]
    if set(given) - known:
        which = f"It takes {', '.join(sorted(known))}" if known else "It takes none"
        raise InvalidRequest(f"The query has a parameter that this route does not know. {which}; case matters.")
    once = [name for name in given if name not in lists]
    if len(once) > len(set(once)):
        raise InvalidRequest("The query gives a parameter twice. Give it once.")


def _names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from (field.alias or name for name, field in model.model_fields.items())
        else:
            yield parameter.alias
    for each in dependant.dependencies:
        yield from _names(each)


def _lists(dependant: Dependant) -> Iterator[str]:
    """The names of the parameters that may come several times."""
    for parameter in dependant.query_params:
        model = parameter.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = model.model_fields.items()
            yield from (field.alias or name for name, field in fields if _is_list(field.annotation))


def _is_list(annotation: Any) -> bool:
    return tuple in (get_origin(annotation), *map(get_origin, get_args(annotation)))


class _Options(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    def options(self) -> RunOptions:
        """What was said at this start."""
        known = RunOptions.__dataclass_fields__
        values: dict[str, Any] = {name: value for name, value in self.model_dump().items() if name in known}
        return RunOptions(**values | {"wait": False})


class VerifyQuery(_Options):
    """Of a verification."""

    wait: float = Field(0, ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end before answering 202.")


class _StartQuery(VerifyQuery):
    confirm: str | None = Field(
        None, max_length=64, description="The environment's name; without it nothing starts in production."
    )
    verbose: bool = Field(False, description="Log every step.")
    max_rate: float | None = Field(None, gt=0, le=_MANY, allow_inf_nan=False, description="At most N rows a second.")
    max_issues: Count | None = Field(None, description="Accept that up to N rows stay held.")
    accept_code_change: bool = Field(False, description="Resume although the migration's code changed.")
    allow_environment: bool = Field(False, description="Act although the database belongs to another environment.")


class RollbackQuery(_StartQuery):
    """Of a rollback."""

    dry_run: bool = Field(False, description="Change no data: report what would be restored.")


class ContinueQuery(_StartQuery):
    """Of what goes on with work that was begun."""

    batch_size: int | None = Field(None, ge=1, le=100_000, description="Rows in a batch (default: adapts).")
    workers: int | None = Field(None, ge=1, le=64, description="How many batches are written at once.")
    processes: int | None = Field(None, ge=1, le=256, description="Transform rows in N processes.")
    max_rows: Count | None = Field(None, description="Stop before more than N rows are changed.")
    stop_after_issues: int | None = Field(None, ge=1, le=_MANY, description="Stop as soon as N rows are held.")
    allow_scan: bool = Field(False, description="Accept range queries that no index supports.")


class RetryQuery(ContinueQuery):
    """Of a retry."""

    keys: tuple[Annotated[str, Field(max_length=2000, pattern=_NO_NUL)], ...] | None = Field(
        None,
        alias="key",
        max_length=KEYS_AT_ONCE,
        description="Only the held row with this key; several columns: a JSON list. May be given several times.",
    )


class RunQuery(ContinueQuery):
    """Of a run of all that is pending."""

    dry_run: bool = Field(False, description="Change no data: report what would happen.")
    full: bool = Field(False, description="With dryRun: examine all rows, not a sample.")

    @model_validator(mode="after")
    def _full_is_of_a_dry_run(self) -> Self:
        """Whoever asks to examine all rows means a dry run: without the word it must not become a real one."""
        if self.full and not self.dry_run:
            raise PydanticCustomError("full_without_dry_run", "full=true goes only with dryRun=true")
        return self


class RunOneQuery(RunQuery):
    """Of a run of one migration."""

    from_key: str | None = Field(None, max_length=2000, pattern=_NO_NUL, description="The first key to work on ...")
    to_key: str | None = Field(None, max_length=2000, pattern=_NO_NUL, description="... and the last one.")


Reason = Annotated[
    str, Query(min_length=1, max_length=1000, pattern=_NO_NUL, description="Why; it is kept with the event.")
]
AllowEnvironment = Annotated[
    bool, Query(alias="allowEnvironment", description="Act although the database belongs to another environment.")
]
