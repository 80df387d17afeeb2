"""The routes that start something. Each answers 202 at once, or with `wait` how it ended."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from system_migration.errors import HeldElsewhere, MigrationSystemError
from system_migration.migrator import Migrator
from system_migration.records import Run, as_json
from system_migration.web.answers import Started
from system_migration.web.confirming import check_confirmed
from system_migration.web.finding import find_latest
from system_migration.web.openapi import STARTED, answers
from system_migration.web.problems import problem_of
from system_migration.web.queries import (
    ContinueQuery,
    Name,
    RetryQuery,
    RollbackQuery,
    RunId,
    RunOneQuery,
    RunQuery,
    VerifyQuery,
)
from system_migration.web.refusals import RunGoing
from system_migration.web.starts import BEGIN_SECONDS, Job, Starts, Wanted, held_only, wait_for

_ANSWERS = answers(
    Started, 404, 409, status=202, example=STARTED, description="Started; `Location` is the run"
) | answers(Started, 404, 409, description="Ended, or nothing to do")

LETTING_GO_SECONDS = 3.0
"""For how long a start waits for a run to let go that has already ended."""


class Asker:
    """Who starts something, and how they want it answered."""

    def __init__(
        self,
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=255,
                pattern=r"^[\x21-\x7e]+$",
                description="Repeated with the same request, it answers with the run of the first.",
            ),
        ] = None,
    ) -> None:
        self.name: Name = request.state.developer
        self.key = idempotency_key
        self.runs_path = str(request.url_for("migration_runs").path)


AskerOf = Annotated[Asker, Depends(Asker)]


class Answering:
    """Turns starts into answers."""

    def __init__(self, migrator: Migrator, starts: Starts) -> None:
        self._migrator, self._starts = migrator, starts

    async def confirm(self, confirmation: str | None) -> None:
        """Raise `NotConfirmed` where a start has to name the environment and does not."""
        check_confirmed(await run_in_threadpool(lambda: self._migrator.environment), confirmation)

    async def start(self, wanted: Wanted, asker: Asker, wait: float, subject: Run | None = None) -> Response:
        """Start it, or find the run of the same request, and answer. `subject` is the run that it is about."""
        until = time.monotonic() + LETTING_GO_SECONDS
        while True:
            try:
                return await self._start(wanted, asker, wait, subject)
            except RunGoing as going:
                # What has its outcome on the record is as good as over: its runner is just letting go of the lease.
                if going.run is None or going.run.outcome is None or time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    async def _start(self, wanted: Wanted, asker: Asker, wait: float, subject: Run | None) -> Response:
        if asker.key is None:
            job = await run_in_threadpool(self._starts.begin, wanted, asker.name)
            return await self._answer(job, asker, wait, subject)
        request_id = await run_in_threadpool(self._starts.request_id, asker.name, asker.key)
        if again := await self._again(request_id, wanted, asker, wait):
            return again
        try:
            job = await run_in_threadpool(self._starts.begin, wanted, asker.name, request_id)
            return await self._answer(job, asker, wait, subject)
        except (MigrationSystemError, SQLAlchemyError):
            # Perhaps because of the same request, which came to another process in the same moment.
            if again := await self._again(request_id, wanted, asker, wait):
                return again
            raise

    async def _again(self, request_id: str, wanted: Wanted, asker: Asker, wait: float) -> Response | None:
        if job := self._starts.job_of(request_id, wanted):
            response = await self._answer(job, asker, wait, None)
        elif run := await run_in_threadpool(self._starts.run_of, request_id, wanted):
            response = self._response(
                200 if run.outcome else 202, Started(self._migrator.environment, run, [], None), asker
            )
        else:
            return None
        response.headers["Idempotent-Replayed"] = "true"
        return response

    async def _answer(self, job: Job, asker: Asker, wait: float, subject: Run | None) -> Response:
        await wait_for(job.begun, BEGIN_SECONDS)
        if wait:
            await wait_for(job.done, wait)
        error = job.done.exception() if job.done.done() else None
        if error is not None and job.run_id is None:
            if isinstance(error, HeldElsewhere):
                raise await run_in_threadpool(self._starts.going_by, error) from error
            raise error
        started = await run_in_threadpool(self._started, job, error, subject)
        ended = job.done.done() and (wait > 0 or job.run_id is None)
        return self._response(200 if ended else 202, started, asker)

    def _started(self, job: Job, error: BaseException | None, subject: Run | None) -> Started:
        found = self._migrator.follow([job.run_id]) if job.run_id else []
        reports = job.reports()
        problem = problem_of(error) if error is not None else None
        return Started(self._migrator.environment, found[0].run if found else subject, reports, problem)

    def _response(self, status: int, started: Started, asker: Asker) -> Response:
        headers = {}
        if started.run is not None:
            headers["Location"] = f"{asker.runs_path}/{started.run.id}"
        elif status == 202:
            headers["Location"] = asker.runs_path  # where it will be, once its preflight is over
        return JSONResponse(as_json(started), status, headers)


def add_starts(router: APIRouter, migrator: Migrator, starts: Starts) -> None:
    """Add the routes to the router."""
    answering = Answering(migrator, starts)
    _add_runs(router, answering)
    _add_others(router, answering, migrator)


def _add_runs(router: APIRouter, answering: Answering) -> None:
    async def run_or_rehearse(name: str | None, query: RunQuery, asker: Asker) -> Response:
        if query.dry_run:
            return await answering.start(Wanted("dry-run", name, query.options(), query.full), asker, query.wait)
        await answering.confirm(query.confirm)
        return await answering.start(Wanted("run", name, query.options()), asker, query.wait)

    @router.post("/run", summary="Run all pending migrations", status_code=202, responses=_ANSWERS)
    async def run_all(asker: AskerOf, query: Annotated[RunQuery, Query()]) -> Response:
        """Takes what is pending in order, and stops at the first that does not complete."""
        return await run_or_rehearse(None, query, asker)

    @router.post("/run/{name}", summary="Run one migration", status_code=202, responses=_ANSWERS)
    async def run_one(name: Name, asker: AskerOf, query: Annotated[RunOneQuery, Query()]) -> Response:
        """Also goes on with an unfinished one; of a completed one, looks for rows it missed."""
        return await run_or_rehearse(name, query, asker)


def _add_others(router: APIRouter, answering: Answering, migrator: Migrator) -> None:
    @router.post("/verify/{name}", summary="Verify a completed migration again", status_code=202, responses=_ANSWERS)
    async def verify(name: Name, asker: AskerOf, query: Annotated[VerifyQuery, Query()]) -> Response:
        return await answering.start(Wanted("verify", name), asker, query.wait)

    @router.post("/rollback/{name}", summary="Undo a migration", status_code=202, responses=_ANSWERS)
    async def rollback(name: Name, asker: AskerOf, query: Annotated[RollbackQuery, Query()]) -> Response:
        """Refused where the migration says that it cannot be undone; nothing changes then."""
        if query.dry_run:
            return await answering.start(Wanted("dry-rollback", name, query.options()), asker, query.wait)
        await answering.confirm(query.confirm)
        return await answering.start(Wanted("rollback", name, query.options()), asker, query.wait)

    @router.post("/retry/{name}", summary="Work on the held rows again", status_code=202, responses=_ANSWERS)
    async def retry(name: Name, asker: AskerOf, query: Annotated[RetryQuery, Query()]) -> Response:
        """Of all held rows, or of those that are named by `key`; refused when one of them is not held."""
        await answering.confirm(query.confirm)
        return await answering.start(held_only(Wanted("retry", name, query.options())), asker, query.wait)

    @router.post("/runs/{id}/resume", summary="Go on with a paused run", status_code=202, responses=_ANSWERS)
    async def resume(id: RunId, asker: AskerOf, query: Annotated[ContinueQuery, Query()]) -> Response:
        """Starts the next run of the migration. A pause that was not obeyed yet is taken back instead: 200."""
        await answering.confirm(query.confirm)
        followed = await run_in_threadpool(find_latest, migrator, id)
        wanted = Wanted("resume", followed.run.migration, query.options())
        return await answering.start(wanted, asker, query.wait, followed.run)
