"""Legacy accounts of invented people, for demos, tests and benches.

`python -m ante_backend.seed --accounts N [--damaged M]` exits 0 when written, 1 when the database refuses,
2 for usage or settings.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from random import Random
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from ante_backend.faults import FaultCode
from ante_backend.legacy_cipher import LegacyCipher, derive_key
from ante_backend.settings import HostSettings, SettingsError, required_key
from ante_backend.tables import account, metadata
from system_migration import ConfigurationError, Settings, connect

CHUNK: Final = 1000

#: What is wrong with the damaged accounts, in turn, by the code that the migration will record.
DAMAGES: Final[tuple[FaultCode, ...]] = (
    "odd_ciphertext",
    "ciphertext_not_hex",
    "iv_length",
    "not_utf8",
    "empty_ciphertext",
    "already_hash",
)

_FIRST_NAMES: Final = (  # noqa: SIM905
    "Amara Benoît Chiara Dmitri Eilidh Faisal Greta Hiroshi Inês Jonas Kavya Lucía Mbali Nikolai Oona "
    "Pádraig Quentin Rosalía Søren Tomoko Ulla Viktor Wanjiru Ximena Yusuf Zoë"
).split()
_LAST_NAMES: Final = (  # noqa: SIM905
    "Abara Bellweather Castellanos Drăgan Eskildsen Farrow Grünwald Hartigan Ishikawa Jovanović Kettleburn "
    "Lindqvist Marwood Nkemelu Okonjo Pemberley Quillfeather Rasmussen Saavedra Thistlewood Umarov Valenta "
    "Wetherby Yilmaz Zielińska"
).split()
_WORDS: Final = (  # noqa: SIM905
    "amber breeze candle dragon ember falcon garden harbor island jigsaw kettle lantern meadow nectar orchid "
    "pepper quartz river sunset timber umbrella velvet willow yellow zephyr"
).split()
_FOREIGN: Final = (
    "пароль",
    "schlüssel",
    "contraseña",
    "密码安全",
    "κωδικός",
    "سرية",
    "はなび",
    "🔑🔒",
    "naïveté",
)
_LETTERS: Final = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!#$%&*+-?@"


@dataclass(frozen=True, slots=True)
class SeededAccount:
    """A row for the legacy table, its password, or else the fault it was given."""

    row: dict[str, Any] = field(repr=False)
    plaintext: str | None = field(repr=False)
    damage: FaultCode | None


def make_accounts(
    count: int, damaged: int, encryption_key: str, seed: int = 1, *, first: int = 1
) -> Iterator[SeededAccount]:
    """Yield `count` accounts with `damaged` ones spread evenly among them; the same for the same arguments.

    `first` is the number of the first account: another number, other people. Raises ValueError if `damaged`
    is not between 0 and `count`.
    """
    if not 0 <= damaged <= count:
        raise ValueError("damaged must be between 0 and the number of accounts")
    return _accounts(count, damaged, LegacyCipher(derive_key(encryption_key)), Random(f"{seed}:{first}"), first)


def create_legacy_table(engine: sa.Engine) -> None:
    """Make the legacy account table unless it is there."""
    metadata.create_all(engine, tables=[account])


def insert_accounts(
    engine: sa.Engine, accounts: Iterable[SeededAccount], written: Callable[[int], None] = lambda _: None
) -> int:
    """Insert in chunks, a transaction each, and return how many; `written` is told the sum after each chunk.

    If it dies half-way, whole chunks are in the table.
    """
    remaining, total = iter(accounts), 0
    while rows := [seeded.row for seeded in islice(remaining, CHUNK)]:
        with engine.begin() as connection:
            connection.execute(sa.insert(account), rows)
        total += len(rows)
        written(total)
    return total


def known_people(accounts: Iterable[SeededAccount]) -> dict[str, SeededAccount]:
    """The first "user" and the first "developer" whose password is known, as far as there are any."""
    found: dict[str, SeededAccount] = {}
    for seeded in accounts:
        if seeded.plaintext is not None and seeded.damage is None:
            found.setdefault("developer" if seeded.row["isDeveloper"] else "user", seeded)
        if len(found) == 2:
            break
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Seed as the command line says and return the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.damaged > options.accounts:
        parser.error("--damaged must not be more than --accounts")
    try:
        settings = HostSettings.from_environment(os.environ)
        key = required_key(settings)
        url = Settings(database_url=options.database_url or settings.database_url).required_database_url()
        return _seed(connect(url, create=True), key, options)
    except (SettingsError, ConfigurationError, _Refused) as error:
        print(error, file=sys.stderr)
        return 2
    except DBAPIError as error:
        # Only the driver's first line: the whole error shows the statement with the row's values.
        reason, _, _ = str(error.orig).partition("\n")
        print(f"The database refused: {reason}", file=sys.stderr)
        return 1


class _Refused(Exception):
    """The command cannot start; the message is the sentence to print."""


def _seed(engine: sa.Engine, key: str, options: argparse.Namespace) -> int:
    try:
        create_legacy_table(engine)
        with engine.connect() as connection:
            present = connection.scalar(sa.select(sa.func.count()).select_from(account)) or 0
        if present and not options.append:
            raise _Refused(f'The table "Account" already holds {present} rows: add --append to add more.')
        made = partial(make_accounts, options.accounts, options.damaged, key, options.seed, first=present + 1)
        total = insert_accounts(engine, made(), _progress(options.accounts))
    finally:
        engine.dispose()
    print(f"{total} accounts written, {options.damaged} of them damaged.")
    if options.logins:
        for kind, seeded in known_people(made()).items():
            print(f"A {kind}: username {seeded.row['username']}, password {seeded.plaintext}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ante_backend.seed",
        description="Fill the legacy account table with invented people. ENCRYPTION_KEY must be set.",
    )
    parser.add_argument("--accounts", type=_count, required=True, metavar="N", help="accounts in total")
    parser.add_argument("--damaged", type=_count, default=0, metavar="M", help="how many of them are damaged")
    parser.add_argument("--database-url", metavar="URL", help="default: DATABASE_URL, else sqlite:///development.db")
    parser.add_argument("--append", action="store_true", help="add to a table that has rows already")
    parser.add_argument("--logins", action="store_true", help="print the passwords of an invented user and developer")
    parser.add_argument("--seed", type=int, default=1, metavar="INT", help="other people (default: 1)")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _progress(expected: int) -> Callable[[int], None]:
    reported = time.monotonic()

    def report(total: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > 2:
            reported = time.monotonic()
            print(f"{total:,} of {expected:,} accounts", file=sys.stderr)

    return report


def _accounts(count: int, damaged: int, cipher: LegacyCipher, random: Random, first: int) -> Iterator[SeededAccount]:
    for index in range(count):
        kind = index * damaged // count
        is_damaged = (index + 1) * damaged // count > kind
        yield _account(first + index, DAMAGES[kind % len(DAMAGES)] if is_damaged else None, cipher, random)


def _account(number: int, damage: FaultCode | None, cipher: LegacyCipher, random: Random) -> SeededAccount:
    given, family = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
    username = f"{_ascii(given)}.{_ascii(family)}{number}"
    plaintext, iv = _password(random), random.randbytes(16)
    created = datetime(2021, 1, 1) + timedelta(seconds=random.randrange(3 * 365 * 86400))
    row = {
        "id": str(uuid.UUID(bytes=random.randbytes(16), version=4)),
        "email": f"{username}@example.test",
        "username": username,
        "firstName": given,
        "lastName": family,
        "password": cipher.encrypt(plaintext.encode(), iv),
        "key": iv,
        "isDeveloper": number % 50 == 1,
        "isDeleted": False,
        "status": "ACTIVE",
        "createdAt": created,
        "updatedAt": created,
    }
    if damage is None:
        return SeededAccount(row, plaintext, None)
    return SeededAccount(row | _damaged_columns(damage, plaintext, cipher, iv), None, damage)


def _damaged_columns(damage: FaultCode, plaintext: str, cipher: LegacyCipher, iv: bytes) -> dict[str, Any]:
    ciphertext = cipher.encrypt(plaintext.encode(), iv)
    match damage:
        case "odd_ciphertext":
            return {"password": ciphertext[:-1]}
        case "ciphertext_not_hex":
            return {"password": ciphertext[:4] + "zz" + ciphertext[6:]}
        case "iv_length":
            return {"key": iv[:-1]}
        case "not_utf8":
            return {"password": cipher.encrypt((plaintext + "é").encode()[:-1], iv)}
        case "empty_ciphertext":
            return {"password": ""}
        case "already_hash":
            return {"password": "$2b$10$" + "." * 53}
        case _:
            raise ValueError(f"no account can be made with {damage}")


def _password(random: Random) -> str:
    """Six characters and up: mostly words with digits, some random, some in another script."""
    word, number = random.choice(_WORDS), random.randrange(10, 10000)
    style = random.random()
    if style < 0.45:
        return f"{word}{number}"
    if style < 0.65:
        return f"{word.capitalize()}-{random.choice(_WORDS)}{random.choice('!?.')}"
    if style < 0.75:
        return " ".join((word, random.choice(_WORDS), random.choice(_WORDS)))
    if style < 0.9:
        return "".join(random.choices(_LETTERS, k=random.randint(6, 16)))
    return f"{random.choice(_FOREIGN)}{number}"


def _ascii(name: str) -> str:
    plain = name.replace("ø", "o").replace("ł", "l")
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().lower()


if __name__ == "__main__":
    sys.exit(main())
