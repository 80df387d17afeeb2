"""The buttons of the page over real HTTP: each acts once, in the name of whoever pressed it, or says why not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa

from system_migration import Migration, MigrationContext, MigrationResult, Status
from system_migration.batching import target
from system_migration.errors import Refused
from system_migration.records import MigrationStatus
from system_migration.running import requests
from system_migration.store import leases
from system_migration.web.asking import Asking
from system_migration.web.dashboard import actions
from system_migration.web.dashboard.csrf import FormTokens
from system_migration.web.serving import Serving
from tests.support.databases import application_engine
from tests.support.host import wait_for
from tests.web.screens import part, words
from tests.web.serving import (
    ONCE,
    PATIENCE,
    SECRET,
    UNTOUCHED,
    Increment,
    Mark,
    Served,
    changes,
    gated,
    make_items,
    served,
)

NAME = Increment.name
REAL = {"dryRun": ["false"], "batchSize": "1", "workers": "1"}
DRY = {"dryRun": ["false", "true"]}
STARTS = {
    "run": REAL,
    "rollback": {"dryRun": ["false"]},
    "retry": {},
    "resume": {},
    "verify": {},
}
DECISIONS: dict[str, dict[str, Any]] = {"pause": {}, "cancel": {}, "skip": {"reason": "no"}, "reset": {"reason": "no"}}
VERBS = STARTS | DECISIONS

pytestmark = pytest.mark.databases("sqlite")
both = pytest.mark.databases("sqlite", "postgresql")


class Undoable(Increment):
    rollbackable = True


@pytest.fixture(autouse=True)
def heedful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runners look for requests at every batch."""
    monkeypatch.setattr(requests, "EVERY_SECONDS", 0.0)


@pytest.fixture
def server(items: sa.Engine) -> Iterator[Served]:
    with served(items, Mark, Undoable) as server:
        yield server


@pytest.fixture
def ada(server: Served) -> Iterator[httpx.Client]:
    with server.browser() as client:
        yield client


@dataclass(frozen=True)
class Idle:
    """A server on which nothing ever happens, or a test has failed."""

    server: Served
    engine: sa.Engine
    ada: httpx.Client

    def refuses(self, verb: str, *typed: dict[str, Any]) -> httpx.Response:
        """What is answered; nothing was done."""
        answer = send(self.ada, verb, fields(self.server), *typed)
        self.nothing_was_done()
        return answer

    def nothing_was_done(self) -> None:
        assert (changes(self.engine), runs(self.server), self.server.migrator.audit()) == (UNTOUCHED, 0, [])


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Idle]:
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('idle') / 'idle.sqlite'}")
    make_items(engine)
    with served(engine, Mark, Undoable) as server, server.browser() as ada:
        server.migrator.init()
        yield Idle(server, engine, ada)
    engine.dispose()


@pytest.fixture
def eve(server: Served) -> Iterator[httpx.Client]:
    with server.browser("eve-token") as client:
        yield client


def status(server: Served, name: str = NAME) -> MigrationStatus:
    return server.migrator.show(name).status


def fields(server: Served, developer: str = "ada", name: str = NAME) -> dict[str, str]:
    """What a form brings along that this developer is shown now."""
    token = FormTokens(SECRET).issue(developer)
    return {"token": token, "request": str(uuid4()), "seen": str(status(server, name).revision)}


def send(client: httpx.Client, verb: str, *typed: dict[str, Any], name: str = NAME) -> httpx.Response:
    data: dict[str, Any] = {}
    for each in typed:
        data |= each
    return client.post(f"/m/{name}/{verb}", data=data)


def run_of(answer: httpx.Response) -> str:
    """The run that an answer leads to."""
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith("/migrations/runs/"), answer.headers["location"]
    return str(answer.headers["location"]).removeprefix("/migrations/runs/")


def ended(server: Served, run_id: str) -> None:
    wait_for(lambda: server.migrator.run_by_id(run_id).ended, PATIENCE, f"the end of run {run_id}")


