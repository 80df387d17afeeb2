"""The directive `generated`, whose text is made from the code when the site is built.

```{generated} settings
```

stands for what that function of `LISTS` returns, which is Markdown as a page has it. Further words are handed to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from docs._ext import tables
from docs._ext.commands import commands

LISTS: dict[str, Callable[..., str]] = {
    each.__name__: each
    for each in (
        commands,
        tables.settings,
        tables.statuses,
        tables.arrows,
        tables.kinds,
        tables.outcomes,
        tables.stages,
        tables.exit_codes,
        tables.tree_of_errors,
        tables.all_errors,
        tables.problems,
        tables.routes,
        tables.public,
    )
}

_NO_CODE = re.compile(r"<[^<>]*(<[^<>]*>)?[^<>]*>")


class Generated(SphinxDirective):
    """Reads the text as a part of the page."""

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        name, *words = self.arguments
        return self.parse_text_to_nodes(LISTS[name](*words), allow_section_headings=True)


def readable(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A signature with `...` for a default that Python cannot say, such as `<factory>`."""
    return (signature and _NO_CODE.sub("...", signature)), returned


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-signature", readable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
