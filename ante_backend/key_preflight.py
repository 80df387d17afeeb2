"""May the batch hash these accounts with these keys? The decision procedure of passwords.md 3.4. Pure.

A wrong key raises no error, it makes garbage; so nothing is written before the keys are proven. What proves a key:
the rows themselves, by likelihood; a canary; the key this generation began with; an account that has both hash and
ciphertext; a password typed at the terminal. `--max-issues` excuses rows that would be held, never an unproven key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ante_backend.faults import RowFault
from ante_backend.key_survey import LegacyRow, Sealed, Survey
from ante_backend.legacy_cipher import derive_key, parse_ciphertext, parse_iv
from ante_backend.passwords import check_password
from ante_backend.plausibility import KeyEvidence, KeyRing
from system_migration import Refused

#: So many rows of garbage opened by luck and hashed unseen are too many.
MAX_HIDDEN: Final = 0.05
MAIN: Final = 0

_CANARY_LINE: Final = "ENCRYPTION_CANARY='username:password'"


@dataclass(frozen=True, slots=True)
class Known:
    """A password somebody claims to know: the accounts it may belong to, and how messages name the claim."""

    source: str
    accounts: Sequence[LegacyRow] = field(repr=False)
    password: str = field(repr=False)


Ask = Callable[[], Known | None]
"""Asks the person at the terminal for an account's password; None when there is nobody."""


def allowed_issues(rows: int) -> int:
    """How many of so many accounts may be held without anybody saying so: 0.5 %, and three of a small table."""
    return max(3, rows // 200)


def judge(
    survey: Survey,
    key_text: str,
    *,
    canaries: Sequence[Known] = (),
    pinned: bool = False,
    max_issues: int | None = None,
    ask: Ask = lambda: None,
) -> None:
    """Raise Refused unless every key that opens rows is proven and no more rows would be held than may be.

    `key_text` is the main key as it was given, `pinned` whether this generation began with it.
    """
    proven = {position for position, evidence in enumerate(survey.evidence) if evidence.verdict == "right"}
    if pinned:
        proven.add(MAIN)
    for canary in canaries:
        proven |= _proven_by(canary, survey, key_text)
    if MAIN not in proven or _unproven_old_keys(survey, proven):
        proven |= _proven_by_witnesses(survey)
    if MAIN not in proven:
        _refuse_wrong_key(survey, key_text, proven)
        answer = ask()
        if answer is None:
            raise Refused(
                f"ENCRYPTION_KEY is not proven: {_count(survey.testable, 'encrypted password')} cannot tell. Set "
                f"{_CANARY_LINE} with an account whose password you know, and start again."
            )
        proven |= _proven_by(answer, survey, key_text)
        if MAIN not in proven:
            raise Refused("ENCRYPTION_KEY is not proven: an old key opens that account. Name one of the main key.")
    for position in _unproven_old_keys(survey, proven):
        raise Refused(
            f"In ENCRYPTION_KEYS_OLD, {survey.ring.names[position]} opens {_count(survey.opened[position], 'account')} "
            "that no other key opens, which does not prove it. Remove that key, or set "
            f"{_CANARY_LINE} with one of those accounts."
        )
    _refuse_too_many_held(survey, max_issues)


def warnings(survey: Survey) -> Iterator[str]:
    """What the operator should know about rows that are no reason to refuse; rows are named by id only."""
    if survey.without_iv:
        yield f"{_count(survey.without_iv, 'account')} skipped: an encrypted password without its IV cannot be read"
    if survey.zero_ivs:
        yield f"{_count(survey.zero_ivs, 'account')} with an all-zero IV: their ciphertexts share one keystream"
    for name, evidence in zip(survey.ring.names[1:], survey.evidence[1:], strict=True):
        if not evidence.passed:
            yield f"{name} of ENCRYPTION_KEYS_OLD opens no account of its own; it can be removed"
    for identity in survey.truncated:
        yield f"account {identity}: the password is over 72 bytes, its hash covers the first 72"


def _unproven_old_keys(survey: Survey, proven: set[int]) -> list[int]:
    return [position for position, rows in enumerate(survey.opened) if position and rows and position not in proven]


def _proven_by(known: Known, survey: Survey, key_text: str) -> set[int]:
    """The keys under which the account has exactly this password. Raises Refused when there is none."""
    if len(known.accounts) != 1:
        which = "several accounts" if known.accounts else "no account"
        raise Refused(f"{known.source} names {which}: give the exact username or e-mail of one account.")
    sealed = _sealed(known.accounts[0])
    if sealed is None:
        raise Refused(f"{known.source} names an account without a readable encrypted password: choose another one.")
    proven = _readers(survey.ring, sealed, known.password)
    if not proven:
        hint = _artefact(key_text, lambda ring: bool(_readers(ring, sealed, known.password)))
        raise Refused(
            f"{known.source} does not fit: no key gives this account that password. "
            f"{hint or 'Check that line and ENCRYPTION_KEY.'}"
        )
    return proven


def _sealed(row: LegacyRow) -> Sealed | None:
    try:
        return Sealed(parse_ciphertext(row.password), parse_iv(row.key))
    except RowFault:
        return None


def _readers(ring: KeyRing, sealed: Sealed, password: str) -> set[int]:
    readings = ring.readings(sealed.ciphertext, sealed.iv)
    return {position for position, reading in enumerate(readings) if reading == password}


def _proven_by_witnesses(survey: Survey) -> set[int]:
    """The keys that give an account the very password its stored hash was made of."""
    proven: set[int] = set()
    for witness in survey.witnesses:
        for position, reading in enumerate(survey.ring.readings(witness.ciphertext, witness.iv)):
            if position in proven or not isinstance(reading, str) or witness.stored_hash is None:
                continue
            if check_password(reading.encode(), witness.stored_hash, survey.over_72):
                proven.add(position)
    return proven


def _refuse_wrong_key(survey: Survey, key_text: str, proven: set[int]) -> None:
    evidence = survey.evidence[MAIN]
    better = [survey.ring.names[position] for position in sorted(proven)]
    if evidence.verdict != "wrong" and (evidence.passed or not better):
        return  # undecided: too few rows, perhaps because most are an old key's
    if better:
        hint = f"But {better[0]} of ENCRYPTION_KEYS_OLD is proven: is that the main key?"
    else:
        hint = _artefact(key_text, lambda ring: _evidence(ring, survey.sample).verdict == "right") or ""
    raise Refused(
        f"ENCRYPTION_KEY is wrong: it opens {evidence.passed:,} of {survey.testable:,} encrypted passwords, no more "
        f"than chance does. {hint or 'Set it to the key that the legacy application uses.'}"
    )


def _evidence(ring: KeyRing, rows: Sequence[Sealed]) -> KeyEvidence:
    evidence = KeyEvidence()
    for sealed in rows:
        (reading,) = ring.readings(sealed.ciphertext, sealed.iv)
        evidence.add(isinstance(reading, str), len(sealed.ciphertext))
    return evidence


def _artefact(key_text: str, is_right: Callable[[KeyRing], bool]) -> str | None:
    """The hint that the key would be right without what a file or a shell added to it. Never proceed with that."""
    for flaw, cleaned in _cleaned(key_text):
        if is_right(KeyRing([("cleaned", derive_key(cleaned))])):
            return f"Without {flaw} it would be right: remove that from its value."
    return None


def _cleaned(key_text: str) -> Iterator[tuple[str, str]]:
    """The key with one artefact after the other taken off, and what was taken off so far."""
    flaws: list[str] = []
    text = key_text
    for _ in range(2):  # quotes may stand within white space, and the other way round
        for flaw, clean in _ARTEFACTS:
            cleaned = clean(text)
            if cleaned and cleaned != text:
                text = cleaned
                flaws.append(flaw)
                yield " and ".join(dict.fromkeys(flaws)), text
    for form in ("NFC", "NFD"):
        if (other := unicodedata.normalize(form, text)) != text:
            yield " and ".join([*dict.fromkeys(flaws), f"its present Unicode form ({form} instead)"]), other


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'`" else text


_ARTEFACTS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("the line break at its end", lambda text: text.rstrip("\r\n")),
    ("the byte order mark before it", lambda text: text.lstrip("\ufeff")),
    ("the white space around it", lambda text: text.strip()),
    ("the quotes around it", _unquoted),
)


