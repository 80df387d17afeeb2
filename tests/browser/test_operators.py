"""Only who is signed in acts, by a form of ours, and only once: forged forms, two operators, sessions that end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from ante_backend.app import create_app
from ante_backend.passwords import hash_password
from tests.browser.conftest import NewVisitor, Visitor
from tests.browser.steering import open_form, press, sign_in, state
from tests.browser.test_signing_in import RIGHT, elsewhere
from tests.support.accounts import NAME
from tests.support.backend import COST, Backend, account_database, configuration
from tests.support.hosting import Accounts, Host, Person, account_project, serve_host

GATE = "100"
DAMAGED = 3


@dataclass(frozen=True)
class Hosted:
    """The host, and the accounts that it serves."""

    accounts: Accounts
    host: Host

    def enter(self, visitor: Visitor, developer: int = 0) -> Page:
        """Sign a developer in, and return their first tab."""
        visitor.page.goto(f"{self.host.url}/migrations")
        sign_in(visitor.page, self.accounts.developers[developer])
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Migrations")
        return visitor.page

    def noted(self) -> list[str]:
        """What was done with the migration, in order, by anybody."""
        known = self.accounts.project.json("status")["migrations"][0]
        if known["executedAt"] is None:
            assert self.accounts.project.json("history") == []
            return []
        return [
            action for (action,) in self.accounts.project.sql("SELECT action FROM system_migration_event ORDER BY id")
        ]


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    folder = tmp_path_factory.mktemp("operators")
    database = folder / "accounts.sqlite"
    database.touch()
    accounts = account_project(folder / "project", f"sqlite:///{database}", damaged=DAMAGED)
    with serve_host(accounts.project, {"GATES": GATE}) as host:
        yield Hosted(accounts, host)


def whole_form(token: str | None = None) -> dict[str, str]:
    """All that the form of a real start sends, with a token or without."""
    fields = {"request": str(uuid4()), "seen": "0", "dryRun": "false", "workers": "1"}
    return fields | ({} if token is None else {"token": token})


def test_a_form_of_another_site_does_nothing(visitor: Visitor, hosted: Hosted) -> None:
    page = hosted.enter(visitor)
    fields = "".join(f'<input name="{name}" value="{value}">' for name, value in whole_form().items())
    target = f"{hosted.host.url}/migrations/m/{NAME}/run"
    with elsewhere(f'<form method="post" action="{target}">{fields}<button>Win</button></form>') as url:
        page.goto(url)
        page.get_by_role("button", name="Win").click()
        # It came without our cookie, so it led to the sign-in, and that to the form, which a person has to send.
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Run {NAME}")
    assert hosted.noted() == []


def test_who_is_signed_in_but_has_no_token_of_theirs_does_nothing(new_visitor: NewVisitor, hosted: Hosted) -> None:
    ada, eve = new_visitor(), new_visitor()
    page = hosted.enter(ada)
    others = hosted.enter(eve, 1).locator("[name=token]").first.get_attribute("value")
    for token in (None, "", others):
        answer = ada.context.request.post(f"{hosted.host.url}/migrations/m/{NAME}/run", form=whole_form(token))
        assert answer.status == 403
        assert "Nothing was done" in answer.text()
    page.goto(f"{hosted.host.url}/migrations/m/{NAME}/start")
    page.locator("#start [name=token]").evaluate("field => field.remove()")
    ada.watch.expect("status of 403")
    press(page, f"Dry-run {NAME}")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done: the form did not come from a page")
    assert hosted.noted() == []


def test_of_two_operators_the_second_is_told_what_the_first_did(new_visitor: NewVisitor, hosted: Hosted) -> None:
    first, second = new_visitor(), new_visitor(java_script_enabled=False)  # so that what it shows grows old
    ada, eve = hosted.enter(first), hosted.enter(second, 1)
    for page in (ada, eve):
        open_form(page, hosted.host.url, allowed=DAMAGED)
    press(ada, f"Run {NAME} in acceptance")
    hosted.accounts.project.wait_at(GATE, hosted.host.running)
    begun = hosted.noted()
    second.watch.expect("status of 409")
    press(eve, f"Run {NAME} in acceptance")
    expect(eve.get_by_role("heading", level=1)).to_have_text("Nothing was done")
    assert hosted.noted() == begun
    eve.get_by_role("link", name="See that run").click()
    press(ada, "Pause")
    paused = hosted.noted()
    assert [*begun, "pause_asked"] == paused
    second.watch.expect("status of 409")
    press(eve, "Pause")
    expect(eve.get_by_role("heading", level=1)).to_have_text("Nothing was done")
    expect(eve.get_by_role("alert")).to_contain_text("asked it to pause")
    assert hosted.noted() == paused
    hosted.accounts.project.open(GATE)
    expect(state(ada)).to_have_text("PAUSED")
    assert len(hosted.accounts.project.json("history")) == 1


@dataclass
class Clock:
    """What the sessions go by: the test lets time pass."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass(frozen=True)
class Short:
    """The host in this process, whose sessions end when the test says so, and a developer of it."""

    address: str
    clock: Clock
    developer: Person = field(repr=False)

    def open_form(self, page: Page) -> None:
        page.goto(f"{self.address}/migrations")
        sign_in(page, self.developer)
        open_form(page, self.address, allowed=2)
        page.get_by_label("Rate limit").fill("7.5")

    def expire(self) -> None:
        self.clock.ahead += 13 * 3600


@pytest.fixture(scope="module")
def short(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Short]:
    clock = Clock()
    with account_database("sqlite", tmp_path_factory.mktemp("expiring"), request) as url:
        config = configuration(url)
        with Backend(config, create_app(config, clock)) as backend:
            name = backend.add(None, isDeveloper=True, passwordHash=hash_password(RIGHT.encode(), COST, "hold"))
            yield Short(str(backend.client.base_url).rstrip("/"), clock, Person(name, RIGHT))


def expect_what_was_typed(page: Page) -> None:
    expect(page.get_by_role("button", name=f"Run {NAME} in test")).to_be_visible()
    expect(page.get_by_label("Dry run", exact=True)).not_to_be_checked()
    for label, value in {"Batch size": "20", "Workers": "1", "Held rows allowed": "2", "Rate limit": "7.5"}.items():
        expect(page.get_by_label(label, exact=True)).to_have_value(value)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_form_that_is_sent_too_late_comes_back_as_it_was_filled(
    new_visitor: NewVisitor, short: Short, scripts: bool
) -> None:
    page = new_visitor(java_script_enabled=scripts).page
    short.open_form(page)
    short.expire()
    press(page, f"Run {NAME} in test")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert "token" not in page.url
    sign_in(page, short.developer)
    expect_what_was_typed(page)
    assert urlsplit(page.url).path == f"/migrations/m/{NAME}/start"


def test_who_signs_in_again_in_another_tab_goes_on_with_the_form(visitor: Visitor, short: Short) -> None:
    page = visitor.page
    short.open_form(page)
    short.expire()
    other = visitor.new_tab()
    other.goto(f"{short.address}/migrations/m/{NAME}/start?batchSize=20&workers=1&maxIssues=2&maxRate=7.5&dryRun=false")
    expect(other.get_by_role("heading", level=1)).to_have_text("Sign in")
    sign_in(other, short.developer)
    expect_what_was_typed(other)  # which stood in the address
    expect_what_was_typed(page)
    press(page, f"Run {NAME} in test")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Run of")
