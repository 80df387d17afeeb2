"""How soon a page is there, and whether it fits."""

from __future__ import annotations

from statistics import median

from playwright.sync_api import Page

PHONE = 360
PAINTED = """() => new Promise(resolve => {
  new PerformanceObserver((list, observer) => {
    const [paint] = list.getEntriesByName('first-contentful-paint');
    if (paint) { observer.disconnect(); resolve(paint.startTime); }
  }).observe({type: 'paint', buffered: true});
})"""
TOO_WIDE = """() => {
  const width = window.innerWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const end = element => Math.round(element.getBoundingClientRect().right);
  const wide = [...document.body.querySelectorAll('*')].filter(element => end(element) > width);
  const outermost = wide.filter(element => !wide.includes(element.parentElement));
  const name = element => `${element.cloneNode(false).outerHTML.slice(0, 120)} ends at ${end(element)} of ${width}`;
  return outermost.length ? outermost.map(name) : [`the page is ${document.documentElement.scrollWidth} of ${width}`];
}"""


def first_paint(page: Page, url: str, loads: int = 5) -> float:
    """Milliseconds from asking for a page to its first text on the screen: the median of so many loads.

    Nothing is taken from the browser's cache, as at a first visit.
    """
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    try:
        return median(_painted(page, url) for _ in range(loads))
    finally:
        session.detach()


def _painted(page: Page, url: str) -> float:
    page.goto(url)
    found: float = page.evaluate(PAINTED)
    return found


def sticking_out(page: Page, width: int = PHONE) -> list[str]:
    """What makes the page scroll sideways in a window of this width: nothing, if it fits. The window is put back."""
    before = page.viewport_size
    page.set_viewport_size({"width": width, "height": 740})
    try:
        found: list[str] = page.evaluate(TOO_WIDE)
        return found
    finally:
        if before is not None:
            page.set_viewport_size(before)
