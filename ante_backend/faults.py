"""Why one account's row cannot be migrated: the fault, with a stable code and a message free of data.

Lowest level of the host: imports nothing of it. Codes follow the catalogue in passwords.md, section 6.
"""

from __future__ import annotations

from typing import Final, Literal

FaultCode = Literal[
    "empty_ciphertext",
    "ciphertext_not_hex",
    "odd_ciphertext",
    "already_hash",
    "over_72_bytes",
    "iv_missing",
    "iv_length",
    "iv_not_hex",
    "empty_plaintext",
    "not_utf8",
    "nul_byte",
    "control_character",
    "ambiguous_key",
    "unrecognised_hash",
    "no_hash",
    "stale_hash",
]

# Fixed sentences, so that no message can ever carry a row's values (fault F11).
MESSAGES: Final[dict[FaultCode, str]] = {
    "empty_ciphertext": "the ciphertext is empty",
    "ciphertext_not_hex": "the ciphertext is not made of hex digits only",
    "odd_ciphertext": "the ciphertext has an odd number of hex digits",
    "already_hash": "the ciphertext column holds a password hash",
    "over_72_bytes": "the password is longer than bcrypt's 72 bytes, or the ciphertext is over the limit",
    "iv_missing": "the IV is missing",
    "iv_length": "the IV is not 16 bytes, nor text of 32 hex digits",
    "iv_not_hex": "the IV text is not made of hex digits only",
    "empty_plaintext": "the password is empty",
    "not_utf8": "the decrypted bytes are not UTF-8",
    "nul_byte": "the password contains a NUL byte",
    "control_character": "the decrypted text contains a control character",
    "ambiguous_key": "more than one key opens the row",
    "unrecognised_hash": "the stored hash is of no known form",
    "no_hash": "without its encrypted password the account would have none: it has no hash",
    "stale_hash": "the stored hash is not that of the encrypted password, which may be the newer one",
}


class RowFault(Exception):
    """One row is at fault: `code` is stable, `message` says why in words and never contains data."""

    def __init__(self, code: FaultCode) -> None:
        super().__init__(code)
        self.code: FaultCode = code
        self.message = MESSAGES[code]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
