"""Garbage or password, right key or wrong: against the figures of passwords.md 3.2 and 3.4."""

import hmac
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from ante_backend.faults import RowFault
from ante_backend.legacy_cipher import LegacyCipher, derive_key, parse_ciphertext
from ante_backend.plausibility import (
    DECISIVE,
    KeyEvidence,
    KeyRing,
    meaning,
    probability,
    single_fingerprint,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "legacy-passwords.json").read_text("utf-8"))
MAIN = derive_key(VECTORS["encryption_key"])
OLD = derive_key(VECTORS["other_encryption_key"])
THIRD = bytes(range(32))
IV = bytes(16)


def encrypted(key: bytes, plaintext: bytes) -> bytes:
    return bytes.fromhex(LegacyCipher(key).encrypt(plaintext, IV))


def evidence(key: bytes, rows: list[dict[str, Any]]) -> KeyEvidence:
    ring, collected = KeyRing([("main", key)]), KeyEvidence()
    for row in rows:
        ciphertext = parse_ciphertext(row["password"])
        try:
            ring.open(ciphertext, bytes.fromhex(row["key_hex"]))
        except RowFault:
            collected.add(False, len(ciphertext))
        else:
            collected.add(True, len(ciphertext))
    return collected


# Meaning


@pytest.mark.parametrize(
    "text",
    [
        "a",
        " ",
        "  two  ",
        "café",
        "cafe\u0301",
        "no\u00a0break",
        "\ufeffbom",
        "\u200fmark",
        "\ufffd",
        "👨‍👩‍👧‍👦",
        "\U0001fae8",
        "'; DROP TABLE",
        "é" * 36,
        "x" * 300,
    ],
)
def test_every_text_without_control_characters_is_kept_exactly(text: str):
    assert meaning(text.encode()) == text


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        (b"", "empty_plaintext"),
        (b"caf\xe9", "not_utf8"),
        ("passwört-é".encode()[:-1], "not_utf8"),
        (b"\xed\xa0\x80", "not_utf8"),
        (b"\xc0\xaf", "not_utf8"),
        (b"\xf4\x90\x80\x80", "not_utf8"),
        (b"\xff\x00\x01", "not_utf8"),
        (b"ab\x00cd", "nul_byte"),
        (b"\x01\x00", "nul_byte"),
        (b"tab\there", "control_character"),
        (b"line\n", "control_character"),
        (b"\x01", "control_character"),
        (b"\x1f", "control_character"),
        (b"del\x7f", "control_character"),
        ("c1\x80".encode(), "control_character"),
        ("c1\x9f".encode(), "control_character"),
    ],
)
def test_what_cannot_be_a_password_gives_its_code(plain: bytes, code: str):
    with pytest.raises(RowFault) as fault:
        meaning(plain)
    assert fault.value.code == code


def test_the_fault_does_not_carry_the_password():
    with pytest.raises(RowFault) as fault:
        meaning(b"hunter2\xff")
    assert fault.value.__context__ is None
    assert "hunter2" not in str(fault.value)


# Probability


@pytest.mark.parametrize(
    ("n", "documented"),
    [
        (1, "3.7e-01"),
        (2, "1.7e-01"),
        (4, "3.5e-02"),
        (6, "7.2e-03"),
        (7, "3.3e-03"),
        (8, "1.5e-03"),
        (9, "6.7e-04"),
        (10, "3.1e-04"),
        (11, "1.4e-04"),
        (12, "6.3e-05"),
        (13, "2.9e-05"),
        (14, "1.3e-05"),
        (15, "6.0e-06"),
        (16, "2.7e-06"),
    ],
)
def test_the_probability_is_the_documented_one(n: int, documented: str):
    assert f"{probability(n):.1e}" == documented


def test_the_probability_is_the_exact_count():
    counts = [1]
    for n in range(1, 201):
        shares = zip((95, 1888, 61440, 1048576), reversed(counts[-4:]), strict=False)
        counts.append(sum(share * count for share, count in shares))
        assert probability(n) == pytest.approx(counts[n] / 256**n, rel=1e-9)


