"""The walk by keyboard passes a good page, and finds each fault in a bad one."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.keyboard import walk
from tests.browser.serving import document, served

STYLE = """
:focus-visible { outline: 3px solid #1558c0 }
button, select, summary, input, .big { min-height: 28px; min-width: 28px }
.big { display: inline-block }
.scrolling { width: 200px; overflow: auto } .scrolling p { width: 900px }
.unmarked:focus-visible { outline: none }
.shadowed { box-shadow: 0 0 4px #000 } .shadowed:focus-visible { outline: none }
.small { min-height: 0; min-width: 0; height: 20px; padding: 0; font-size: 8px }
.over { position: fixed; inset: 0; background: #fff } .second { order: 2 }
.hidden { display: none }
"""
GOOD = """
<p>Read <a href="#there">the page about it</a> first.</p>
<a class="big" href="#there">There</a>
<button>Go</button> <button disabled>Not yet</button> <button class="hidden">Never</button> <input type="hidden">
<label><input type="radio" name="a"> One</label> <label><input type="radio" name="a" checked> Two</label>
<label><input type="checkbox"> Dry run</label> <label>Size <select><option>1</option></select></label>
<details><summary>More</summary><button>Folded away</button></details>
<div class="scrolling" tabindex="0" role="region" aria-label="Log"><p>Long</p></div>
<p id="there" tabindex="-1">Here</p>
"""


def walked(page: Page, body: str) -> list[tuple[str, str]]:
    with served({"/": document(body), "/page.css": STYLE}) as address:
        page.goto(address)
        return [(stop.role, stop.name) for stop in walk(page)]


def test_a_good_page_is_walked_from_its_top_to_its_end(page: Page) -> None:
    assert walked(page, GOOD) == [
        *(("link", "the page about it"), ("link", "There"), ("button", "Go"), ("radio", "Two")),
        *(("checkbox", "Dry run"), ("combobox", "Size"), ("DisclosureTriangle", "More"), ("region", "Log")),
    ]


def test_it_begins_at_the_top_wherever_the_focus_is(page: Page) -> None:
    assert walked(page, "<button>One</button><button autofocus>Two</button>") == [("button", "One"), ("button", "Two")]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<button></button>", "without a name"),
        ("<button class='unmarked'>Go</button>", "not seen to have the focus"),
        ("<button class='unmarked shadowed'>Go</button>", "not seen to have the focus"),
        ("<button>Go</button><div class='over'></div>", "hidden behind something"),
        ("<button class='small'>Go</button>", "too small"),
        ("<div><a href='/'>x</a></div>", "too small"),
        ("<button>One</button><button tabindex='1'>Two</button>", "reached 0 times"),
        ("<button>One</button><button>Two</button><script src='/swap.js'></script>", "reached after what follows it"),
        ("<button>One</button><script src='/trap.js'></script>", "no end after"),
        ("<button>One</button><button>Two</button><script src='/skip.js'></script>", "reached 0 times"),
    ],
)
def test_a_fault_is_found(page: Page, body: str, fault: str) -> None:
    scripts = {
        "/trap.js": "document.querySelector('button').onkeydown = event => event.preventDefault();",
        "/swap.js": """const order = [...document.querySelectorAll('button')];
            document.onkeydown = event => {
                event.preventDefault();
                order.length ? order.pop().focus() : document.activeElement.blur();
            };""",
        "/skip.js": "const [one, two] = document.querySelectorAll('button'); two.onfocus = () => two.blur();",
    }
    with served({"/": document(body), "/page.css": STYLE} | scripts) as address:
        page.goto(address)
        with pytest.raises(AssertionError, match=fault):
            walk(page)