def text(answer: httpx.Response) -> str:
    """What a page says, without its markup."""
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


def events(server: Served, name: str = NAME) -> list[tuple[str, str]]:
    return [(event.action, event.actor) for event in reversed(server.migrator.audit(name))]


def runs(server: Served) -> int:
    return len(server.migrator.history())


@both
def test_a_form_starts_a_run_in_the_name_of_its_sender_and_leads_to_it(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    with gated():
        answer = send(ada, "run", fields(server), REAL)
        run_id = run_of(answer)
        found = server.migrator.run_by_id(run_id)
        assert (found.run.executed_by, found.state, found.run.kind.value) == ("ada", "running", "run")
        (begun,) = server.migrator.events_after(found.run)
        assert (begun.action, begun.detail["door"]) == ("run_started", "page")
    ended(server, run_id)
    assert changes(items) == ONCE


@both
def test_a_form_that_is_sent_twice_acts_once_and_leads_to_the_same_run(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    form = fields(server)
    with gated():
        first = run_of(send(ada, "run", form, REAL))
        assert run_of(send(ada, "run", form, REAL)) == first
    ended(server, first)
    assert run_of(send(ada, "run", form, REAL)) == first
    assert (changes(items), runs(server)) == (ONCE, 1)


def test_twenty_who_send_the_same_form_at_once_see_one_run(items: sa.Engine, server: Served) -> None:
    form = fields(server)

    def press(_: int) -> str:
        with server.browser() as client:
            return run_of(send(client, "run", form, REAL))

    with ThreadPoolExecutor(20) as pool:
        found = set(pool.map(press, range(20)))
    assert len(found) == 1
    ended(server, found.pop())
    assert (changes(items), runs(server)) == (ONCE, 1)


@both
def test_a_form_that_reaches_two_servers_acts_once(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    form = fields(server)
    with served(items, Mark, Undoable) as other, other.browser() as there, gated():
        first = run_of(send(ada, "run", form, REAL))
        assert run_of(send(there, "run", form, REAL)) == first
    ended(server, first)
    assert (changes(items), runs(server)) == (ONCE, 1)


def test_the_same_form_of_another_developer_is_another_one(
    server: Served, ada: httpx.Client, eve: httpx.Client
) -> None:
    form = fields(server)
    first = run_of(send(ada, "run", form, DRY))
    ended(server, first)
    assert run_of(send(eve, "run", form, DRY, {"token": FormTokens(SECRET).issue("eve")})) != first


def test_a_form_that_comes_again_for_something_else_is_refused(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    form = fields(server)
    ended(server, run_of(send(ada, "run", form, DRY)))
    answer = send(ada, "run", form, REAL)
    assert answer.status_code == 409
    assert "sent before, for something else" in text(answer)
    assert changes(items) == UNTOUCHED


@both
def test_of_two_tabs_the_later_is_told_what_the_first_did(
    items: sa.Engine, server: Served, ada: httpx.Client, eve: httpx.Client
) -> None:
    mine, yours = fields(server), fields(server, "eve")
    with gated() as gate:
        run_id = run_of(send(ada, "run", mine, REAL))
        assert gate.reached.wait(PATIENCE)
        late = send(eve, "run", yours, REAL)
        assert late.status_code == 409
        assert f'href="/migrations/runs/{run_id}"' in late.text
        assert "by ada" in text(late)
        assert "Nothing was done" in text(late)
    ended(server, run_id)
    late = send(eve, "run", yours, REAL)
    assert late.status_code == 409
    assert "COMPLETED now: the run of ada completed it at" in text(late)
    assert (changes(items), runs(server)) == (ONCE, 1)


@pytest.mark.parametrize("verb", VERBS)
def test_no_stale_button_does_anything(items: sa.Engine, server: Served, ada: httpx.Client, verb: str) -> None:
    server.migrator.run(NAME)
    stale = {"seen": "0"}
    before = events(server), changes(items), runs(server)
    answer = send(ada, verb, fields(server), VERBS[verb], stale)
    assert answer.status_code == 409
    assert "COMPLETED now: the run of server completed it" in text(answer)
    assert (events(server), changes(items), runs(server)) == before


def test_a_dry_run_is_made_of_what_is_there_now(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    run_id = run_of(send(ada, "run", fields(server), DRY, {"seen": "7", "full": "true"}))
    ended(server, run_id)
    report = server.migrator.report_of(run_id)
    assert report is not None
    assert report["complete"]
    assert changes(items) == UNTOUCHED


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("token", ["", "1.2", "another's", "expired", "foreign"])
def test_without_a_token_of_ones_own_nothing_is_done(idle: Idle, verb: str, token: str) -> None:
    forged = {
        "another's": FormTokens(SECRET).issue("eve"),
        "expired": FormTokens(SECRET, clock=lambda: 1_000_000.0).issue("ada"),
        "foreign": FormTokens(b"of another server, with a secret").issue("ada"),
    }.get(token, token)
    answer = idle.refuses(verb, VERBS[verb], {"token": forged})
    assert answer.status_code == 403
    assert "Nothing was done" in text(answer)


@pytest.mark.parametrize("verb", VERBS)
def test_who_is_signed_out_goes_on_with_what_was_typed(idle: Idle, verb: str) -> None:
    typed = {"batchSize": "12", "reason": "a & b", "confirm": "staging"}
    with idle.server.browser(None) as nobody:
        answer = send(nobody, verb, fields(idle.server), VERBS[verb], typed)
    assert answer.status_code == 303
    to = urlsplit(answer.headers["location"])
    assert to.path == "/sign-in"
    back = urlsplit(parse_qs(to.query)["next"][0])
    query = parse_qs(back.query)
    assert back.path == f"/migrations/m/{NAME}/start"
    assert (query["verb"], query["batchSize"], query["reason"]) == ([verb], ["12"], ["a & b"])
    assert not {"token", "request", "seen", "confirm"} & set(query)
    idle.nothing_was_done()


@pytest.mark.parametrize("verb", VERBS)
def test_who_is_no_developer_is_refused(idle: Idle, verb: str) -> None:
    with idle.server.browser("bob-token") as bob:
        answer = send(bob, verb, fields(idle.server, "bob"), VERBS[verb])
    assert answer.status_code == 403
    idle.nothing_was_done()


CHANGES: list[dict[str, Any]] = [
    {"dryrun": "true"},
    {"seen": "x"},
    {"seen": ""},
    {"seen": ["1", "2"]},
    {"request": "1"},
    {"request": ""},
    {"run": "../x"},
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_form_that_is_not_as_we_made_it_does_nothing(idle: Idle, verb: str, change: dict[str, Any]) -> None:
    assert idle.refuses(verb, VERBS[verb], change).status_code == 422


@pytest.mark.parametrize("said", [[], ["true"], ["false", "false"], ["true", "false"], ["no"]])
def test_a_form_that_has_lost_its_tick_is_no_run(idle: Idle, said: list[str]) -> None:
    assert idle.refuses("run", REAL, {"dryRun": said}).status_code == 422


BEYOND = [
    ("batchSize", "0"),
    ("batchSize", "100001"),
    ("batchSize", "many"),
    ("workers", "65"),
    ("maxRate", "0"),
    ("maxRate", "inf"),
    ("maxIssues", "-1"),
    ("full", "true"),
]


@pytest.mark.parametrize(("option", "value"), BEYOND)
def test_what_is_out_of_bounds_is_said_beside_its_field_and_the_rest_is_kept(
    idle: Idle, option: str, value: str
) -> None:
    answer = idle.refuses("run", {"dryRun": ["false"], "maxRows": "77"}, {option: value})
    assert answer.status_code == 422
    assert f'id="{option}-fault"' in answer.text
    assert f'aria-describedby="{option}-hint {option}-fault" aria-invalid="true"' in answer.text
    assert f'href="#{option}"' in answer.text
    assert 'name="maxRows" value="77"' in answer.text
    assert not re.search(r'id="dryRun"[^>]* checked', answer.text)


def test_a_range_of_keys_goes_with_no_dry_run(idle: Idle) -> None:
    answer = idle.refuses("run", DRY, {"fromKey": "1"})
    assert (answer.status_code, 'id="fromKey-fault"' in answer.text) == (422, True)


def test_a_range_of_keys_that_the_migration_cannot_keep_to_is_refused_above_the_form(idle: Idle) -> None:
    answer = idle.refuses("run", REAL, {"fromKey": "1"})
    assert answer.status_code == 409
    assert "declares no pending()" in text(answer)
    assert 'name="fromKey" value="1"' in answer.text


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001], ids=["empty", "blank", "long"])
def test_a_decision_needs_a_reason(idle: Idle, reason: str) -> None:
    answer = idle.refuses("skip", {"reason": reason})
    assert (answer.status_code, 'id="reason-fault"' in answer.text) == (422, True)
    assert idle.refuses("reset", {"reason": reason}).status_code == 422


def test_what_is_no_form_is_refused(idle: Idle) -> None:
    with idle.server.browser() as client:
        json = client.post(f"/m/{NAME}/run", json=fields(idle.server) | REAL)
        bare = client.post(f"/m/{NAME}/run", headers={"content-type": "application/x-www-form-urlencoded"})
    assert (json.status_code, bare.status_code) == (422, 403)
    idle.nothing_was_done()


def test_skip_and_reset_lead_back_and_say_so(server: Served, ada: httpx.Client) -> None:
    answer = send(ada, "skip", fields(server), {"reason": "not <here>"})
    assert answer.headers["location"] == f"/migrations/m/{NAME}?said=skipped"
    page = ada.get(f"/m/{NAME}?said=skipped")
    assert "It was marked as not to be run here." in text(page)
    assert "not &lt;here&gt;" in page.text
    answer = send(ada, "reset", fields(server), {"reason": "here after all"})
    assert answer.headers["location"] == f"/migrations/m/{NAME}?said=reset"
    assert status(server).status is Status.PENDING
    assert events(server) == [("skipped", "ada"), ("reset", "ada")]


def test_what_an_address_says_is_never_said_by_the_page(ada: httpx.Client) -> None:
    page = ada.get("/m/001-mark", params={"said": "reset your <b>password</b>"})
    assert "your <b>" not in page.text
    assert '<p class="notice" role="status">' not in page.text
    assert '<p class="notice" role="status">' in ada.get("/m/001-mark", params={"said": "reset"}).text


@both
def test_pause_and_cancel_are_asked_of_the_runner_and_lead_back_to_the_run(
    items: sa.Engine, server: Served, ada: httpx.Client, eve: httpx.Client
) -> None:
    with gated() as gate:
        run_id = run_of(send(ada, "run", fields(server), REAL))
        assert gate.reached.wait(PATIENCE)
        form = fields(server, "eve")
        answer = send(eve, "pause", form, {"run": run_id})
        assert answer.headers["location"] == f"/migrations/runs/{run_id}?said=pause-asked"
        assert status(server).requested_by == "eve"
        assert send(eve, "pause", form, {"run": run_id}).headers["location"] == answer.headers["location"]
        late = send(ada, "pause", fields(server), {"seen": form["seen"]})
        assert (late.status_code, "eve asked it to pause" in text(late)) == (409, True)
        again = answer.headers["location"]
        answer = send(ada, "resume", fields(server))
        assert answer.headers["location"] == f"/migrations/m/{NAME}?said=pause-taken-back"
        assert send(eve, "pause", form, {"run": run_id}).headers["location"] == again  # and nothing is asked once more
        assert send(eve, "cancel", form, {"run": run_id}).status_code == 409
        assert status(server).request is None
        answer = send(ada, "cancel", fields(server))
        assert answer.headers["location"] == f"/migrations/m/{NAME}?said=cancel-asked"
    ended(server, run_id)
    assert status(server).cancelled
    names = [action for action, _ in events(server)]
    assert names == ["run_started", "pause_asked", "pause_withdrawn", "cancel_asked", "cancelled"]


def test_a_paused_run_is_resumed_with_other_options(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    with gated() as gate:
        run_id = run_of(send(ada, "run", fields(server), REAL))
        assert gate.reached.wait(PATIENCE)
        send(ada, "pause", fields(server))
    ended(server, run_id)
    wait_for(lambda: status(server).held_by is None, PATIENCE, "the lease")
    resumed = run_of(send(ada, "resume", fields(server), {"batchSize": "5", "maxRate": "1000"}))
    ended(server, resumed)
    assert changes(items) == ONCE
    (started,) = [e for e in server.migrator.audit(NAME) if e.action == "run_started" and e.run_id == resumed]
    assert started.detail["options"] == {"batchSize": 5, "maxRate": 1000.0}


def test_chosen_held_rows_are_retried_and_no_others(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    server.migrator.run(NAME)
    (held,) = server.migrator.issues(NAME)
    none = send(ada, "retry", fields(server), {"rows": "chosen"})
    assert (none.status_code, "No row was chosen" in text(none)) == (422, True)
    run_id = run_of(send(ada, "retry", fields(server), {"rows": "chosen", "key": [held.id]}))
    ended(server, run_id)
    (started,) = [e for e in server.migrator.audit(NAME) if e.action == "run_started" and e.run_id == run_id]
    assert started.detail["options"]["keys"] == [held.id]
    wait_for(lambda: status(server).held_by is None, PATIENCE, "the lease")
    run_id = run_of(send(ada, "retry", fields(server), {"rows": "all", "key": [held.id]}))
    ended(server, run_id)
    (started,) = [e for e in server.migrator.audit(NAME) if e.action == "run_started" and e.run_id == run_id]
    assert "keys" not in started.detail["options"]
    assert changes(items) == ONCE


def test_verify_and_a_rehearsed_rollback_lead_to_their_runs(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    server.migrator.run(NAME)
    verified = run_of(send(ada, "verify", fields(server)))
    ended(server, verified)
    rehearsed = run_of(send(ada, "rollback", fields(server), DRY))
    ended(server, rehearsed)
    assert changes(items) == ONCE
    undone = run_of(send(ada, "rollback", fields(server), {"dryRun": ["false"]}))
    ended(server, undone)
    assert changes(items) == UNTOUCHED
    kinds = [server.migrator.run_by_id(each).run.kind.value for each in (verified, rehearsed, undone)]
    assert kinds == ["verify", "dry-run", "rollback"]


def test_what_is_refused_is_said_above_the_form(server: Served, ada: httpx.Client) -> None:
    answer = send(ada, "rollback", fields(server), {"dryRun": ["false"]})
    assert answer.status_code == 409
    assert "is PENDING; there is no finished work to roll back" in text(answer)
    assert send(ada, "run", fields(server), REAL, name="404-nothing").status_code == 404


def test_where_there_is_nothing_to_do_that_is_said(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    server.migrator.run("001-mark")
    answer = send(ada, "run", fields(server, name="001-mark"), {"dryRun": ["false"]}, name="001-mark")
    assert answer.status_code == 409
    assert "nothing tells which rows it missed" in text(answer)


def test_a_servers_own_dry_run_is_cancelled_from_its_page(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    make_items(engine, rows=60)  # more than are read at once
    monkeypatch.setattr(target, "SCAN_ROWS", 10)
    with served(engine, Undoable) as server, server.browser() as ada:
        with gated() as gate:
            dry = run_of(send(ada, "run", fields(server), DRY, {"full": "true"}))
            assert gate.reached.wait(PATIENCE)
            answer = send(ada, "cancel", fields(server), {"run": dry})
            assert answer.headers["location"] == f"/migrations/runs/{dry}?said=cancel-asked"
        ended(server, dry)
        assert "Cancelled by ada" in str(server.migrator.run_by_id(dry).run.error)


def test_a_button_on_the_page_of_one_run_never_reaches_another_run(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    dry = run_of(send(ada, "run", fields(server), DRY))
    ended(server, dry)
    with gated() as gate:
        run_id = run_of(send(ada, "run", fields(server), REAL))
        assert gate.reached.wait(PATIENCE)
        for verb in ("cancel", "pause"):
            answer = send(ada, verb, fields(server), {"run": dry})
            assert (answer.status_code, status(server).request) == (409, None)
    ended(server, run_id)
    assert changes(items) == ONCE


PRODUCTION = [("run", REAL), ("rollback", {"dryRun": ["false"]}), ("retry", {}), ("resume", {})]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Idle]:
    engine = application_engine(f"sqlite:///{tmp_path_factory.mktemp('production') / 'p.sqlite'}")
    make_items(engine)
    with served(engine, Undoable, environment="production") as server, server.browser() as ada:
        server.migrator.init()
        yield Idle(server, engine, ada)
    engine.dispose()


@pytest.mark.parametrize(("verb", "typed"), PRODUCTION, ids=[verb for verb, _ in PRODUCTION])
@pytest.mark.parametrize("confirm", [None, "staging", "PRODUCTION", "production "])
def test_in_production_a_start_needs_the_environments_name(
    production: Idle, verb: str, typed: dict[str, Any], confirm: str | None
) -> None:
    answer = production.refuses(verb, typed, {} if confirm is None else {"confirm": confirm})
    assert answer.status_code == 409
    assert "It was not confirmed." in text(answer)
    assert 'name="confirm" value' not in answer.text


def test_in_production_the_name_starts_it_and_a_dry_run_needs_none(items: sa.Engine) -> None:
    with served(items, Undoable, environment="production") as server, server.browser() as ada:
        ended(server, run_of(send(ada, "run", fields(server), DRY)))
        assert changes(items) == UNTOUCHED
        ended(server, run_of(send(ada, "run", fields(server), REAL, {"confirm": "production"})))
    assert changes(items) == ONCE


def test_a_start_while_this_server_works_on_another_migration_leads_there(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    with gated() as gate:
        run_id = run_of(send(ada, "run", fields(server), REAL))
        assert gate.reached.wait(PATIENCE)
        answer = send(ada, "run", fields(server, name="001-mark"), {"dryRun": ["false"]}, name="001-mark")
        assert answer.status_code == 409
        assert f'href="/migrations/runs/{run_id}"' in answer.text
    ended(server, run_id)


@both
def test_a_run_elsewhere_is_led_to(items: sa.Engine, server: Served, ada: httpx.Client) -> None:
    with served(items, Mark, Undoable) as other, other.browser("eve-token") as there:
        with gated() as gate:
            run_id = run_of(send(there, "run", fields(server, "eve"), REAL))
            assert gate.reached.wait(PATIENCE)
            answer = send(ada, "run", fields(server), REAL)
            assert answer.status_code == 409
            assert f'href="/migrations/runs/{run_id}"' in answer.text
            assert "eve" in text(answer)
            assert runs(server) == 1
        ended(server, run_id)


def test_a_button_pressed_while_an_ended_run_lets_go_acts(
    items: sa.Engine, server: Served, ada: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.migrator.run(NAME)
    with items.begin() as connection:
        taken = leases.acquire(connection, "staging", NAME, str(uuid4()), "the runner that ended", 60)
        assert taken is not None
    look, looks = Asking._is_letting_go, []

    def let_go(asking: Asking, *seen: Any) -> bool:
        looks.append(look(asking, *seen))
        with items.begin() as connection:
            leases.release(connection, taken)
        return looks[-1]

    monkeypatch.setattr(Asking, "_is_letting_go", let_go)
    ended(server, run_of(send(ada, "rollback", fields(server), {"dryRun": ["false"]})))
    assert (looks, changes(items)) == ([True], UNTOUCHED)


def test_a_start_whose_checks_take_long_leads_to_the_migration_where_it_will_appear(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Slow(Migration):
        name = "001-slow"

        def preflight(self, context: MigrationContext) -> None:
            assert released.wait(PATIENCE)

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    monkeypatch.setattr(actions, "BEGIN_SECONDS", 0.05)
    with served(engine, Slow) as server, server.browser() as ada:
        form = fields(server, name=Slow.name)
        answer = send(ada, "run", form, {"dryRun": ["false"]}, name=Slow.name)
        assert answer.headers["location"] == "/migrations/m/001-slow?said=starting"
        assert "is just starting it" in text(ada.get("/m/001-slow"))
        released.set()
        wait_for(lambda: runs(server) == 1, PATIENCE, "the run")
        assert run_of(send(ada, "run", form, {"dryRun": ["false"]}, name=Slow.name))


def test_why_a_start_did_not_begin_is_told_to_whoever_started_it(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class Choosy(Migration):
        name = "001-choosy"

        def preflight(self, context: MigrationContext) -> None:
            assert released.wait(PATIENCE)
            raise Refused("The disk is full. Make `room`.")

        def up(self, context: MigrationContext) -> MigrationResult:
            return MigrationResult()

    monkeypatch.setattr(actions, "BEGIN_SECONDS", 0.05)
    with served(engine, Choosy) as server, server.browser() as ada, server.browser("eve-token") as eve:
        answer = send(ada, "run", fields(server, name=Choosy.name), {"dryRun": ["false"]}, name=Choosy.name)
        assert answer.headers["location"].endswith("?said=starting")
        assert "did not begin" not in words(part(ada.get("/m/001-choosy"), "state"))
        released.set()
        (starts,) = [each.starts for each in Serving._all.values() if each.migrator is server.migrator]
        wait_for(lambda: starts.owed(Choosy.name, "ada") is not None, PATIENCE, "the end")
        assert "What you started did not begin. The disk is full. Make room ." in words(
            part(ada.get("/m/001-choosy"), "state")
        )
        assert "did not begin" not in words(part(eve.get("/m/001-choosy"), "state"))


def test_a_form_that_was_open_for_too_long_is_there_again_with_what_was_typed(
    items: sa.Engine, server: Served, ada: httpx.Client
) -> None:
    old = {"token": FormTokens(SECRET, clock=lambda: 1_000_000.0).issue("ada")}
    answer = send(ada, "run", fields(server), REAL | {"maxRate": "7654321"}, old)
    assert answer.status_code == 403
    assert "Nothing was done. The form was open for too long." in text(answer)
    assert 'name="maxRate" value="7654321"' in answer.text
    assert (runs(server), changes(items)) == (0, UNTOUCHED)
    fresh = dict(re.findall(r'name="(token|request|seen)" value="([^"]*)"', answer.text))
    ended(server, run_of(send(ada, "run", fresh, REAL | {"maxRate": "7654321"})))
    stolen = {"token": FormTokens(SECRET, clock=lambda: 1_000_000.0).issue("eve")}
    assert "7654321" not in send(ada, "run", fields(server), REAL | {"maxRate": "7654321"}, stolen).text


def test_a_report_that_cannot_be_kept_is_shown_at_once(engine: sa.Engine) -> None:
    make_items(engine)
    reader = sa.create_engine(f"sqlite:///file:{engine.url.database}?mode=ro&uri=true")
    with served(reader, Undoable) as server, server.browser() as ada:
        answer = send(ada, "run", fields(server), DRY)
        assert answer.status_code == 200
        assert "kept nowhere but on this page" in text(answer)
        assert "Would be held" in text(answer)
    reader.dispose()