def test_the_probability_counts_what_meaning_accepts():
    def accepted(plain: bytes) -> bool:
        try:
            meaning(plain)
        except RowFault:
            return False
        return True

    assert sum(accepted(bytes([a])) for a in range(256)) / 256 == probability(1)
    pairs = (bytes([a, b]) for a in range(256) for b in range(256))
    assert sum(map(accepted, pairs)) / 256**2 == pytest.approx(probability(2), rel=1e-12)


@pytest.mark.parametrize("n", [900, 1000, 4096, 10**6])
def test_long_texts_neither_overflow_nor_divide_by_zero(n: int):
    assert 0.0 <= probability(n) < 1e-300
    collected = KeyEvidence()
    collected.add(True, n)
    collected.add(False, n)
    assert math.isfinite(collected.log_likelihood)
    assert math.isfinite(collected.hidden)


@pytest.mark.parametrize("n", [0, -1])
def test_a_text_without_bytes_has_no_probability(n: int):
    with pytest.raises(ValueError, match="at least one byte"):
        probability(n)
    with pytest.raises(ValueError, match="at least one byte"):
        KeyEvidence().add(True, n)


# Key verdict


def test_one_row_of_eight_bytes_adds_the_documented_amounts():
    passing, failing = KeyEvidence(), KeyEvidence()
    passing.add(True, 8)
    failing.add(False, 8)
    assert passing.log_likelihood == pytest.approx(6.5, abs=0.05)
    assert failing.log_likelihood == pytest.approx(-4.6, abs=0.05)
    assert (passing.passed, passing.failed, passing.hidden) == (1, 0, 0.0)
    assert (failing.passed, failing.failed) == (0, 1)


def test_the_right_key_is_proven_by_the_vectors():
    collected = evidence(MAIN, VECTORS["accounts"])
    assert collected.log_likelihood == pytest.approx(652, abs=1)
    assert (collected.passed, collected.failed) == (38, 2)
    assert collected.verdict == "right"


@pytest.mark.parametrize("key", ["unrelated", VECTORS["encryption_key"] + "\n"])
def test_an_unrelated_key_or_a_newline_is_wrong_by_the_vectors(key: str):
    collected = evidence(derive_key(key), VECTORS["accounts"])
    assert collected.log_likelihood == pytest.approx(-177, abs=1)
    assert (collected.passed, collected.failed) == (1, 39)
    assert collected.verdict == "wrong"


def test_foreign_rows_leave_the_verdict_but_raise_the_failures():
    collected = evidence(MAIN, VECTORS["accounts"] + VECTORS["foreign_key_rows"])
    assert collected.log_likelihood > 630
    assert collected.failed == 6
    assert collected.verdict == "right"


def test_passwords_over_72_bytes_are_evidence_for_the_key():
    over = [row for row in VECTORS["accounts"] if row["utf8_bytes"] > 72]
    assert evidence(MAIN, over).passed == len(over) == 4


def test_a_long_password_counts_as_one_of_72_bytes():
    longest, longer = KeyEvidence(), KeyEvidence()
    longest.add(True, 72)
    longer.add(True, 264)
    assert longer.log_likelihood == longest.log_likelihood


def test_the_threshold_is_one_in_a_billion_both_ways():
    collected = KeyEvidence()
    assert collected.verdict == "undecided"
    for log_likelihood, verdict in [
        (DECISIVE, "right"),
        (DECISIVE - 1e-6, "undecided"),
        (-DECISIVE + 1e-6, "undecided"),
        (-DECISIVE, "wrong"),
    ]:
        collected.log_likelihood = log_likelihood
        assert collected.verdict == verdict
    assert pytest.approx(20.7, abs=0.03) == DECISIVE


@pytest.mark.parametrize(("length", "tolerated"), [(6, 6), (8, 33), (10, 163)])
def test_the_hidden_rows_reach_the_limit_where_documented(length: int, tolerated: int):
    collected = KeyEvidence()
    for _ in range(tolerated):
        collected.add(False, length)
    assert collected.hidden < 0.05
    collected.add(False, length)
    assert collected.hidden >= 0.05


def test_three_rows_never_prove_a_wrong_key_and_twelve_always_do():
    rng = random.Random(7)
    for _ in range(200):
        collected = KeyEvidence()
        for row in range(12):
            length = rng.randint(8, 16)
            collected.add(rng.random() < probability(length), length)
            if row == 2:
                assert collected.verdict != "right"
        assert collected.verdict == "wrong"


