"""The site is built once, whoever asks first."""

from __future__ import annotations

import pytest

from tests.docs.site import DOCS, Site, build


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The documentation as `scripts/docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    built = build(DOCS, folder)
    return Site(folder, built.returncode, built.stdout + built.stderr)
