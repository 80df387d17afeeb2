"""The buttons: each form is read strictly, acts once, and leads on to where one sees what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from system_migration.errors import MigrationSystemError
from system_migration.records import DryRunReport, as_json
from system_migration.web.asking import Asked, Asking, Begun
from system_migration.web.confirming import check_confirmed
from system_migration.web.dashboard import said
from system_migration.web.dashboard.deciding import DECISIONS, Deciding
from system_migration.web.dashboard.desk import Desk
from system_migration.web.dashboard.failures import NOWHERE
from system_migration.web.dashboard.forms import Form
from system_migration.web.dashboard.options import MODELS, are_in, as_started
from system_migration.web.dashboard.pages import root_of
from system_migration.web.dashboard.refusing import refused
from system_migration.web.dashboard.sent import Sent, TooOld, read_sent
from system_migration.web.dashboard.wanting import CONFIRMED, fields_of, is_rehearsal, wanted
from system_migration.web.starts import PAGE

BEGIN_SECONDS = 5.0
"""How long a browser waits for a run to begin; after that it is shown the migration, where the run will appear."""

Act = Callable[[Request, str, str, Sent], Awaitable[Response]]


def add_actions(router: APIRouter, desk: Desk) -> None:
    """Add the routes to the router."""
    acting = Acting(desk)

    def add(verb: str, fields: tuple[str, ...], act: Act) -> None:
        router.add_api_route(f"/m/{{name}}/{verb}", _handler(desk, verb, fields, act), methods=["POST"])

    for verb in MODELS:
        add(verb, fields_of(verb), acting.start)
    for verb, decision in DECISIONS.items():
        add(verb, decision.fields, acting.decide)
    router.add_api_route("/m/{name}/{verb}", _form_of, methods=["GET"])


def _handler(desk: Desk, verb: str, fields: tuple[str, ...], act: Act) -> Callable[..., Awaitable[Response]]:
    """A handler of one form: what is refused leads back to it, with what was typed."""

    async def handle(request: Request, name: str) -> Response:
        reason: MigrationSystemError
        try:
            sent = await read_sent(request, desk, fields)
        except TooOld as error:
            return await run_in_threadpool(refused, desk, request, name, verb, error.sent, error)
        try:
            return await act(request, name, verb, sent)
        except MigrationSystemError as error:
            reason = error
        return await run_in_threadpool(refused, desk, request, name, verb, sent, reason)

    return handle


def _form_of(request: Request, name: str, verb: str) -> Response:
    """To the form, for who asks again for the address that a refused one left in their browser."""
    if verb not in (*MODELS, *DECISIONS):
        raise HTTPException(404, NOWHERE)
    return _on(request, f"{_page(name)}/start?verb={verb}")


class Acting:
    """Does what forms ask for."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asking, self._deciding = Asking(desk.migrator, desk.starts), Deciding(desk.migrator, desk.starts)

    async def decide(self, request: Request, name: str, verb: str, sent: Sent) -> Response:
        """Decide, and lead back to the page of the form."""
        code = await run_in_threadpool(self._deciding.decide, verb, name, sent)
        return _on(request, said.with_code(_page_of(name, sent), code))

    async def start(self, request: Request, name: str, verb: str, sent: Sent) -> Response:
        """Start it, and lead on to its run."""
        form = await run_in_threadpool(self._as_started, name, sent.form) if verb == "resume" else sent.form
        what = replace(wanted(verb, name, form), seen=sent.seen)
        if verb in CONFIRMED and not is_rehearsal(verb, sent.form):
            environment = await run_in_threadpool(lambda: self._desk.migrator.environment)
            check_confirmed(environment, sent.form.one("confirm"))
        request_id = await run_in_threadpool(self._desk.starts.request_id, sent.developer, f"form {sent.request}")
        begun = await self._asking.start(Asked(what, sent.developer, request_id, begin=BEGIN_SECONDS, door=PAGE))
        if begun.run_id is not None:
            return _on(request, f"/runs/{begun.run_id}")
        return await self._without_a_run(request, name, verb, sent, begun)

    def _as_started(self, name: str, form: Form) -> Form:
        """What the plain button means, which asks nothing: to go on as it was started, as its form has it filled in."""
        start = None if are_in("resume", form) else self._desk.migrator.last_start(name)
        return form if start is None else Form([*form.typed(()), *as_started("resume", start.options).items()])

    async def _without_a_run(self, request: Request, name: str, verb: str, sent: Sent, begun: Begun) -> Response:
        """It takes longer to begin, or there was nothing to do, or nowhere to write down what was seen."""
        job = begun.job
        assert job is not None, "only a run that is there already is without a job"
        if not job.done.done():
            job.owed_to = sent.developer
            return _on(request, said.with_code(_page(name), "starting"))
        unkept = next((each for each in job.reports() if isinstance(each, DryRunReport)), None)
        if unkept is not None:
            show = {"name": name, "report": as_json(unkept)}
            return await run_in_threadpool(lambda: self._desk.answer(request, "unkept.html", **show))
        code = "pause-taken-back" if verb == "resume" else "nothing"
        return _on(request, said.with_code(_page_of(name, sent), code))


def _on(request: Request, path: str) -> Response:
    return RedirectResponse(root_of(request) + path, 303)


def _page_of(name: str, sent: Sent) -> str:
    """The page on which the form stood."""
    return f"/runs/{sent.run}" if sent.run is not None else _page(name)


def _page(name: str) -> str:
    return f"/m/{quote(name, safe='')}"
