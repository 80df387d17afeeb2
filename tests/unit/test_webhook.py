"""The webhook: what address it takes, how it signs, and what it does when nobody answers as it should."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from system_migration import ConfigurationError, Settings, facts, webhook
from system_migration.facts import BatchCommitted, Began, Ended, Fact, WhichRun
from system_migration.notifications import Notification, notification_of
from system_migration.states import RunKind
from system_migration.telling import NotTold, NotYetTold
from system_migration.webhook import Webhook, webhook_of
from tests.support.receiver import SECRET, Receiver, receiving

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
RUN = WhichRun("001-x", "production", "5b3f0e0a-8a52-4d0e-9a39-0d7a3f4f8f6e", RunKind.RUN, 1, "ada@host", "host")
NEWS = Notification("failed", "001-x", "production", RUN.run_id, RunKind.RUN, "ada@host", 97, 3, "Ü broke.", AT)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as listening:
        yield listening


def settings(url: str, secret: str | None = SECRET, environment: str = "production") -> Settings:
    return Settings(environment=environment, webhook_url=url, webhook_secret=secret)


def post(receiver: Receiver, news: Notification = NEWS) -> None:
    webhook_of(settings(receiver.url))(news)


# --- the address and the key -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("https://hooks.example/x", "production"),
        ("https://hooks.example:8443", "staging"),
        ("http://hooks.example/x", "development"),
        ("http://127.0.0.1:9000/x", "production"),
        ("http://[::1]:9000/x", "production"),
        ("http://localhost/x", "production"),
    ],
)
def test_https_is_taken_and_http_in_development_or_to_this_machine(url: str, environment: str) -> None:
    assert webhook_of(settings(url, environment=environment)).url == url


@pytest.mark.parametrize("url", ["http://hooks.example/hush", "http://127.0.0.1.evil.example/hush", "http://10.0.0.1/"])
def test_http_to_another_machine_is_refused_outside_of_development(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"MIGRATION_WEBHOOK_URL is http, .* Use https") as error:
        webhook_of(settings(url))
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example/hush",
        "file:///etc/hush",
        "ftp://hush.example/",
        "https:///hush",
        "https://u:hush@hooks.example/",
        "https://hooks.example:99999/hush",
        "https://hooks.example/hu sh",
        "https://hooks.example/h\nush",
        "https://[hush/",
    ],
)
def test_what_is_no_address_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MIGRATION_WEBHOOK_URL is not an address") as error:
        webhook_of(settings(url, environment="development"))
    assert "ush" not in str(error.value)


@pytest.mark.parametrize("secret", [None, "", "whsec_", "hush-hush", "whsec_aHVzaA==", "whsec_" + "aHVz" * 40])
def test_a_key_that_signs_nothing_safely_is_refused_and_not_quoted(secret: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"MIGRATION_WEBHOOK_SECRET: whsec_ and the base64") as error:
        webhook_of(settings("https://hooks.example/", secret))
    assert "hush" not in str(error.value)
    assert "aHVz" not in str(error.value)


def test_neither_the_address_nor_the_key_is_in_its_text() -> None:
    assert repr(webhook_of(settings("https://hooks.example/hush"))) == "Webhook(host='hooks.example')"


# --- the message -----------------------------------------------------------------------------------------------------


def test_it_signs_as_the_specification_does() -> None:
    """With the key, id, time and body of the example with which the specification's libraries test themselves."""
    body = b'{"test": 2432232314}'
    signed = webhook.signature(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_is_signed_json_in_camel_case(receiver: Receiver) -> None:
    post(receiver)
    (one,) = receiver.received
    assert json.loads(one.body) == {
        "event": "failed",
        "migration": "001-x",
        "environment": "production",
        "runId": RUN.run_id,
        "kind": "run",
        "actor": "ada@host",
        "rows": 97,
        "held": 3,
        "error": "Ü broke.",
        "at": "2026-11-24T12:00:00.000Z",
    }
    assert (one.path, one.headers["content-type"]) == ("/hook/hush", "application/json")
    timestamp = int(one.headers["webhook-timestamp"])
    assert abs(time.time() - timestamp) < 60
    content = f"{one.headers['webhook-id']}.{timestamp}.".encode() + one.body
    made = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
    assert one.headers["webhook-signature"] == f"v1,{made}"
    assert "." not in one.headers["webhook-id"]


def test_it_is_sent_again_after_what_passes_under_the_same_id(receiver: Receiver) -> None:
    receiver.answers = [500, 429]
    for _ in receiver.answers[:]:
        with pytest.raises(NotYetTold):
            post(receiver)
    post(receiver)
    assert len(receiver.received) == 3
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1
    assert len({each.body for each in receiver.received}) == 1


def test_another_event_or_run_has_another_id(receiver: Receiver) -> None:
    from dataclasses import replace

    for news in (NEWS, replace(NEWS, event="started"), replace(NEWS, run_id="other")):
        post(receiver, news)
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 3


@pytest.mark.parametrize(("answer", "passes"), [(404, False), (410, False), (408, True), (503, True)])
def test_a_refusal_is_taken_and_trouble_may_pass(receiver: Receiver, answer: int, passes: bool) -> None:
    receiver.answers = [answer] * 9
    with pytest.raises(NotTold) as error:
        post(receiver)
    assert str(error.value) == f"The webhook at 127.0.0.1 was not told of 'failed': it answered {answer}."
    assert isinstance(error.value, NotYetTold) is passes
    assert len(receiver.received) == 1


@pytest.mark.parametrize("answer", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(receiver: Receiver, answer: int) -> None:
    receiver.answers = [answer]
    with pytest.raises(NotTold, match=f"it answered {answer}"):
        post(receiver)
    assert [each.path for each in receiver.received] == ["/hook/hush"]


def test_one_that_hangs_is_left_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.1)
    with receiving(shut=True) as hanging, pytest.raises(NotYetTold) as error:
        post(hanging)
    assert str(error.value).startswith("The webhook at 127.0.0.1 was not told of 'failed': it could not be reached (")
    assert len(hanging.received) == 1


def test_one_that_nobody_serves_is_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(NotYetTold, match=r"it could not be reached \(ConnectionRefusedError\)"):
        Webhook(f"http://127.0.0.1:{port}/", "127.0.0.1", KEY)(NEWS)


def test_a_proxy_is_not_asked_for_this_machine(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    post(receiver)
    assert receiver.events == ["failed"]


# --- what is news ----------------------------------------------------------------------------------------------------


def ended(outcome: str, run: WhichRun = RUN) -> Fact:
    return Ended(run, AT, outcome, 97, 3, "It broke.", "MigrationFailed")


@pytest.mark.parametrize(
    ("fact", "event"),
    [
        (Began(RUN, AT, taken_over=False), "started"),
        (Began(RUN, AT, taken_over=True), None),
        (BatchCommitted(RUN, AT, 1, 1, 0, 0, 0.1), None),
        (ended(facts.SUCCEEDED), "completed"),
        (ended(facts.FAILED), "failed"),
        (ended(facts.CANCELLED), "failed"),
        (ended(facts.PAUSED), "paused"),
        (ended(facts.REFUSED), None),
        (ended(facts.INTERRUPTED), None),
        (ended(facts.SUPERSEDED), None),
    ],
)
def test_what_is_news(fact: Fact, event: str | None) -> None:
    news = notification_of(fact)
    assert (news.event if news is not None else None) == event


@pytest.mark.parametrize("kind", [RunKind.DRY_RUN, RunKind.VERIFY])
def test_what_changes_nothing_is_no_news(kind: RunKind) -> None:
    from dataclasses import replace

    run = replace(RUN, kind=kind)
    assert notification_of(Began(run, AT, taken_over=False)) is None
    assert notification_of(ended(facts.FAILED, run)) is None


def test_a_very_long_error_is_cut() -> None:
    given: Any = Ended(RUN, AT, facts.FAILED, 0, 0, "x" * 9_000, "MigrationFailed")
    news = notification_of(given)
    assert news is not None
    assert len(news.error or "") == 2_000
