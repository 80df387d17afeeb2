"""The audit chain: whatever is done to its rows past the library is named, and nothing else is called tampering."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from system_migration import ConfigurationError, MigrationSystemError, Refused, RunOptions, Settings
from system_migration.auditing import verify_file
from system_migration.exporting import exported_head
from system_migration.records import Unsigned
from system_migration.store import audit, chain_pages
from system_migration.store.database import Database
from tests.db.test_workbench import Increment, make_numbers, migrator, quick, rows_of
from tests.support.chains import (
    ADA,
    KEY,
    OTHER,
    Tampering,
    begin,
    broken,
    event,
    export,
    head,
    head_last,
    head_of,
    keeper,
    link,
    note,
    verify,
)
from tests.support.older_tables import make_older

ACTIONS = ["skipped", "reset", "pruned", "verified", "completed"]
SIGNED = [*range(1, 7)]
"""The places of the chain that most tests begin with: what seals its beginning, and five events."""


@pytest.fixture
def chained(engine: Engine) -> Engine:
    """A database whose chain has six signed links."""
    quick(engine)
    begin(engine)
    note(engine, *ACTIONS)
    return engine


@contextmanager
def tampering(engine: Engine) -> Iterator[Tampering]:
    """Somebody writes the tables by hand, committed; at the end of the block all is as it was before."""
    with engine.begin() as connection:
        kept = {
            table: [dict(row._mapping) for row in connection.execute(sa.select(table))] for table in (event, link, head)
        }
    try:
        with engine.connect() as connection:
            hand = Tampering(connection)
            yield hand
    finally:
        with engine.begin() as connection:
            for table, rows in kept.items():
                connection.execute(sa.delete(table))
                connection.execute(sa.insert(table), rows)


def told(engine: Engine, tamper: Callable[[Tampering], Any], *, known: str | None = None) -> str:
    """What the check says of a chain to which this was done; afterwards all is as it was."""
    with tampering(engine) as hand:
        tamper(hand)
        hand.connection.commit()
        return broken(engine, known=known)


def test_an_untouched_chain_holds(chained: Engine) -> None:
    verdict = verify(chained)
    assert (verdict.intact, verdict.broken, verdict.position, verdict.head) == (True, None, 6, 6)
    assert (verdict.signed, verdict.older, verdict.unsigned, verdict.key) == (6, 0, [], KEY.id)
    assert rows_of(chained, "SELECT position FROM system_migration_event_link ORDER BY position") == [
        (position,) for position in SIGNED
    ]


CHANGES: dict[str, Any] = {
    "environment": "prod",
    "name": "003-y",
    "run_id": None,
    "at": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "action": "adopted",
    "actor": "eve",
    "host": "Desk",
    "detail": '{"reason":"it was “time”"}',
}


def test_a_change_of_any_column_of_any_event_is_named(chained: Engine) -> None:
    assert set(CHANGES) == set(event.c.keys()) - {"id"}
    for position in SIGNED:
        for column, value in CHANGES.items():
            if column == "run_id" and position == 1:
                value = "run-1"
            said = told(chained, lambda hand, p=position, c=column, v=value: hand.change(p, **{c: v}))
            assert said.startswith(f"Event {position} (") or said == (
                f"The signature of event {position} was taken away."
            ), (position, column, said)
    assert told(chained, lambda hand: hand.change(3, actor="eve")).endswith(") was changed.")
    assert "(reset of 003-x by eve, 20" in told(chained, lambda hand: hand.change(3, actor="eve"))
    at = sa.text("UPDATE system_migration_event SET at = :at WHERE id = 4")
    moved = {"at": "2026-01-02 03:04:05.000007"}
    assert told(chained, lambda hand: hand.connection.execute(at, moved)).endswith("was changed.")


def test_a_changed_id_leaves_a_gap(chained: Engine) -> None:
    change = sa.update(event).where(event.c.id == 4).values(id=400)
    assert told(chained, lambda hand: hand.connection.execute(change)) == "An event is missing after event 3."


@pytest.mark.parametrize("links", [True, False], ids=["and its link", "alone"])
def test_a_deleted_event_is_missed(chained: Engine, links: bool) -> None:
    for position in SIGNED:
        said = told(chained, lambda hand, p=position: hand.cut([p], links=links))
        before = f"An event is missing after event {position - 1}." if position > 1 else "The first event is missing."
        last = "The events after 5 are gone: the head is at 6."
        assert said == (last if links and position == 6 else before)


def test_a_deleted_event_is_missed_where_the_others_moved_up(chained: Engine) -> None:
    def tamper(hand: Tampering, position: int) -> None:
        hand.cut([position])
        hand.move(start=position + 1, by=-1)

    for position in (2, 3, 4):
        said = told(chained, lambda hand, p=position: tamper(hand, p))
        assert said == f"An event is missing after event {position - 1}: those behind it were moved up."


def test_an_inserted_event_is_named(chained: Engine) -> None:
    def between(hand: Tampering, position: int) -> None:
        hand.move(start=position, by=1)
        forged = hand.put_in(actor="eve")
        hand.connection.execute(sa.insert(link).values(position=position, event_id=forged, mac="0" * 64))

    for position in (2, 4, 6):
        said = told(chained, lambda hand, p=position: between(hand, p))
        assert said.startswith(f"Event {position} (")
        assert said.endswith(f") was inserted after event {position - 1}.")
    said = told(chained, lambda hand: hand.put_in(actor="eve"))
    assert said.startswith("An event (")
    assert "by eve" in said
    assert said.endswith("stands outside the chain: it was inserted past the library.")
    assert "set back" in told(chained, lambda hand: behind_the_head(hand))


def behind_the_head(hand: Tampering) -> None:
    forged = hand.put_in(actor="eve")
    hand.connection.execute(sa.insert(link).values(position=7, event_id=forged, mac=None))


def test_any_two_events_that_changed_places_are_named(chained: Engine) -> None:
    for one in SIGNED:
        for other in range(one + 1, 7):
            said = told(chained, lambda hand, a=one, b=other: hand.swap(a, b))
            assert said == f"Event {other} stands where event {one} should."


def test_events_of_swapped_contents_are_named(chained: Engine) -> None:
    def tamper(hand: Tampering) -> None:
        two, three = hand.id_of(2), hand.id_of(3)
        hand.relink(2, event_id=three)
        hand.relink(3, event_id=two)

    assert told(chained, tamper).startswith("Event 2 (")


def test_a_signature_that_was_changed_or_taken_away_is_named(chained: Engine) -> None:
    for position in SIGNED:
        assert told(chained, lambda hand, p=position: hand.relink(p, mac="0" * 64)).startswith(f"Event {position} (")
        said = told(chained, lambda hand, p=position: hand.relink(p, mac=None))
        last = "The head of the chain was changed: the last signed event is 5."
        assert said == (last if position == 6 else f"The signature of event {position} was taken away.")


def test_a_chain_without_any_signature_is_not_called_whole(chained: Engine) -> None:
    def strip(hand: Tampering) -> None:
        hand.connection.execute(sa.update(link).values(mac=None))
        hand.set_head(linked=0, mac=None, key=None, seal=None)

    assert told(chained, strip).startswith("Nothing is attested: none of 6 events is signed.")

    def wipe(hand: Tampering) -> None:
        for table in (link, event):
            hand.connection.execute(sa.delete(table))
        hand.set_head(position=0, linked=0, mac=None, key=None, seal=None)

    text = export(chained)[-1]
    assert told(chained, wipe) == "None"  # nothing is left that could tell
    assert told(chained, wipe, known=text) == "The events after 0 are gone: the exported head is at 6."


def test_the_head_cannot_be_changed(chained: Engine) -> None:
    changes: list[dict[str, Any]] = [{"position": 5}, {"position": 9}, {"linked": 5}, {"mac": "0" * 64}, {"mac": None}]
    changes += [{"seal": "0" * 64}, {"seal": None}]
    for values in changes:
        assert told(chained, lambda hand, v=values: hand.set_head(**v)) != "None", values
    assert "missing" in told(chained, lambda hand: hand.connection.execute(sa.delete(head)))
    assert told(chained, lambda hand: hand.set_head(chain="0" * 36)) != "None"
    with tampering(chained) as hand:
        hand.set_head(key="0" * 16)
        hand.connection.commit()
        with pytest.raises(ConfigurationError, match="if this is it, the head of the chain was changed"):
            verify(chained)


def test_a_cut_tail_is_missed_by_the_signed_head(chained: Engine) -> None:
    def cut(hand: Tampering, **values: Any) -> None:
        hand.cut([5, 6])
        hand.set_head(**values)

    fourth = rows_of(chained, "SELECT mac FROM system_migration_event_link WHERE position = 4")[0][0]
    assert told(chained, lambda hand: cut(hand, position=4)) == "The events after 4 are gone: the head is at 6."
    values = {"position": 4, "linked": 4, "mac": fourth}
    assert told(chained, lambda hand: cut(hand, **values)).startswith("The head of the chain was changed")


def signature_at(engine: Engine, position: int) -> str:
    return str(rows_of(engine, f"SELECT mac FROM system_migration_event_link WHERE position = {position}")[0][0])


@pytest.mark.parametrize("key", [KEY.id, None, "0" * 16], ids=["its key", "no key", "an unknown key"])
def test_no_later_event_makes_a_cut_tail_good(chained: Engine, key: str | None) -> None:
    fourth = signature_at(chained, 4)
    with tampering(chained) as hand:
        hand.cut([5, 6])
        hand.set_head(position=4, linked=4, mac=fourth, key=key)
        if key is None:
            hand.set_head(seal=None)
        hand.connection.commit()
        note(chained, "skipped")
        with keeper(chained, OTHER, KEY) as other, pytest.raises(Refused, match="signed where the audit chain ends"):
            other.audit_rekey()
        hand.set_head(key=KEY.id)  # else the check says that the key does not match
        hand.connection.commit()
        assert broken(chained) == "The head of the chain was changed: the last signed event is 4."


def test_no_later_event_vouches_for_events_whose_signatures_were_taken_away(chained: Engine) -> None:
    second = signature_at(chained, 2)
    with tampering(chained) as hand:
        hand.change(4, actor="eve")
        for position in (3, 4, 5, 6):
            hand.relink(position, mac=None)
        hand.set_head(linked=2, mac=second)
        hand.connection.commit()
        note(chained, "skipped")
        assert broken(chained) == "The head of the chain was changed: the last signed event is 2."


def test_another_key_goes_on_only_where_the_former_one_proves_the_end(chained: Engine) -> None:
    with keeper(chained, OTHER) as other, pytest.raises(Refused, match=f"the head names {KEY.id}"):
        other.audit_rekey()
    with keeper(chained, OTHER, KEY) as other:
        other.audit_rekey()
    assert verify(chained, OTHER, KEY).intact


@pytest.mark.databases("sqlite")
@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("event SET at = 'x' WHERE id = 3", 0),  # a page of them is read at once
        ("event SET actor = x'ff' WHERE id = 3", 2),
        ("event_link SET mac = x'00' WHERE position = 3", 2),
        ("event_head SET linked = 'x'", 6),
    ],
)
def test_a_value_of_another_kind_is_named_too(chained: Engine, change: str, after: int) -> None:
    said = told(chained, lambda hand: hand.connection.execute(sa.text(f"UPDATE system_migration_{change}")))
    assert said.startswith((f"What follows event {after} cannot be read (", f"Event {after + 1} ("))


def test_a_tail_cut_with_an_old_head_put_back_is_missed_by_the_exported_one_alone(chained: Engine) -> None:
    then = head_of(chained)
    note(chained, "skipped", "reset")
    known = export(chained)[-1]

    def cut(hand: Tampering) -> None:
        hand.cut([7, 8])
        hand.set_head(position=6, linked=6, mac=then.mac, seal=then.seal)

    assert told(chained, cut) == "None"
    assert told(chained, cut, known=known) == "The events after 6 are gone: the exported head is at 8."

    def and_go_on(hand: Tampering) -> None:
        cut(hand)
        hand.connection.commit()
        note(chained, "pruned", "verified")

    assert told(chained, and_go_on) == "None"
    assert told(chained, and_go_on, known=known) == "Event 8 is another one than the exported head knows."
    assert verify(chained, known=known).intact


def test_a_head_that_is_not_of_this_chain_is_no_evidence(chained: Engine, tmp_path: Path) -> None:
    known = json.loads(export(chained)[-1])
    known["head"]["linked"] = 3
    with pytest.raises(ConfigurationError, match="bears no signature of this key"):
        verify(chained, known=json.dumps(known))
    (tmp_path / "empty").touch()
    for nonsense in ("{}", "nowhere.jsonl", '{"head": {"chain": 1}}', str(tmp_path / "empty")):
        with pytest.raises(ConfigurationError):
            verify(chained, known=nonsense)


def test_another_key_is_told_and_writes_nothing(chained: Engine) -> None:
    with pytest.raises(ConfigurationError, match=f"signed with {KEY.id}, and MIGRATION_AUDIT_KEY is {OTHER.id}"):
        verify(chained, OTHER)
    with keeper(chained, OTHER) as other, pytest.raises(Refused, match="`migration audit rekey`"):
        other.init()
    with keeper(chained, None) as none, pytest.raises(ConfigurationError, match="Set MIGRATION_AUDIT_KEY"):
        none.audit_verify()
    assert verify(chained).position == 6


def test_a_run_whose_chain_got_another_key_meanwhile_goes_on_unsigned(chained: Engine) -> None:
    with keeper(chained, OTHER, KEY) as other:
        assert other.audit_rekey() == OTHER.id
        with pytest.raises(Refused, match="already"):
            other.audit_rekey()
    note(chained, "completed", key=KEY)
    note(chained, "skipped", key=OTHER)
    verdict = verify(chained, OTHER, KEY)
    assert (verdict.broken, verdict.position, verdict.signed) == (None, 10, 9)
    assert verdict.unsigned == [Unsigned(8, 8, True)]
    assert "signed with an earlier key" not in str(verify(chained, OTHER, KEY).broken)
    assert f"earlier key, {KEY.id}, which MIGRATION_AUDIT_KEYS_OLD does not have" in str(verify(chained, OTHER).broken)


def test_events_without_the_key_are_named_and_vouched_for_by_the_next_signed_one(chained: Engine) -> None:
    note(chained, "skipped", "reset", key=None)
    verdict = verify(chained)
    assert (verdict.intact, verdict.position, verdict.signed) == (True, 8, 6)
    assert verdict.unsigned == [Unsigned(7, 8, False)]
    note(chained, "pruned")
    verdict = verify(chained)
    assert (verdict.intact, verdict.position, verdict.signed) == (True, 10, 8)
    assert verdict.unsigned == [Unsigned(7, 8, True)]
    for tamper in (
        lambda hand: hand.change(7, actor="eve"),
        lambda hand: hand.swap(7, 8),
        lambda hand: hand.change(8, detail="{}"),
    ):
        said = told(chained, tamper)
        assert said == "One of the events 7 to 8, written without the key, was changed since event 9."
    assert told(chained, lambda hand: hand.cut([8])) == "An event is missing after event 7."
    assert told(chained, lambda hand: hand.relink(6, mac=None)) == "The signature of event 6 was taken away."
    assert told(chained, lambda hand: hand.relink(9, mac=None)) == "The signature of event 9 was taken away."


def test_concurrent_appends_make_one_chain_without_gaps(chained: Engine) -> None:
    databases = [Database(chained, signer=KEY if number % 4 else None) for number in range(8)]
    line, errors = threading.Barrier(8), []

    def append(database: Database) -> None:
        def step(connection: Connection) -> None:
            audit.add_event(connection, "test", None, "skipped", ADA)

        line.wait(60)
        try:
            for _ in range(4):
                database.transact(step)
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=append, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for database in databases:
        database.close()
    assert errors == []
    verdict = verify(chained)
    assert verdict.intact
    positions = [row[0] for row in rows_of(chained, "SELECT position FROM system_migration_event_link")]
    assert sorted(positions) == [*range(1, verdict.head + 1)]
    assert len(rows_of(chained, "SELECT id FROM system_migration_event WHERE action = 'skipped'")) == 33


def test_an_append_that_another_overtook_is_not_written(chained: Engine) -> None:
    """The lock makes it impossible; were it gone, the place itself would still be taken once only."""
    database = Database(chained, signer=KEY)
    stale = head_of(chained)
    note(chained, "skipped")
    from system_migration.store import chain

    with pytest.raises((MigrationSystemError, sa.exc.IntegrityError)), database.write() as connection:
        chain._move(connection, stale, stale)
    database.close()
    assert verify(chained).position == 7


def test_event_link_and_head_come_with_what_they_tell_of_or_not_at_all(chained: Engine) -> None:
    class Dies(Exception):
        pass

    spoken = [f"INSERT INTO {event.name}", f"INSERT INTO {link.name}", f"UPDATE {head.name}"]
    for words in spoken:
        database = Database(chained, signer=KEY)

        def die(_c: Any, _cursor: Any, statement: str, *_: Any, said: str = words) -> None:
            if statement.startswith(said):
                raise Dies

        sa.event.listen(database.engine, "after_cursor_execute", die)
        with pytest.raises(Dies), database.write() as connection:
            audit.add_event(connection, "test", None, "skipped", ADA)
        database.close()
        assert verify(chained).position == 6
    assert len(rows_of(chained, "SELECT id FROM system_migration_event")) == 6


def test_what_was_written_before_the_chain_is_covered_by_its_first_link(engine: Engine) -> None:
    make_numbers(engine, 8)
    make_older(quick(engine), 3)
    with keeper(engine) as made, pytest.raises(MigrationSystemError, match="version 3, which has no audit chain"):
        made.audit_verify()
    begin(engine)
    assert broken(engine).startswith("Nothing is attested")
    note(engine, "skipped")
    older = len(rows_of(engine, "SELECT id FROM system_migration_event")) - 2
    verdict = verify(engine)
    assert (verdict.intact, verdict.older, verdict.signed, verdict.unsigned) == (True, older, 2, [])
    for statement, said in {
        "UPDATE system_migration_event SET actor = 'eve' WHERE id = 1": f"(of {older})",
        "DELETE FROM system_migration_event WHERE id = 1": f"(there were {older}, and there are {older - 1})",
    }.items():
        told_now = told(engine, lambda hand, s=statement: hand.connection.execute(sa.text(s)))
        assert told_now == f"The events from before the chain were changed {said}."


def test_an_adopted_database_keeps_its_proof(chained: Engine) -> None:
    for environment in ("staging", "production", "test"):
        with keeper(chained, environment=environment) as made:
            made.adopt()
        note(chained, "skipped", environment=environment)
    verdict = verify(chained)
    assert (verdict.broken, verdict.position) == (None, 12)
    said = told(chained, lambda hand: hand.change(8, environment="staging"))
    assert said.startswith("Event 8 (")
    with keeper(chained, None, environment="elsewhere") as unsigned:
        unsigned.adopt()
    assert verify(chained).unsigned == [Unsigned(13, 13, False)]
    note(chained, "skipped", environment="elsewhere")
    assert verify(chained).unsigned == [Unsigned(13, 13, True)]


def test_an_environment_that_has_events_here_is_not_adopted(chained: Engine) -> None:
    note(chained, "skipped", environment="staging")
    with keeper(chained, environment="staging") as made, pytest.raises(Refused, match="history of its own"):
        made.adopt()


def test_an_export_is_judged_without_the_database(chained: Engine, tmp_path: Path) -> None:
    note(chained, "skipped", key=None)
    with keeper(chained, environment="staging") as made:
        made.adopt()
    lines = export(chained)
    file = tmp_path / "audit.jsonl"
    settings = Settings(audit_key=KEY)
    file.write_text("\n".join(lines) + "\n")
    verdict = verify_file(settings, str(file), str(file))
    assert verdict == verify(chained)
    assert (verdict.intact, verdict.position) == (True, 9)
    for number, line in enumerate(lines[:-1]):
        changed = json.loads(line) | {"actor": "eve"}
        file.write_text("\n".join([*lines[:number], json.dumps(changed), *lines[number + 1 :]]))
        assert not verify_file(settings, str(file)).intact
        file.write_text("\n".join([*lines[:number], *lines[number + 1 :]]))
        assert not verify_file(settings, str(file)).intact
    file.write_text("\n".join([*lines[:2], json.dumps(json.loads(lines[2]) | {"at": 5})]))
    with pytest.raises(ConfigurationError, match="lacks a part of it, or has one of another kind"):
        verify_file(settings, str(file))
    file.write_text("\n".join([*lines[:2], "x"]))
    with pytest.raises(ConfigurationError, match="line 3 cannot be read"):
        verify_file(settings, str(file))


def test_memory_does_not_grow_with_the_export_whose_head_is_given(tmp_path: Path) -> None:
    line, last = json.dumps({"position": 1, "detail": "x" * 1000}), json.dumps({"head": {**PLACE, "position": 9}})
    (tmp_path / "export").write_text("\n".join([*[line] * 3000, last, ""]))
    tracemalloc.start()
    try:
        assert exported_head(str(tmp_path / "export")).position == 9
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


PLACE = {"chain": "c", "linked": 0, "mac": None, "key": None, "seal": None}


@pytest.mark.databases("sqlite")
def test_memory_does_not_grow_with_the_chain(chained: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_pages, "PAGE", 2)
    note(chained, "skipped", "reset", "pruned", key=None)
    note(chained, "skipped")
    assert verify(chained).intact
    assert len(export(chained)) == 12


def test_the_head_is_the_last_that_a_transaction_locks(engine: Engine) -> None:
    make_numbers(engine, 6)
    acting = migrator(engine, Increment)
    with head_last():
        acting.run()
        acting.verify("001-increment")
        acting.reset("001-increment", "again")
        acting.skip("001-increment", "no")
        acting.reset("001-increment", "again")
        acting.dry_run()


def test_a_takeover_that_counts_deaths_locks_the_head_last(engine: Engine) -> None:
    make_numbers(engine, 8)
    make_older(quick(engine), 3)
    begin(engine)
    with head_last():
        migrator(engine, Increment).run(options=RunOptions(accept_code_change=True))
    assert rows_of(engine, "SELECT COUNT(*) FROM system_migration_death") != [(0,)]


def test_a_time_is_signed_to_the_microsecond(chained: Engine) -> None:
    with chained.connect() as connection:
        at = connection.execute(sa.select(event.c.at).where(event.c.id == 3)).scalar_one()
    assert told(chained, lambda hand: hand.change(3, at=at + timedelta(microseconds=1))).endswith("was changed.")


def test_an_event_of_another_course_of_things_does_not_fit_in(chained: Engine) -> None:
    """It was signed, for this very place, before the database was put back and went another way."""
    then = head_of(chained)
    note(chained, "skipped", "reset")
    with chained.connect() as connection:
        mac = connection.execute(sa.select(link.c.mac).where(link.c.position == 7)).scalar_one()
        was = connection.execute(sa.select(event).where(event.c.id == 7)).mappings().one()
    with chained.begin() as connection:
        hand = Tampering(connection)
        hand.cut([7, 8])
        hand.set_head(position=6, linked=6, mac=then.mac, seal=then.seal)
    note(chained, "pruned", "verified")
    assert verify(chained).intact

    def put_back(hand: Tampering) -> None:
        hand.cut([7])
        hand.connection.execute(sa.insert(event).values(dict(was)))
        hand.connection.execute(sa.insert(link).values(position=7, event_id=was["id"], mac=mac))

    assert told(chained, put_back).startswith("Event 8 (")


def test_whoever_finds_the_former_key_cannot_undo_the_change_of_keys(chained: Engine) -> None:
    then = head_of(chained)
    with keeper(chained, OTHER, KEY) as other:
        other.audit_rekey()

    def undo(hand: Tampering) -> None:
        hand.cut([7])
        hand.set_head(position=6, linked=6, mac=then.mac, key=OTHER.id, seal=then.seal)

    with tampering(chained) as hand:
        undo(hand)
        hand.connection.commit()
        assert "ends under the earlier key" in str(verify(chained, OTHER, KEY).broken)


def test_an_export_keeps_a_detail_to_the_letter(chained: Engine, tmp_path: Path) -> None:
    with tampering(chained) as hand:
        detail = hand.connection.execute(sa.select(event.c.detail).where(event.c.id == 3)).scalar_one()
        hand.change(3, detail=detail.replace(": ", ":"))
        hand.connection.commit()
        (tmp_path / "export").write_text("\n".join(export(chained)))
    assert verify_file(Settings(audit_key=KEY), str(tmp_path / "export")).at == 3
