"""A walk through a page with nothing but the Tab key, as somebody without a mouse takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import CDPSession, Page

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8").partition("\n")[2]
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""What is told to have the focus from the start has it when the page is painted, not before."""
TARGET = 24.0
"""CSS pixels that a target has at least in each direction."""
MORE = 20
"""Stops beside the expected ones before the walk is taken for endless: areas that scroll, say."""


@dataclass(frozen=True)
class Stop:
    """What has the focus after a press of Tab. `place` is its number among what should be reached, -1 for others."""

    place: int
    role: str
    name: str
    element: str
    x: float
    y: float
    width: float
    height: float
    inline: bool
    indicated: bool
    covered: bool
    scrolls: bool

    def __str__(self) -> str:
        return f"{self.role} {self.name!r} {self.element}"


def walk(page: Page) -> list[Stop]:
    """Press Tab from the top of the page to its end, and return the stops.

    Fails unless all that can be used was reached, once and in the order of the document, and each stop has a name, is
    seen to have the focus, lies behind nothing, and is large enough to hit or a link within a line of text.
    """
    page.evaluate(PAINTED)
    expected: list[str] = page.evaluate(SCRIPT)
    stops = list(_stops(page, len(expected) + MORE))
    faults = [*_route_faults(expected, stops), *(f"{fault}: {stop}" for stop in stops for fault in _faults(stop))]
    assert not faults, "\n".join([f"by keyboard, {page.url}:", *faults])
    return stops


def _stops(page: Page, bound: int) -> Iterator[Stop]:
    """Until the focus leaves the document, as it must: what holds it is a trap."""
    session = page.context.new_cdp_session(page)
    try:
        for _ in range(bound):
            page.keyboard.press("Tab")
            seen: dict[str, Any] | None = page.evaluate("keyboardWalk.stop()")
            if seen is None:
                return
            role, name = _spoken(session)
            yield Stop(role=role, name=name, **seen.pop("box"), **seen)
    finally:
        session.detach()
    raise AssertionError(f"by keyboard, {page.url}: no end after {bound} stops")


def _spoken(session: CDPSession) -> tuple[str, str]:
    """The role and the name that a screen reader is given for what has the focus."""
    found = session.send("Runtime.evaluate", {"expression": "document.activeElement"})["result"]["objectId"]
    tree = session.send("Accessibility.getPartialAXTree", {"objectId": found, "fetchRelatives": False})
    node = tree["nodes"][0]
    return node.get("role", {}).get("value", ""), node.get("name", {}).get("value", "").strip()


def _route_faults(expected: Sequence[str], stops: Sequence[Stop]) -> Iterator[str]:
    times = Counter(stop.place for stop in stops)
    for place, element in enumerate(expected):
        if times[place] != 1:
            yield f"reached {times[place]} times: {element}"
    known = [stop for stop in stops if stop.place >= 0]
    for earlier, later in pairwise(known):
        if later.place < earlier.place:
            yield f"reached after what follows it: {later}"


def _faults(stop: Stop) -> Iterator[str]:
    if stop.place < 0 and not stop.scrolls:
        yield "not to be reached"
    if not stop.name:
        yield "without a name"
    if not stop.indicated:
        yield "not seen to have the focus"
    if stop.covered:
        yield "hidden behind something"
    if min(stop.width, stop.height) < TARGET and not stop.inline:
        yield f"too small, {stop.width:.0f} x {stop.height:.0f}"
