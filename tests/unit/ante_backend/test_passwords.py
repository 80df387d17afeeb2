"""bcrypt's edges, against hashes that Node and passlib wrote."""

import json
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from ante_backend.faults import RowFault
from ante_backend.passwords import (
    HASH_PATTERN,
    PREHASH_PATTERN,
    Over72Policy,
    check_nothing,
    check_password,
    cost_of,
    dummy_hash,
    hash_password,
    is_recognised_hash,
    rehash,
    salt_of,
    try_password,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "legacy-passwords.json").read_text("utf-8"))
PLAINTEXTS = {row["id"]: bytes.fromhex(row["plaintext_utf8_hex"]) for row in VECTORS["accounts"]}
POLICIES: tuple[Over72Policy, ...] = ("hold", "truncate", "prehash")
OVER = b"x" * 73
GOOD = hash_password(b"hunter2!", 4, "hold")
LONG_HASH = hash_password(OVER, 4, "prehash")
# passlib's own test vectors (tests/test_handlers_bcrypt.py of notypecheck/passlib), 72 and 75 bytes.
PASSLIB = [
    ("password", "$bcrypt-sha256$v=2,t=2b,r=5$5Hg1DKFqPE8C2aflZ5vVoe$wOK1VFFtS8IGTrGa7.h5fs0u84qyPbS"),
    ("abc123" * 12, "$bcrypt-sha256$v=2,t=2b,r=5$X1g1nh3g0v4h6970O68cxe$zu1cloESVFIOsUIo7fCEgkdHaI9SSue"),
    (
        "abc123" * 12 + "qwr",
        "$bcrypt-sha256$v=2,t=2b,r=5$X1g1nh3g0v4h6970O68cxe$CBF9csfEdW68xv3DwE6xSULXMtqEFP.",
    ),
]


def spare_bits(stored: str) -> str:
    """The same hash with spare bits set in its salt: the pattern takes it, bcrypt does not."""
    return stored[:28] + "z" + stored[29:]


@pytest.mark.parametrize("row", VECTORS["bcrypt_hashes"], ids=lambda row: f"{row['account_id']}{row['prefix']}")
def test_hashes_of_node_verify_as_listed(row: dict[str, Any]):
    plain, stored = PLAINTEXTS[row["account_id"]], row["hash"]
    expected = row["python_bcrypt5_full_plaintext"] == "True" and b"\0" not in plain
    assert is_recognised_hash(stored)
    assert check_password(plain, stored, "hold") is expected
    # Cutting gives Node's answer, save for what Node cannot tell from other passwords.
    cut = row["verifies_utf8_hex"] is not None and b"\0" not in plain
    assert check_password(plain, stored, "truncate") is cut


