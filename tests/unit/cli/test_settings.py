"""What the command line reads from the environment."""

import pytest

from outboxkit.settings import SettingsError
from outboxkit_cli.settings import DatabaseSettings, ProcessSettings, ServingSettings, StartSettings, read_both


def test_the_problems_of_both_come_together_and_once() -> None:
    """A variable that both read is reported once, with what is wrong with the others."""
    with pytest.raises(SettingsError) as caught:
        read_both(ServingSettings, ProcessSettings, {"LOG_LEVEL": "loud", "PORT": "-1"})
    assert sorted(problem.partition(":")[0] for problem in caught.value.problems) == ["LOG_LEVEL", "PORT"]


def test_both_are_read() -> None:
    """With nothing wrong, each gets its own."""
    serving, start = read_both(ServingSettings, StartSettings, {"PORT": "9000", "SERVICE_MODE": "Worker"})
    assert (serving.port, start.role) == (9000, "worker")


def test_words_are_read_in_any_case() -> None:
    """Levels and formats may be written in any case."""
    settings, _ = read_both(
        ProcessSettings, StartSettings, {"LOG_LEVEL": "Debug", "LOG_FORMAT": "JSON", "SERVICE_MODE": "WEB"}
    )
    assert (settings.log_level, settings.log_format) == ("DEBUG", "json")


def test_a_url_never_shows() -> None:
    """A database URL may hold a password: it is in no repr."""
    settings, _ = read_both(DatabaseSettings, ProcessSettings, {"DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in repr(settings)
