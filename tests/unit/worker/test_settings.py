"""The worker's environment."""

import pytest

from outboxkit.modes import Mode
from outboxkit.settings import SettingsError, read_settings, variables
from outboxkit_worker.settings import WorkerSettings


def test_everything_has_a_default() -> None:
    """A worker starts with nothing set."""
    settings = read_settings(WorkerSettings, {})
    assert (settings.database_url, settings.mode, settings.secrets) == (None, Mode.DB, ())
    assert (settings.poll_interval, settings.safety_poll, settings.lease) == (1.0, 60.0, 30.0)


def test_names_are_kept_from_the_system_this_replaces() -> None:
    """And milliseconds are read as such."""
    settings = read_settings(
        WorkerSettings,
        {
            "DATABASE_URL": "postgres://u:geheim@h/d",
            "JOB_TRIGGER_MODE": "CLOUD_TASKS",
            "WORKER_POLL_INTERVAL_MS": "250",
            "WORKER_TRIGGER_SECRET": "neu",
            "WORKER_TRIGGER_SECRET_PREVIOUS": "alt",
        },
    )
    assert (settings.mode, settings.poll_interval) == (Mode.CLOUD_TASKS, 0.25)
    assert [s.reveal() for s in settings.secrets] == ["neu", "alt"]
    assert settings.listen_url == settings.database_url
    assert not any(word in repr(settings) for word in ("geheim", "neu", "alt"))


GOES_ON_WITHOUT = {"JOB_TRIGGER_MODE", "WORKER_TRIGGER_URL"}


def test_what_work_can_flow_without_stops_nothing() -> None:
    """An unknown mode and a URL that is none are kept as problems, and the fields have their defaults."""
    settings = read_settings(WorkerSettings, dict.fromkeys(GOES_ON_WITHOUT, "\x01"))
    assert settings.malformed.keys() == GOES_ON_WITHOUT
    assert (settings.mode, settings.trigger_url) == (Mode.DB, None)


def test_every_bad_value_is_told_by_its_name() -> None:
    """All of them at once: whatever text no variable can hold."""
    names = {v.name for v in variables(WorkerSettings).values()} - {"DATABASE_LISTEN_URL", *GOES_ON_WITHOUT}
    with pytest.raises(SettingsError) as caught:
        read_settings(WorkerSettings, dict.fromkeys(names, "\x01"))
    assert {problem.partition(":")[0] for problem in caught.value.problems} == names
