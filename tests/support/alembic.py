"""A real Alembic environment, as small as one can be, and a database brought to its revisions."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

ENV = """\
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
MAKO = """\
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade():
    pass


def downgrade():
    pass
"""


class Schema:
    """An `alembic.ini` with its scripts. A revision is a name and what it comes after."""

    def __init__(self, folder: Path) -> None:
        self.ini = folder / "alembic.ini"
        scripts = folder / "alembic"
        (scripts / "versions").mkdir(parents=True)
        (scripts / "env.py").write_text(ENV)
        (scripts / "script.py.mako").write_text(MAKO)
        self.ini.write_text(f"[alembic]\nscript_location = {scripts}\n")

    def add(self, name: str, after: str | tuple[str, ...] = "base", depends_on: str | None = None) -> None:
        """Write the script of a revision."""
        heads = list(after) if isinstance(after, tuple) else after
        command.revision(self._config(), rev_id=name, head=heads, splice=True, depends_on=depends_on)

    def upgrade(self, engine: Engine, revision: str) -> None:
        """Bring a database to a revision."""
        with engine.begin() as connection:
            command.upgrade(self._config(connection=connection), revision)

    def downgrade(self, engine: Engine, revision: str) -> None:
        """Take a database back to a revision."""
        with engine.begin() as connection:
            command.downgrade(self._config(connection=connection), revision)

    def _config(self, **attributes: object) -> Config:
        return Config(self.ini, attributes=dict(attributes))