def test_the_listed_hashes_hold_every_kind():
    assert len(VECTORS["bcrypt_hashes"]) == 22
    assert {row["prefix"] for row in VECTORS["bcrypt_hashes"]} == {"$2a$", "$2b$", "$2y$"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", VECTORS["wrong_logins"], ids=lambda row: ascii(row["password"]))
def test_wrong_logins_are_refused(row: dict[str, Any], policy: Over72Policy):
    plain = PLAINTEXTS[row["account_id"]]
    stored = bcrypt.hashpw(plain, bcrypt.gensalt(4)).decode()
    assert bcrypt.checkpw(plain, stored.encode())
    assert not check_password(row["password"].encode(), stored, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("plain", [b"a", b" ", "密码".encode(), "é".encode() * 36, b"x" * 72])
def test_up_to_72_bytes_every_policy_writes_plain_bcrypt(plain: bytes, policy: Over72Policy):
    stored = hash_password(plain, 4, policy)
    assert stored.startswith("$2b$04$")
    assert HASH_PATTERN.fullmatch(stored)
    assert bcrypt.checkpw(plain, stored.encode())
    assert check_password(plain, stored, policy)
    assert not check_password(plain[:-1] + b"!", stored, policy)


def test_no_hash_is_written_twice():
    assert hash_password(b"same", 4, "hold") != hash_password(b"same", 4, "hold")
    assert hash_password(OVER, 4, "prehash") != hash_password(OVER, 4, "prehash")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("plain", "code"), [(b"", "empty_plaintext"), (b"ab\0cd", "nul_byte"), (OVER + b"\0", "nul_byte")]
)
def test_empty_and_nul_are_never_hashed(plain: bytes, code: str, policy: Over72Policy):
    with pytest.raises(RowFault) as fault:
        hash_password(plain, 4, policy)
    assert fault.value.code == code


def test_hold_refuses_what_is_over_72_bytes():
    for plain in (OVER, b"x" * 71 + "é".encode(), "😀".encode() * 19):
        with pytest.raises(RowFault) as fault:
            hash_password(plain, 4, "hold")
        assert fault.value.code == "over_72_bytes"


def test_truncate_cuts_bytes_as_node_does():
    plain = b"x" * 71 + "é".encode()
    stored = hash_password(plain, 4, "truncate")
    assert bcrypt.checkpw(plain[:72], stored.encode())
    assert check_password(plain, stored, "truncate")
    assert check_password(plain[:72] + b"other", stored, "truncate")
    assert not check_password(b"y" + plain[1:], stored, "truncate")
    assert not check_password(plain, stored, "hold")
    assert not check_password(plain, stored, "prehash")


@pytest.mark.parametrize("cost", [4, 10])
def test_prehash_writes_passlibs_form_and_keeps_every_byte(cost: int):
    stored = hash_password(OVER, cost, "prehash")
    assert stored.startswith(f"$bcrypt-sha256$v=2,t=2b,r={cost}$")
    assert PREHASH_PATTERN.fullmatch(stored)
    assert len(stored) < 255
    assert check_password(OVER, stored, "hold")
    assert not check_password(OVER + b"x", stored, "hold")
    assert not check_password(OVER[:72], stored, "truncate")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("plain", "stored"), PASSLIB, ids=["short", "72", "75"])