def _refuse_too_many_held(survey: Survey, max_issues: int | None) -> None:
    unreadable, held = survey.unreadable, survey.would_hold
    mixed = unreadable.hidden >= MAX_HIDDEN or unreadable.count > allowed_issues(survey.testable)
    allowed = allowed_issues(survey.rows) if max_issues is None else max_issues
    if held <= allowed and not (mixed and max_issues is None):
        return
    codes = ", ".join(f"{count:,} {code}" for code, count in survey.held.most_common())
    option = f"start again with --max-issues {held}"
    if mixed:
        raise Refused(
            f"{_mixed(survey)} Or, to migrate the others and leave the {_count(held, 'row')} that would be held "
            f"({codes}) as they are, {option}."
        )
    raise Refused(
        f"{_count(held, 'row')} would be held ({codes}), and {allowed:,} may be. Repair them (a dry run lists "
        f"them), or to leave them as they are and migrate the others, {option}."
    )


def _mixed(survey: Survey) -> str:
    unreadable = survey.unreadable
    keys = "the keys given" if len(survey.ring.names) > 1 else "ENCRYPTION_KEY"
    created = ""
    if unreadable.days is not None:
        first, last = unreadable.days
        created = f" (created {first})" if first == last else f" (created {first} to {last})"
    hidden = (
        f", and about {unreadable.hidden:.2g} more would pass as garbage" if unreadable.hidden >= MAX_HIDDEN else ""
    )
    meaning = (
        "They are a block, which points to a former key: add it as a line of ENCRYPTION_KEYS_OLD."
        if unreadable.is_block
        else "They are scattered, which points to damage, or to a former key if the ids are random: "
        "then add it as a line of ENCRYPTION_KEYS_OLD."
    )
    return (
        f"{unreadable.count:,} of {survey.testable:,} encrypted passwords cannot be read with {keys}: accounts "
        f"{unreadable.first_id} to {unreadable.last_id}{created}{hidden}. {meaning}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
