"""How the pages become a site: `scripts/docs` builds it. What is generated from code comes from docs/_ext."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "System Migration"
release = version = version_of("system-migration")

extensions = ["myst_parser", "sphinx.ext.autodoc", "docs._ext.outside", "docs._ext.generated"]
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False  # the pages' sources are in the repository
html_show_copyright = html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Anchors as a repository browser makes them, and its <img> tags: the same links lead somewhere in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]

smartquotes = False  # `--flag` keeps its dashes
default_role = "code"  # docstrings are written with single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
# What our classes inherit from one another is theirs; what they inherit from others is described there.
autodoc_default_options = {
    "members": True,
    "inherited-members": "APIRoute,BaseException,str",
    "special-members": "__call__",
}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90

nitpicky = True
# Only our own names are looked for, as no other project's inventory is fetched. What the library keeps for itself has
# no entry, and neither has a type variable.
nitpick_ignore_regex = [("py:.*", r"(?!system_migration\b).*|system_migration\.(store|signing)\..*|.*\.T")]