def test_hashes_of_passlib_verify_under_every_policy(plain: str, stored: str, policy: Over72Policy):
    assert is_recognised_hash(stored)
    assert check_password(plain.encode(), stored, policy)
    assert not check_password(plain.encode() + b"x", stored, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("plain", [b"", b"\0", b"ab\0ab", b"x" * 2**20])
def test_a_candidate_that_bcrypt_would_misjudge_is_refused(plain: bytes, policy: Over72Policy):
    # bcrypt alone says True to the first three: to the empty hash, its alias, and "ab" repeated.
    for original in (b"", b"ab"):
        stored = bcrypt.hashpw(original, bcrypt.gensalt(4)).decode()
        assert not check_password(plain, stored, policy)


UNRECOGNISED = [
    "",
    "junk",
    "x" * 60,
    GOOD[:-1],
    GOOD[:29],
    GOOD + " ",
    GOOD + "\n",
    GOOD + "\0" * 12,
    " " + GOOD,
    GOOD[1:],
    "$" + GOOD,
    "{bcrypt}" + GOOD,
    GOOD.replace("$2b$", "$2x$"),
    GOOD.replace("$2b$", "$2c$"),
    GOOD.replace("$2b$", "$2$"),
    GOOD.replace("$04$", "$4$"),
    GOOD.replace("$04$", "$+4$"),
    GOOD.replace("$04$", "$03$"),
    GOOD.replace("$04$", "$32$"),
    GOOD.replace("$04$", "$０4$"),
    GOOD[:-1] + "é",
    "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA",
    LONG_HASH + "\n",
    LONG_HASH[:-1],
    LONG_HASH.replace("v=2", "v=1"),
    LONG_HASH.replace("t=2b", "t=2a"),
    LONG_HASH.replace("r=4", "r=04"),
    LONG_HASH.replace("r=4", "r=3"),
    LONG_HASH.replace("r=4", "r=32"),
]


@pytest.mark.parametrize("stored", UNRECOGNISED, ids=ascii)
def test_a_hash_of_unknown_form_is_neither_recognised_nor_accepted(stored: str):
    assert not is_recognised_hash(stored)
    assert not check_password(b"hunter2!", stored, "hold")
    assert not check_password(OVER, stored, "truncate")


@pytest.mark.parametrize("stored", [None, 7, GOOD.encode(), [GOOD]], ids=lambda value: type(value).__name__)
def test_only_text_is_recognised(stored: object):
    assert not is_recognised_hash(stored)


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_every_letter_that_is_computed_alike_is_accepted(prefix: str):
    stored = GOOD.replace("$2b$", prefix)
    assert is_recognised_hash(stored)
    assert check_password(b"hunter2!", stored, "hold")


def test_a_salt_with_spare_bits_is_a_wrong_password_and_no_error():
    broken = spare_bits(GOOD)
    with pytest.raises(ValueError, match="Invalid salt"):
        bcrypt.checkpw(b"hunter2!", broken.encode())
    assert HASH_PATTERN.fullmatch(broken)
    assert not check_password(b"hunter2!", broken, "hold")


def test_a_cost_that_bcrypt_cannot_do_is_an_error():
    for cost in (3, 32):
        with pytest.raises(ValueError, match="rounds"):
            hash_password(b"hunter2!", cost, "hold")


# What a login needs besides


@pytest.mark.parametrize(
    ("plain", "stored"),
    [(b"", GOOD), (b"a\0b", GOOD), (OVER, GOOD), (b"hunter2!", "junk"), (b"hunter2!", "$2x" + GOOD[3:])],
)
def test_what_cannot_be_checked_is_told_apart_from_what_is_wrong(plain: bytes, stored: str):
    assert try_password(plain, stored, "hold") is None
    assert try_password(b"wrong", GOOD, "hold") is False
    assert try_password(b"hunter2!", GOOD, "hold") is True
    assert try_password(b"hunter2!", spare_bits(GOOD), "hold") is None


@pytest.mark.parametrize(
    ("plain", "stored", "over_72"),
    [
        (b"hunter2!", GOOD, "hold"),
        (b"hunter2!", "$2a" + GOOD[3:], "hold"),
        (b"hunter2!", "$2y" + GOOD[3:], "prehash"),
        (OVER, LONG_HASH, "prehash"),
        (OVER, LONG_HASH, "hold"),
        (OVER, LONG_HASH, "truncate"),  # never weaker than it is
        (OVER, hash_password(OVER, 4, "truncate"), "truncate"),
    ],
)
def test_a_higher_cost_keeps_the_salt_and_the_form(plain: bytes, stored: str, over_72: Over72Policy):
    raised = rehash(plain, stored, 5, over_72)
    assert (cost_of(stored), cost_of(raised), salt_of(raised)) == (4, 5, salt_of(stored))
    assert raised.startswith("$bcrypt-sha256$" if stored is LONG_HASH else "$2b$05$")
    assert check_password(plain, raised, over_72)
    assert not check_password(plain[:-1] + b"?", raised, over_72) or over_72 == "truncate"


def test_a_new_hash_has_a_new_salt():
    assert len({salt_of(hash_password(b"hunter2!", 4, "hold")) for _ in range(5)}) == 5
    assert len(salt_of(LONG_HASH)) == len(salt_of(GOOD)) == 22


def test_a_dummy_is_a_real_hash_of_the_cost_and_of_no_password(monkeypatch: pytest.MonkeyPatch):
    dummy = dummy_hash(4)
    assert is_recognised_hash(dummy)
    assert cost_of(dummy) == 4
    assert dummy_hash(4) != dummy
    checked: list[bool] = []
    check = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *args: checked.append(check(*args)))
    check_nothing(dummy)
    assert checked == [False]
