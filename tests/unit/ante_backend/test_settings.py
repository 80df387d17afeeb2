"""The environment is read once, strictly, and no secret's value reaches a message or a repr."""

import pytest

from ante_backend.settings import Canary, HostSettings, SettingsError, required_key

SECRET = "s3cr3t-value"


def read(**environ: str) -> HostSettings:
    return HostSettings.from_environment(environ)


def test_an_empty_environment_gives_the_safe_defaults():
    assert read() == HostSettings(
        encryption_key=None,
        encryption_keys_old=(),
        canaries=(),
        bcrypt_cost=10,
        over_72_bytes="hold",
        verify_sample=50,
        observation_days=14,
        database_url=None,
    )


def test_everything_given_is_read():
    settings = read(
        ENCRYPTION_KEY=" the key\n",
        ENCRYPTION_KEYS_OLD="first\n\n second \nthird\u2028same line",
        ENCRYPTION_CANARY="ada:pass:with:colons \n\ngrace: lead",
        BCRYPT_COST="12",
        PASSWORD_OVER_72_BYTES="prehash",
        PASSWORD_VERIFY_SAMPLE="1",
        LEGACY_OBSERVATION_DAYS="0",
        DATABASE_URL="sqlite:///a.db",
    )
    assert settings.encryption_key == " the key\n"
    assert settings.encryption_keys_old == ("first", " second ", "third\u2028same line")
    assert settings.canaries == (Canary("ada", "pass:with:colons "), Canary("grace", " lead"))
    assert (settings.bcrypt_cost, settings.over_72_bytes, settings.verify_sample) == (12, "prehash", 1)
    assert settings.observation_days == 0
    assert settings.database_url == "sqlite:///a.db"


def test_the_repr_shows_no_secret():
    settings = read(
        ENCRYPTION_KEY=SECRET,
        ENCRYPTION_KEYS_OLD=SECRET,
        ENCRYPTION_CANARY=f"ada:{SECRET}",
        DATABASE_URL=f"postgresql://u:{SECRET}@h/d",
    )
    assert SECRET not in repr(settings)
    assert repr(settings.canaries[0]) == "Canary(username='ada')"


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("BCRYPT_COST", "9", "OWASP"),
        ("BCRYPT_COST", "3", "OWASP"),
        ("BCRYPT_COST", "32", "4 to 31"),
        ("BCRYPT_COST", '"10"', "whole number"),
        ("BCRYPT_COST", "ten", "whole number"),
        ("BCRYPT_COST", "", "whole number"),
        ("BCRYPT_COST", "1_0", "whole number"),
        ("BCRYPT_COST", "１２", "whole number"),
        ("BCRYPT_COST", "-10", "whole number"),
        ("BCRYPT_COST", "1" * 5000, "whole number"),
        ("PASSWORD_VERIFY_SAMPLE", "0", "below 1"),
        ("PASSWORD_VERIFY_SAMPLE", "100001", "over 100000"),
        ("PASSWORD_VERIFY_SAMPLE", "half", "whole number"),
        ("LEGACY_OBSERVATION_DAYS", "3651", "over 3650"),
        ("LEGACY_OBSERVATION_DAYS", "two weeks", "whole number"),
        ("PASSWORD_OVER_72_BYTES", "cut", "known policy"),
        ("PASSWORD_OVER_72_BYTES", "Hold", "known policy"),
        ("ENCRYPTION_CANARY", f"ada:x\n{SECRET}", "line 2"),
        ("ENCRYPTION_CANARY", f":{SECRET}", "line 1"),
        ("ENCRYPTION_CANARY", f"\n{SECRET}:", "line 2"),
        ("ENCRYPTION_KEYS_OLD", f"{SECRET}\n \n", "line 2"),
        ("ENCRYPTION_KEY", f"{SECRET}\udcff", "UTF-8"),
        ("ENCRYPTION_KEYS_OLD", f"{SECRET}\udcff", "UTF-8"),
        ("ENCRYPTION_CANARY", f"ada:{SECRET}\udcff", "UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(variable: str, value: str, reason: str):
    with pytest.raises(SettingsError) as refused:
        HostSettings.from_environment({variable: value})
    sentence = str(refused.value)
    assert refused.value.variable == variable
    assert sentence.startswith(variable)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert reason in sentence
    assert SECRET not in sentence


@pytest.mark.parametrize("cost", [4, 10, 31])
def test_built_directly_it_takes_every_cost_that_bcrypt_takes(cost: int):
    assert HostSettings(bcrypt_cost=cost).bcrypt_cost == cost


@pytest.mark.parametrize("cost", [3, 32])
def test_built_directly_it_takes_no_other_cost(cost: int):
    with pytest.raises(SettingsError, match="4 to 31"):
        HostSettings(bcrypt_cost=cost)


def test_the_required_key_is_given_exactly():
    assert required_key(HostSettings(encryption_key=" key\n")) == " key\n"


@pytest.mark.parametrize(("key", "reason"), [(None, "not set"), ("", "blank"), (" \n\t", "blank")])
def test_a_missing_or_blank_key_is_refused(key: str | None, reason: str):
    with pytest.raises(SettingsError, match=f"^ENCRYPTION_KEY is {reason}: set it"):
        required_key(HostSettings(encryption_key=key))