# Key ring


def test_a_row_is_opened_by_the_one_key_that_gives_a_meaning():
    ring = KeyRing([("main", MAIN), ("old 1", OLD)])
    first = ring.open(encrypted(MAIN, b"correct horse battery"), IV)
    second = ring.open(encrypted(OLD, b"correct horse battery"), IV)
    assert (first.key, first.name, first.text) == (0, "main", "correct horse battery")
    assert (second.key, second.name, second.text) == (1, "old 1", "correct horse battery")


def test_the_foreign_vectors_open_under_the_old_key_only():
    ring = KeyRing([("main", MAIN), ("old 1", OLD)])
    for row in VECTORS["foreign_key_rows"]:
        opened = ring.open(parse_ciphertext(row["password"]), bytes.fromhex(row["key_hex"]))
        assert (opened.key, opened.text) == (1, row["plaintext"])


def test_no_key_gives_the_main_keys_fault():
    ciphertext = encrypted(MAIN, b"ab\0cdefghijklmnop")
    with pytest.raises(RowFault) as main_first:
        KeyRing([("main", MAIN), ("old 1", OLD)]).open(ciphertext, IV)
    with pytest.raises(RowFault) as main_last:
        KeyRing([("old 1", OLD), ("main", MAIN)]).open(ciphertext, IV)
    assert (main_first.value.code, main_last.value.code) == ("nul_byte", "not_utf8")


def test_two_keys_that_give_a_meaning_are_ambiguous():
    ring = KeyRing([("main", MAIN), ("old 1", OLD), ("old 2", THIRD)])
    letters = (bytes([letter]) for letter in b"abcdefghijklmnopqrstuvwxyz0123456789")
    codes = set()
    for letter in letters:
        readable = sum(32 <= LegacyCipher(key).decrypt(letter, IV)[0] < 127 for key in (MAIN, OLD, THIRD))
        try:
            ring.open(letter, IV)
            codes.add((readable, "opened"))
        except RowFault as fault:
            codes.add((readable, "ambiguous" if fault.code == "ambiguous_key" else "fault"))
    assert codes <= {(0, "fault"), (1, "opened"), (2, "ambiguous"), (3, "ambiguous")}
    assert {outcome for _, outcome in codes} >= {"opened", "ambiguous"}


def test_the_same_key_twice_is_not_ambiguous_and_keeps_its_first_place():
    ring = KeyRing([("main", MAIN), ("old 1", MAIN), ("old 2", OLD)])
    assert ring.open(encrypted(MAIN, b"correct horse battery"), IV).key == 0
    assert ring.open(encrypted(OLD, b"correct horse battery"), IV).key == 2


def test_an_empty_ring_is_refused():
    with pytest.raises(ValueError, match="at least one key"):
        KeyRing([])


def test_an_opened_row_shows_no_password():
    assert "horse" not in repr(KeyRing([("main", MAIN)]).open(encrypted(MAIN, b"correct horse"), IV))


# Proof by the password itself


@pytest.mark.parametrize("plain", [b"correct horse", b"tab\there", b"ab\0cd", "Latin-1 \u00e9".encode("latin-1"), b""])
def test_any_key_proves_the_bytes_it_hides_and_no_others(plain: bytes):
    ring = KeyRing([("main", MAIN), ("old", OLD)])
    for key in (MAIN, OLD):
        assert ring.hides(encrypted(key, plain), IV, plain)
        assert not ring.hides(encrypted(key, plain), IV, plain + b" ")
        assert not ring.hides(encrypted(key, plain), IV, b"another")
    assert not plain or not ring.hides(encrypted(THIRD, plain), IV, plain)


# Fingerprint


def test_the_fingerprint_names_a_key_and_not_another():
    name = "001-password-bcrypt"
    main, old = (hmac.digest(key, name.encode(), "sha256")[:8].hex() for key in (MAIN, OLD))
    assert single_fingerprint(OLD, name) == old != main
    assert single_fingerprint(MAIN, name) == main
    assert len(main) == 16
    assert single_fingerprint(MAIN, "002-other") != main
