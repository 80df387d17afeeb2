"""`python -m ante_backend` serves the application where LISTEN_HOST and PORT say. SIGTERM ends it cleanly."""

from __future__ import annotations

import logging
import sys

import uvicorn

from ante_backend.app import create_app
from ante_backend.app_settings import Configuration
from ante_backend.settings import SettingsError
from system_migration import ConfigurationError


def main() -> int:
    """Serve until a signal; 2 when a setting cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(name)s: %(message)s")
    try:
        configuration = Configuration.from_environment()
        app = create_app(configuration)
    except (SettingsError, ConfigurationError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    uvicorn.run(app, host=configuration.app.listen_host, port=configuration.app.port, server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
