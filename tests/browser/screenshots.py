"""Takes every screen in both schemes, at a desk's and at a phone's width: `scripts/screenshots`.

Add a screen to SCREENS when it exists: `test_screens` then tests it, too. The state that it shows is the story's, and
`reach` presses what is left to be pressed, on the page at `path`. Not a test: a person looks at what comes out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from tests.browser import chromium, story
from tests.browser.story import FAILED, PASSWORDS, PAUSED, PENDING, ROLLED_BACK, RUNNING, SKIPPED, STALE
from tests.browser.watching import Watch
from tests.support.hosting import serve_page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTHS = {"desktop": 1280, "phone": 360}
HEIGHTS = {"desktop": 800, "phone": 740}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass(frozen=True)
class Screen:
    """A picture's name, where it is taken below the page's address, and what is done there before.

    `{run[NAME]}` in the path is the id of the migration's newest run, `{dry_run[NAME]}` of its dry run, and so on.
    `status` is that of the answer at the end.
    """

    name: str
    path: str
    reach: Callable[[Page], object] = lambda page: None
    status: int = 200


def _mistyped(page: Page) -> None:
    page.get_by_label("Dry run", exact=True).uncheck()
    page.get_by_label("Batch size").fill("many")
    page.locator("#start .actions button").click()
    page.get_by_role("alert").wait_for()


def _sent_too_late(page: Page) -> None:
    page.locator("#start [name=seen]").evaluate("field => field.value = '0'")
    page.get_by_label("Reason").fill("not needed")
    page.locator("#start .actions button").click()
    page.get_by_role("heading", name="Nothing was done").wait_for()


def _forged(page: Page) -> None:
    page.locator("#start [name=token]").evaluate("field => field.remove()")
    page.locator("#start .actions button").click()
    page.get_by_role("alert").wait_for()


def _wrong_password(page: Page) -> None:
    page.get_by_label("Username or e-mail").fill("ada")
    page.get_by_label("Password").fill("a guess")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").wait_for()


def _asked_for_a_key(page: Page) -> None:
    page.get_by_label("Key").fill("999999")
    page.get_by_role("button", name="Find").click()
    page.get_by_text("No row with this key").wait_for()


def _all(page: Page) -> None:
    page.locator("main details").evaluate_all("all => all.forEach(folded => folded.open = true)")


SCREENS = (
    Screen("overview", ""),
    Screen("migration-completed", f"/m/{PASSWORDS}", _all),
    Screen("migration-running", f"/m/{RUNNING}"),
    Screen("migration-stale", f"/m/{STALE}"),
    Screen("migration-failed", f"/m/{FAILED}", _all),
    Screen("migration-pending", f"/m/{PENDING}"),
    Screen("migration-rolled-back", f"/m/{ROLLED_BACK}"),
    Screen("migration-paused", f"/m/{PAUSED}"),
    Screen("migration-skipped", f"/m/{SKIPPED}"),
    Screen("run-succeeded", f"/runs/{{run[{PASSWORDS}]}}", _all),
    Screen("run-running", f"/runs/{{run[{RUNNING}]}}", _all),
    Screen("run-stale", f"/runs/{{run[{STALE}]}}"),
    Screen("run-failed", f"/runs/{{run[{FAILED}]}}?level=warning"),
    Screen("run-paused", f"/runs/{{run[{PAUSED}]}}"),
    Screen("run-verification", f"/runs/{{verify[{PASSWORDS}]}}"),
    Screen("run-dry", f"/runs/{{dry_run[{PENDING}]}}"),
    Screen("run-dry-rollback", f"/runs/{{dry_run[{ROLLED_BACK}]}}"),
    Screen("run-rollback", f"/runs/{{rollback[{ROLLED_BACK}]}}"),
    Screen("start-run", f"/m/{PENDING}/start"),
    Screen("start-continue", f"/m/{STALE}/start?verb=run&dryRun=false", _all),
    Screen("start-mistyped", f"/m/{PENDING}/start", _mistyped, 422),
    Screen("start-resume", f"/m/{PAUSED}/start?verb=resume", _all),
    Screen("start-retry", f"/m/{FAILED}/start?verb=retry"),
    Screen("start-verify", f"/m/{PASSWORDS}/start?verb=verify"),
    Screen("start-rollback-refused", f"/m/{PASSWORDS}/start?verb=rollback"),
    Screen("start-pause", f"/m/{RUNNING}/start?verb=pause"),
    Screen("start-cancel", f"/m/{RUNNING}/start?verb=cancel"),
    Screen("start-skip", f"/m/{FAILED}/start?verb=skip"),
    Screen("start-reset", f"/m/{ROLLED_BACK}/start?verb=reset"),
    Screen("meanwhile", f"/m/{FAILED}/start?verb=skip", _sent_too_late, 409),
    Screen("held", f"/m/{PASSWORDS}/held"),
    Screen("held-many", f"/m/{FAILED}/held?code=unknown_country"),
    Screen("held-nobody", f"/m/{FAILED}/held", _asked_for_a_key),
    Screen("held-none", f"/m/{PENDING}/held"),
    Screen("history", "/history"),
    Screen("history-of-one", f"/history?migration={SKIPPED}"),
    Screen("audit", "/history/audit"),
    Screen("problem-not-found", "/m/999-nothing", status=404),
    Screen("problem-forged", f"/m/{RUNNING}/start?verb=cancel", _forged, 403),
    Screen("sign-in", "/../auth/sign-in?signed-out=yes"),
    Screen("sign-in-refused", "/../auth/sign-in", _wrong_password, 401),
)
#: What the README and the docs show, as `SCREEN-SCHEME-WIDTH`.
CHOSEN = {"overview": "overview", "run-running": "run", "start-run": "start"}
"""The screens that the documents show, as they are seen without scrolling, and what their pictures are called there."""
_LOOK_OF_CHOSEN = "light-desktop"


def main(argv: Sequence[str] | None = None) -> int:
    """Take the pictures, say where they are, and return 1 if anything went wrong in a page."""
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description="Take every screen of the page.")
    parser.add_argument("--docs", action="store_true", help="also replace the chosen ones under docs/images")
    parser.add_argument("--only", metavar="SCREEN", choices=[screen.name for screen in SCREENS], help="just this one")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="screenshots-"))
    screens = [screen for screen in SCREENS if options.only in (None, screen.name)]
    problems = take(screens, folder)
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")
    if options.docs:
        IMAGES.mkdir(exist_ok=True)
        for screen in (each for each in screens if each.name in CHOSEN):
            (IMAGES / f"{CHOSEN[screen.name]}.png").write_bytes((folder / f"{screen.name}.top.png").read_bytes())
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def take(screens: Sequence[Screen], folder: Path) -> list[str]:
    """Take these screens into the folder, and return what went wrong in the browser meanwhile."""
    problems = []
    with tempfile.TemporaryDirectory() as scratch, chromium.launched() as browser:
        database = Path(scratch) / "story.sqlite"
        database.touch()
        with story.told(Path(scratch) / "project", f"sqlite:///{database}") as accounts:
            runs = story.runs(accounts.project)
            placed = [replace(screen, path=screen.path.format_map(runs)) for screen in screens]
            with serve_page(accounts.project) as address:
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        problems += _take(browser, address, placed, folder, f"{scheme}-{width}")
    return problems


def _take(browser: Browser, address: str, screens: Sequence[Screen], folder: Path, look: str) -> list[str]:
    scheme, _, width = look.partition("-")
    size = {"width": WIDTHS[width], "height": HEIGHTS[width]}
    context = chromium.visitor(browser, color_scheme=scheme, viewport=size, device_scale_factor=2)
    watch = Watch(context, folder)
    page = context.new_page()
    for screen in screens:
        if screen.status != 200:
            watch.expect(f"status of {screen.status}")
        page.goto(address + screen.path)
        screen.reach(page)
        page.screenshot(path=folder / f"{screen.name}-{look}.png", full_page=True)
        if screen.name in CHOSEN and look == _LOOK_OF_CHOSEN:
            page.screenshot(path=folder / f"{screen.name}.top.png")
    found = watch.problems()
    context.close()
    return [f"{look}: {problem}" for problem in found]


if __name__ == "__main__":
    sys.exit(main())
