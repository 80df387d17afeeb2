"""The decision before the first hash: which keys are proven, and which rows may be held (passwords.md 3.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from ante_backend.key_preflight import Known, allowed_issues, judge, warnings
from ante_backend.key_survey import LegacyRow, Survey
from ante_backend.legacy_cipher import LegacyCipher, derive_key
from ante_backend.passwords import Over72Policy, hash_password
from ante_backend.plausibility import KeyRing, probability
from system_migration import Refused

MAIN_TEXT, OLD_TEXT = "the main key, ünïcode", "the former key"
MAIN, OLD, THIRD = derive_key(MAIN_TEXT), derive_key(OLD_TEXT), bytes(range(32))
START = datetime(2021, 1, 1)


def account(number: int, text: str | bytes, under: bytes = MAIN, /, **columns: Any) -> LegacyRow:
    iv = Random(number).randbytes(16)
    plain = text.encode() if isinstance(text, str) else text
    values = {
        "id": number,
        "created_at": START + timedelta(days=number),
        "password": LegacyCipher(under).encrypt(plain, iv),
        "key": iv,
    }
    return LegacyRow(**(values | columns))


def accounts(numbers: Iterable[int], key: bytes = MAIN, length: int = 8) -> Iterator[LegacyRow]:
    cipher, random = LegacyCipher(key), Random(str((key, length)))
    for number in numbers:
        password = "".join(random.choices("abcdefghijkmnpqrstuvwxyz23456789", k=length)).encode()
        iv = random.randbytes(16)
        yield LegacyRow(number, START + timedelta(days=number), cipher.encrypt(password, iv), iv)


def unreadable(numbers: Iterable[int], length: int = 8) -> Iterator[LegacyRow]:
    for number in numbers:
        yield account(number, b"\xff" * length)


def survey(rows: Iterable[LegacyRow], *old_keys: bytes, main: bytes = MAIN, over_72: Over72Policy = "hold") -> Survey:
    ring = KeyRing([("ENCRYPTION_KEY", main), *((f"old key {n}", key) for n, key in enumerate(old_keys, start=1))])
    result = Survey(ring, over_72)
    for row in rows:
        result.add(row)
    return result


def refusal(result: Survey, key_text: str = MAIN_TEXT, **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        judge(result, key_text, **options)
    sentence = str(refused.value)
    assert key_text.strip() not in sentence
    return sentence


def knowing(row: LegacyRow, password: str, line: int = 1) -> Known:
    return Known(f"ENCRYPTION_CANARY line {line}", [row], password)


# The main key


def test_the_right_key_is_accepted() -> None:
    result = survey(accounts(range(20)))
    judge(result, MAIN_TEXT)
    assert (result.pending, result.would_hold, result.opened) == (20, 0, [20])


@pytest.mark.parametrize("rows", [8, 2000])
def test_a_wrong_key_is_refused(rows: int) -> None:
    sentence = refusal(survey(accounts(range(rows)), main=THIRD), "nonsense")
    assert sentence.startswith("ENCRYPTION_KEY is wrong")
    assert "Set it to the key that the legacy application uses." in sentence


def test_a_wrong_key_is_not_excused_by_max_issues() -> None:
    assert "ENCRYPTION_KEY is wrong" in refusal(survey(accounts(range(50)), main=THIRD), max_issues=1000)


@pytest.mark.parametrize(
    ("given", "flaw"),
    [
        (MAIN_TEXT + "\n", "the line break at its end"),
        (MAIN_TEXT + "\r\n", "the line break at its end"),
        (f"'{MAIN_TEXT}'", "the quotes around it"),
        (f'"{MAIN_TEXT}"\n', "the line break at its end and the quotes around it"),
        ("\ufeff" + MAIN_TEXT, "the byte order mark before it"),
        (f"  {MAIN_TEXT} ", "the white space around it"),
        (f"' {MAIN_TEXT}'", "the quotes around it and the white space around it"),
        (MAIN_TEXT.replace("ü", "u\u0308"), "its present Unicode form"),
    ],
)
def test_an_artefact_of_the_key_is_named_but_not_repaired(given: str, flaw: str) -> None:
    sentence = refusal(survey(accounts(range(50)), main=derive_key(given)), given)
    assert sentence.startswith("ENCRYPTION_KEY is wrong")
    assert f"Without {flaw}" in sentence


def test_a_main_key_that_stands_among_the_old_ones_is_found() -> None:
    assert "old key 1 of ENCRYPTION_KEYS_OLD is proven" in refusal(survey(accounts(range(50)), MAIN, main=THIRD), "x")


def test_no_rows_at_all_prove_nothing_and_hold_nothing() -> None:
    result = survey([])
    assert (result.pending, result.would_hold) == (0, 0)


# Rows under another key


def test_half_the_rows_under_another_key_are_refused_as_a_block() -> None:
    rows = [*accounts(range(1, 51)), *accounts(range(51, 101), OLD)]
    sentence = refusal(survey(rows))
    assert re.match(
        r"50 of 100 encrypted passwords cannot be read with ENCRYPTION_KEY: accounts 51 to 100 "
        r"\(created 2021-02-21 to 2021-04-11\)",
        sentence,
    )
    assert "They are a block" in sentence
    assert "ENCRYPTION_KEYS_OLD" in sentence
    assert "--max-issues 50" in sentence


def test_a_block_by_date_is_seen_under_random_ids() -> None:
    rows = [*accounts(range(1, 51)), *accounts(range(51, 101), OLD)]
    Random(1).shuffle(rows)
    assert "They are a block" in refusal(survey(rows))


def test_half_the_rows_scattered_are_not_called_a_block() -> None:
    rows = [
        row for pair in zip(accounts(range(0, 100, 2)), accounts(range(1, 100, 2), OLD), strict=True) for row in pair
    ]
    assert "They are scattered" in refusal(survey(rows))


def test_with_the_other_key_in_the_ring_all_are_opened() -> None:
    result = survey([*accounts(range(50)), *accounts(range(50, 100), OLD)], OLD)
    judge(result, MAIN_TEXT)
    assert result.opened[0] + result.opened[1] + result.held["ambiguous_key"] == 100
    assert result.opened[1] >= 49


def test_three_of_ten_thousand_may_be_damaged() -> None:
    result = survey([*accounts(range(9_997)), *unreadable(range(9_997, 10_000))])
    judge(result, MAIN_TEXT)
    assert result.held == {"not_utf8": 3}


def test_a_hundred_of_a_hundred_thousand_under_another_key_are_too_many() -> None:
    result = survey([*accounts(range(99_900)), *accounts(range(99_900, 100_000), OLD)])
    assert 95 <= result.unreadable.count <= 100
    assert result.would_hold <= allowed_issues(result.rows)
    assert result.unreadable.hidden == pytest.approx(0.15, abs=0.01)
    sentence = refusal(result)
    assert "about 0.15 more would pass as garbage" in sentence
    judge(result, MAIN_TEXT, max_issues=100)


def test_each_key_of_the_ring_is_a_chance_for_garbage() -> None:
    rows = [*accounts(range(1000)), account(1000, b"\xff" * 8)]
    assert survey(rows, OLD, THIRD).unreadable.hidden == pytest.approx(3 * probability(8) / (1 - probability(8)))


# Old keys


def test_an_unrelated_old_key_gets_no_credit_for_the_rows_of_the_main_key() -> None:
    result = survey(accounts(range(5_000), length=6), THIRD)
    assert result.held["ambiguous_key"] > 10  # it opens some of them, by luck
    assert result.evidence[1].passed == 0
    assert "would be held" in refusal(result)
    assert list(warnings(result)) == ["old key 1 of ENCRYPTION_KEYS_OLD opens no account of its own; it can be removed"]


def test_an_unused_old_key_is_worth_a_warning_only() -> None:
    result = survey(accounts(range(100), length=14), THIRD)
    judge(result, MAIN_TEXT)
    assert "old key 1" in "".join(warnings(result))


def test_an_old_key_that_opens_damaged_rows_by_luck_is_refused() -> None:
    lucky = (
        row for row in accounts(range(10_000, 20_000), bytes(32), length=4) if survey([row], THIRD).opened == [0, 1]
    )
    result = survey([*accounts(range(2_000), length=14), next(lucky), *unreadable(range(20_000, 20_003))], THIRD)
    assert result.opened[1] == 1
    sentence = refusal(result, max_issues=1000)
    assert "old key 1 opens 1 account that no other key opens, which does not prove it" in sentence


def test_one_password_proves_an_old_key_of_few_rows() -> None:
    former = account(900, "summer21", OLD)
    result = survey([*accounts(range(500), length=14), former], OLD)
    assert "old key 1 opens 1 account" in refusal(result)
    judge(result, MAIN_TEXT, canaries=[knowing(former, "summer21")])


def test_four_rows_under_an_old_key_prove_it_beside_damaged_ones() -> None:
    former = [
        account(900 + n, password, OLD) for n, password in enumerate(("summer2021", "long passphrase", "eightchr"))
    ]
    result = survey([*accounts(range(1_000), length=14), *former, *unreadable(range(950, 954), 11)], OLD)
    judge(result, MAIN_TEXT)
    assert result.opened == [1_000, 3]


def test_the_same_key_twice_is_one_key() -> None:
    result = survey(accounts(range(50)), MAIN)
    judge(result, MAIN_TEXT)
    assert result.opened == [50]


# Too few rows


def undecided() -> tuple[list[LegacyRow], Survey]:
    rows = [account(1, "qwerty"), account(2, "s3cret!!")]
    return rows, survey(rows)


def test_two_rows_do_not_prove_a_key() -> None:
    assert "ENCRYPTION_CANARY='username:password'" in refusal(undecided()[1])


def test_a_canary_proves_it() -> None:
    rows, result = undecided()
    judge(result, MAIN_TEXT, canaries=[knowing(rows[0], "qwerty")])


def test_a_wrong_canary_is_refused_by_its_line_whatever_the_rows_say() -> None:
    rows = [*accounts(range(100)), account(100, "qwerty")]
    sentence = refusal(survey(rows), canaries=[knowing(rows[-1], "Qwerty", 7)])
    assert sentence.startswith("ENCRYPTION_CANARY line 7 does not fit")
    assert "werty" not in sentence


def test_a_canary_tells_that_the_key_has_an_artefact() -> None:
    given = MAIN_TEXT + "\n"
    row = account(1, "qwerty")
    sentence = refusal(survey([row], main=derive_key(given)), given, canaries=[knowing(row, "qwerty")])
    assert "Without the line break at its end" in sentence


@pytest.mark.parametrize(
    ("found", "said"), [([], "no account"), ([account(1, "a"), account(2, "a")], "several accounts")]
)
def test_a_canary_must_name_one_account(found: list[LegacyRow], said: str) -> None:
    assert said in refusal(undecided()[1], canaries=[Known("ENCRYPTION_CANARY line 1", found, "a")])


def test_a_canary_needs_an_encrypted_password() -> None:
    row = account(1, "qwerty", password=None)
    assert "without a readable encrypted password" in refusal(undecided()[1], canaries=[knowing(row, "qwerty")])


def test_a_canary_of_an_old_key_does_not_prove_the_main_one() -> None:
    former = account(3, "summer21", OLD)
    result = survey([account(1, "qwerty"), former], OLD)
    assert "is not proven" in refusal(result, canaries=[knowing(former, "summer21")])


def test_the_key_that_the_generation_began_with_is_proven() -> None:
    judge(undecided()[1], MAIN_TEXT, pinned=True)


@pytest.mark.parametrize(("password", "proves"), [("already moved", True), ("changed since", False)])
def test_an_account_with_hash_and_ciphertext_is_a_canary(password: str, proves: bool) -> None:
    stored = hash_password(password.encode(), 4, "hold")
    result = survey([account(1, "qwerty"), account(2, "already moved", password_hash=stored)])
    result.evidence[0].log_likelihood = 0  # as if both were too short to tell
    if proves:
        judge(result, MAIN_TEXT)
    else:
        assert "is not proven" in refusal(result)


def test_the_person_at_the_terminal_can_prove_it() -> None:
    rows, result = undecided()
    judge(result, MAIN_TEXT, ask=lambda: Known("The answer", [rows[1]], "s3cret!!"))
    assert refusal(result, ask=lambda: Known("The answer", [rows[1]], "s3cret")).startswith("The answer does not fit")


def test_nobody_is_asked_when_the_rows_decide() -> None:
    def ask() -> Known | None:
        raise AssertionError("asked")

    judge(survey(accounts(range(50))), MAIN_TEXT, ask=ask)
    refusal(survey(accounts(range(50)), main=THIRD), ask=ask)


# Rows that would be held


@pytest.mark.parametrize(("rows", "allowed"), [(0, 3), (1, 3), (799, 3), (800, 4), (100_000, 500)])
def test_half_a_percent_may_be_held_and_three_of_a_small_table(rows: int, allowed: int) -> None:
    assert allowed_issues(rows) == allowed


@pytest.mark.parametrize(("max_issues", "accepted"), [(None, False), (3, False), (4, True), (40, True)])
def test_max_issues_must_cover_all_rows_that_would_be_held(max_issues: int | None, accepted: bool) -> None:
    result = survey([*accounts(range(50)), *unreadable(range(50, 54))])
    if accepted:
        judge(result, MAIN_TEXT, max_issues=max_issues)
    else:
        assert "--max-issues 4." in refusal(result, max_issues=max_issues)


def test_max_issues_may_also_be_stricter() -> None:
    result = survey([*accounts(range(1000)), *unreadable(range(1000, 1002))])
    judge(result, MAIN_TEXT)
    assert refusal(result, max_issues=1).startswith("2 rows would be held (2 not_utf8), and 1 may be.")


def test_structural_faults_count_against_the_limit_and_not_against_the_key() -> None:
    damaged = [account(number, "x", password="zz") for number in range(200, 210)]
    result = survey([*accounts(range(20)), *damaged])
    assert result.evidence[0].failed == 0
    sentence = refusal(result)
    assert sentence.startswith("10 rows would be held (10 ciphertext_not_hex), and 3 may be.")
    judge(result, MAIN_TEXT, max_issues=10)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (account(1, "x" * 73), "over_72_bytes"),
        (account(1, b"ab\0cd"), "nul_byte"),
        (account(1, "tab\there"), "control_character"),
        (account(1, "x", password=""), "empty_ciphertext"),
        (account(1, "x", key=b"short"), "iv_length"),
        (account(1, "x", password="zz", key=b"short"), "ciphertext_not_hex"),
        (account(1, "x", password_hash="junk"), "unrecognised_hash"),
        (account(1, "x", password=None, password_hash="$argon2id$v=19$"), "unrecognised_hash"),
    ],
)
def test_what_a_run_would_hold_is_counted_by_code(row: LegacyRow, code: str) -> None:
    result = survey([row])
    assert (result.pending, dict(result.held)) == (1, {code: 1})


@pytest.mark.parametrize(
    "row",
    [
        account(1, "x", password=None),
        account(1, "x", key=None),
        account(1, "x", password_hash=hash_password(b"x", 4, "hold")),
        account(1, b"\xff\xff", password_hash=hash_password(b"x", 4, "hold")),
    ],
)
def test_what_a_run_does_not_select_is_not_pending(row: LegacyRow) -> None:
    result = survey([row])
    assert (result.pending, result.would_hold, result.opened) == (0, 0, [0])


def test_skipped_rows_and_weak_ivs_are_counted_in_warnings() -> None:
    zero = LegacyRow(3, START, LegacyCipher(MAIN).encrypt(b"with a zero IV", bytes(16)), bytes(16))
    result = survey([account(1, "x", key=None), account(2, "x", password=None), zero])
    assert result.without_password == 1
    said = list(warnings(result))
    assert said[0].startswith("1 account skipped")
    assert said[1].startswith("1 account with an all-zero IV")


def test_with_truncate_every_account_that_is_cut_is_named() -> None:
    result = survey([account(7, "x" * 73), account(8, "x" * 72)], over_72="truncate")
    assert result.would_hold == 0
    assert list(warnings(result)) == ["account 7: the password is over 72 bytes, its hash covers the first 72"]


def test_nothing_that_is_kept_of_the_rows_shows_in_a_repr() -> None:
    row = account(1, "x" * 73)
    result = survey([row])
    for shown in (repr(row), repr(result.sample), repr(knowing(row, "hunter22"))):
        assert str(row.password) not in shown
        assert repr(row.key) not in shown
        assert "hunter22" not in shown
