"""A test in a browser fails on what went wrong in its pages, though it looks for something else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import NewVisitor
from tests.browser.serving import document, served
from tests.support.host import wait_for

FILES = {
    "/": document("<p>Text</p>"),
    "/page.css": "",
    "/said": document("<script src='/said.js'></script>"),
    "/said.js": "console.error('something is wrong')",
    "/broken": document("<script src='/broken.js'></script>"),
    "/broken.js": "throw new Error('a bug')",
    "/later": document("<script src='/later.js'></script>"),
    "/later.js": "Promise.reject(new Error('a bug in waiting'))",
    "/styled": document("<p style='color: red'>Text</p>"),
    "/scripted": document("<script>1</script>"),
    "/elsewhere": document("<img alt='' src='http://elsewhere.example/a.png'>"),
    "/linked": document("<a href='http://elsewhere.example/'>away</a>"),
}


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/said", "console: something is wrong"),
        ("/broken", "script: a bug"),
        ("/later", "script: a bug in waiting"),
        ("/styled", "console: .*style-src"),
        ("/scripted", "console: .*script-src"),
        ("/missing", "console: .*404"),
    ],
)
def test_a_problem_is_seen_and_may_be_expected(new_visitor: NewVisitor, path: str, problem: str) -> None:
    visitor = new_visitor()
    with served(FILES) as address:
        visitor.new_tab().goto(address + path)  # whichever tab
    (found,) = visitor.watch.problems()
    assert re.search(problem, found)
    visitor.watch.expect(problem)
    assert visitor.watch.problems() == []


def test_a_good_page_has_no_problem(new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    with served(FILES) as address:
        visitor.page.goto(address)
    assert visitor.watch.problems() == []
    visitor.watch.expect("an error that never comes")
    assert visitor.watch.problems() == ["expected in vain: an error that never comes"]
    visitor.watch.forget()


def test_what_happens_at_the_very_end_is_seen(new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    visitor.page.evaluate("void setTimeout(() => console.error('at the end'))")
    wait_for(lambda: visitor.watch.problems() != [], 5, "the error, with nothing else asked of the page")
    visitor.watch.forget()


def test_a_visitor_may_do_without_scripts(new_visitor: NewVisitor) -> None:
    visitor = new_visitor(java_script_enabled=False)
    with served(FILES) as address:
        visitor.page.goto(f"{address}/said")
        assert visitor.watch.problems() == []


def test_nothing_leaves_this_machine(new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    with served(FILES) as address:
        visitor.page.goto(f"{address}/linked")
        visitor.page.get_by_role("link").click()
        visitor.page.wait_for_url("chrome-error://**")
        visitor.page.goto(f"{address}/elsewhere")
    for url in ("http://elsewhere.example/", "http://elsewhere.example/a.png"):
        assert f"asked another host: GET {url}" in visitor.watch.problems()
    visitor.watch.forget()


INNER = """
from tests.browser.serving import document, served
from tests.browser.test_watching import FILES

def test_passes_but_for_the_page(page):
    with served(FILES) as address:
        page.goto(address + "/said")

def test_fails(page):
    with served(FILES) as address:
        page.goto(address)
        assert page.get_by_role("paragraph").inner_text() == "Something else"

def test_passes(page):
    page.goto("about:blank")
"""


def test_such_a_test_fails_and_says_where_its_page_is_kept(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(INNER, encoding="utf-8")
    plugins = ["-p", "tests.conftest", "-p", "tests.browser.conftest", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml", *plugins, str(tmp_path)]
    command += ["--basetemp", str(tmp_path / "kept")]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, env=os.environ, timeout=120)
    assert "2 failed, 1 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "wrong in the browser:" in ran.stdout
    assert "console: something is wrong" in ran.stdout
    found = dict.fromkeys(re.findall(r"the page is kept in (\S+),", ran.stdout))  # on CI the summary says it again
    kept = [Path(folder) for folder in found]
    assert len(kept) == 2
    for folder in kept:
        assert (folder / "tab-0.png").stat().st_size > 0
    assert "<p>Text</p>" in (kept[1] / "tab-0.html").read_text(encoding="utf-8")
