"""The legacy format against what Node wrote, and against everything a column can hold instead."""

import binascii
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ante_backend.faults import MESSAGES, RowFault
from ante_backend.legacy_cipher import LegacyCipher, derive_key, parse_ciphertext, parse_iv
from ante_backend.plausibility import KeyRing

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "legacy-passwords.json").read_text("utf-8"))
KEY = derive_key(VECTORS["encryption_key"])
CIPHER = LegacyCipher(KEY)
IV = bytes(range(16))

DAMAGED_CODES = {
    1001: "odd_ciphertext",
    1002: "ciphertext_not_hex",
    1003: "empty_ciphertext",
    1004: "empty_ciphertext",
    1005: "iv_missing",
    1006: "iv_length",
    1007: "iv_length",
    1008: "iv_length",
    1009: "iv_length",
    1010: "not_utf8",
    1011: "not_utf8",
    1012: "not_utf8",
}


def stored_iv(row: dict[str, Any]) -> object:
    """The IV as the column holds it: bytes, hex text or nothing."""
    if row["key_stored_as"] == "hex_text":
        return row.get("key_text") or row["key_hex"]
    return bytes.fromhex(row["key_hex"]) if row["key_hex"] is not None else None


def code_of(parse: Any, value: object) -> str:
    with pytest.raises(RowFault) as fault:
        parse(value)
    return fault.value.code


def test_the_derived_key_is_nodes():
    assert VECTORS["derived_key_hex"] == KEY.hex()


@pytest.mark.parametrize("row", VECTORS["accounts"], ids=lambda row: row["username"])
def test_every_account_decrypts_to_the_exact_bytes(row: dict[str, Any]):
    ciphertext, iv = parse_ciphertext(row["password"]), parse_iv(stored_iv(row))
    assert CIPHER.decrypt(ciphertext, iv).hex() == row["plaintext_utf8_hex"]
    assert CIPHER.encrypt(bytes.fromhex(row["plaintext_utf8_hex"]), iv) == row["password"].lower()


def test_all_vectors_are_there():
    assert len(VECTORS["accounts"]) == 40
    assert {row["id"] for row in VECTORS["damaged"]} == set(DAMAGED_CODES)


@pytest.mark.parametrize("row", VECTORS["damaged"], ids=lambda row: row["username"])
def test_every_damaged_row_gives_its_code(row: dict[str, Any]):
    with pytest.raises(RowFault) as fault:
        KeyRing([("main", KEY)]).open(parse_ciphertext(row["password"]), parse_iv(stored_iv(row)))
    assert fault.value.code == DAMAGED_CODES[row["id"]]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "empty_ciphertext"),
        ("", "empty_ciphertext"),
        (b"", "empty_ciphertext"),
        ("abc", "odd_ciphertext"),
        (b"abc", "odd_ciphertext"),
        ("12zz34", "ciphertext_not_hex"),
        ("12 34", "ciphertext_not_hex"),
        ("1234\n", "ciphertext_not_hex"),
        ("12\t34\t", "ciphertext_not_hex"),
        ("0x1234", "ciphertext_not_hex"),
        ("\\x1234", "ciphertext_not_hex"),
        ("１２３４", "ciphertext_not_hex"),
        ("cGFzc3dvcmQ=", "ciphertext_not_hex"),
        ("correct horse", "ciphertext_not_hex"),
        ("１２３４".encode(), "ciphertext_not_hex"),
        (b"\xff\xfe", "ciphertext_not_hex"),
        (1234, "ciphertext_not_hex"),
        ([0x12, 0x34], "ciphertext_not_hex"),
        ("$2b$10$" + "." * 53, "already_hash"),
        (b"$2b$10$" + b"." * 53, "already_hash"),
        ("$2x$10$", "already_hash"),
        ("$argon2id$v=19$m=65536", "already_hash"),
        ("ab" * 4097, "over_72_bytes"),
        (b"ab" * 4097, "over_72_bytes"),
        ("x" * 2**20, "over_72_bytes"),
        (memoryview(b"x" * 2**20), "over_72_bytes"),
    ],
)
def test_a_ciphertext_that_is_none_gives_its_code(value: object, code: str):
    assert code_of(parse_ciphertext, value) == code


@pytest.mark.parametrize("value", ["C0ffEe", b"C0ffEe", bytearray(b"C0ffEe"), memoryview(b"C0ffEe")])
def test_a_ciphertext_may_be_text_or_ascii_bytes_in_any_case(value: object):
    assert parse_ciphertext(value) == b"\xc0\xff\xee"


