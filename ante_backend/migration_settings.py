"""The host's settings as migrations need them: what cannot be used refuses the run, in the setting's own words."""

from __future__ import annotations

import os

from ante_backend.legacy_cipher import named_keys
from ante_backend.settings import HostSettings, SettingsError, required_key
from system_migration import Refused


def host_settings() -> HostSettings:
    """The host's settings, from the environment; raises Refused when a variable cannot be used."""
    try:
        return HostSettings.from_environment(os.environ)
    except SettingsError as error:
        raise Refused(str(error)) from None


def main_key(settings: HostSettings) -> str:
    """ENCRYPTION_KEY as it was given; raises Refused when there is none."""
    try:
        return required_key(settings)
    except SettingsError as error:
        raise Refused(str(error)) from None


def derived_keys(settings: HostSettings) -> list[tuple[str, bytes]]:
    """The derived keys with their names, the main one first; 30 ms each. Raises Refused without a main key."""
    return named_keys(main_key(settings), settings.encryption_keys_old)
