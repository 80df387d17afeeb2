"""Takes every screen in both schemes, at a desk's and at a phone's width: `scripts/screenshots`.

Add a screen to SCREENS when it exists. The state that it shows is the story's, and `reach` presses what is left to be
pressed, on the page at `path`. Not a test: a person looks at what comes out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from tests.browser import chromium, story
from tests.browser.watching import Watch
from tests.support.hosting import serve_page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WIDTHS = {"desktop": 1280, "phone": 360}
HEIGHTS = {"desktop": 800, "phone": 740}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass(frozen=True)
class Screen:
    """A picture's name, where it is taken below the page's address, and what is done there before."""

    name: str
    path: str
    reach: Callable[[Page], object] = lambda page: None


SCREENS = (Screen("overview", ""),)
#: What the README and the docs show, as `SCREEN-SCHEME-WIDTH`.
CHOSEN = ("overview-light-desktop",)


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
        for name in CHOSEN:
            (IMAGES / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())
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
            with serve_page(accounts.project) as address:
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        problems += _take(browser, address, screens, folder, f"{scheme}-{width}")
    return problems


def _take(browser: Browser, address: str, screens: Sequence[Screen], folder: Path, look: str) -> list[str]:
    scheme, _, width = look.partition("-")
    size = {"width": WIDTHS[width], "height": HEIGHTS[width]}
    context = chromium.visitor(browser, color_scheme=scheme, viewport=size, device_scale_factor=2)
    watch = Watch(context, folder)
    page = context.new_page()
    for screen in screens:
        page.goto(address + screen.path)
        screen.reach(page)
        page.screenshot(path=folder / f"{screen.name}-{look}.png", full_page=True)
    found = watch.problems()
    context.close()
    return [f"{look}: {problem}" for problem in found]


if __name__ == "__main__":
    sys.exit(main())