def test_the_longest_password_that_a_login_takes_parses():
    assert len(parse_ciphertext("ab" * 4096)) == 4096


@pytest.mark.parametrize(
    "value", [IV, bytearray(IV), memoryview(IV), IV.hex(), IV.hex().upper()], ids=lambda v: type(v).__name__
)
def test_an_iv_may_be_16_bytes_or_32_hex_digits(value: object):
    assert parse_iv(value) == IV


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "iv_missing"),
        *((bytes(length), "iv_length") for length in (0, 8, 12, 15, 17, 32)),
        *(("a" * length, "iv_length") for length in (0, 16, 30, 31, 33, 34)),
        (IV.hex().encode(), "iv_length"),
        (b"\\x" + IV.hex().encode(), "iv_length"),
        ("\\x" + IV.hex(), "iv_length"),
        ('{"type":"Buffer","data":[0,1,2]}' + " ", "iv_length"),
        ("z" * 32, "iv_not_hex"),
        ("0" * 31 + "\n", "iv_not_hex"),
        ("０" * 32, "iv_not_hex"),
        (16, "iv_not_hex"),
        ([0] * 16, "iv_not_hex"),
    ],
)
def test_an_iv_that_is_none_gives_its_code(value: object, code: str):
    assert code_of(parse_iv, value) == code


anything = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(alphabet="0123456789abcdefABCDEF"),
    st.text(alphabet=st.characters(categories=["Cs"])),
    st.binary(),
    st.binary().map(bytearray),
    st.binary().map(memoryview),
    st.lists(st.integers(0, 255)),
    st.dictionaries(st.text(), st.integers()),
)


def parsed_or_code(parse: Callable[[object], bytes], value: object) -> bytes | str:
    try:
        return parse(value)
    except RowFault as fault:
        return fault.code


def as_text(value: object) -> str:
    raw = bytes(value) if isinstance(value, bytes | bytearray | memoryview) else value
    return raw.decode("latin-1") if isinstance(raw, bytes) else raw if isinstance(raw, str) else ""


@given(anything)
@example("C0ffEe")
@example(b"C0ffEe")
def test_whatever_a_ciphertext_is_it_parses_exactly_or_is_a_fault(value: object):
    result, text = parsed_or_code(parse_ciphertext, value), as_text(value)
    if re.fullmatch("([0-9a-fA-F]{2})+", text):
        assert result == binascii.unhexlify(text)
    else:
        assert result in MESSAGES


@given(st.one_of(anything, st.binary(min_size=16, max_size=16)))
@example("0123456789abcdefABCDEF0123456789")
def test_whatever_an_iv_is_it_has_16_bytes_or_is_a_fault(value: object):
    result = parsed_or_code(parse_iv, value)
    if isinstance(value, str) and re.fullmatch("[0-9a-fA-F]{32}", value):
        assert result == binascii.unhexlify(value)
    elif isinstance(value, bytes | bytearray | memoryview) and len(value) == 16:
        assert result == bytes(value)
    else:
        assert result in MESSAGES


@given(st.binary(min_size=1, max_size=256), st.binary(min_size=16, max_size=16))
def test_what_is_encrypted_decrypts(plaintext: bytes, iv: bytes):
    hex_text = CIPHER.encrypt(plaintext, iv)
    assert len(hex_text) == 2 * len(plaintext)
    assert CIPHER.decrypt(binascii.unhexlify(hex_text), iv) == plaintext


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_a_derived_key_of_another_length_is_refused(length: int):
    with pytest.raises(ValueError, match="32 bytes"):
        LegacyCipher(bytes(length))


def test_a_fault_survives_pickling_and_reads_well():
    fault = pickle.loads(pickle.dumps(RowFault("odd_ciphertext")))
    assert (fault.code, fault.message) == ("odd_ciphertext", MESSAGES["odd_ciphertext"])
    assert str(fault) == "odd_ciphertext: the ciphertext has an odd number of hex digits"


def test_importing_the_rules_loads_nothing_heavy():
    # The command line imports the migration's file, and so these, for every `status`.
    heavy = "{'cryptography', 'bcrypt', 'sqlalchemy', 'hashlib', 'hmac'}"
    modules = "ante_backend.settings, ante_backend.plausibility, ante_backend.passwords"
    code = f"import sys, {modules}; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")
