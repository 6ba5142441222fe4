"""The settings of bearer tokens, and what is read of headers."""

from __future__ import annotations

import pytest

from outboxkit.settings import SettingsError, default_audience, read_settings
from outboxkit_worker.discovery import max_age
from outboxkit_worker.settings import WorkerSettings

ACCOUNTS = "WORKER_OIDC_SERVICE_ACCOUNTS"
AUDIENCE = "WORKER_OIDC_AUDIENCE"


def problems(**environ: str) -> list[str]:
    """What is wrong with an environment."""
    with pytest.raises(SettingsError) as caught:
        read_settings(WorkerSettings, environ)
    return caught.value.problems


def test_nothing_is_checked_unless_accounts_are_named() -> None:
    """The audience alone is the relay's."""
    settings = read_settings(WorkerSettings, {AUDIENCE: "https://worker.test", "WORKER_TRIGGER_URL": "https://w.test"})
    assert settings.oidc_accounts is None


def test_accounts_stand_between_commas() -> None:
    """With blanks and line breaks as people write them."""
    settings = read_settings(WorkerSettings, {ACCOUNTS: " a@b.test,\n c@d.test ,", AUDIENCE: "https://worker.test"})
    assert settings.oidc_accounts == ("a@b.test", "c@d.test")
    assert (settings.oidc_issuer, settings.authentication) == ("https://accounts.google.com", "any")


@pytest.mark.parametrize(
    "text", ["112233", "a@b", "a b@c.test", "a@b.test;c@d.test@", "a@b.test,nobody", "@b.test", ","]
)
def test_what_is_no_account(text: str) -> None:
    """Told by name, with an example."""
    [problem] = problems(**{ACCOUNTS: text, AUDIENCE: "https://worker.test"})
    assert problem.startswith(f"{ACCOUNTS}: ")
    assert "gserviceaccount.com" in problem


def test_the_audience_is_scheme_and_host_of_the_worker_s_url() -> None:
    """Unless it is set."""
    environ = {ACCOUNTS: "a@b.test", "WORKER_TRIGGER_URL": "https://worker.test/process-job?x=1"}
    assert read_settings(WorkerSettings, environ).audience == "https://worker.test"
    assert read_settings(WorkerSettings, {**environ, AUDIENCE: "name"}).audience == "name"


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://Worker.Test", "https://worker.test"),
        ("https://worker.test:443/process-job", "https://worker.test"),
        ("HTTP://worker.test:80", "http://worker.test"),
        ("https://worker.test:8443/a/b", "https://worker.test:8443"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_spellings_of_one_url_are_one_audience(url: str, audience: str) -> None:
    """Relay and worker read it alike; the port of the scheme is left out, as Cloud Run does."""
    assert default_audience(url) == audience


def test_accounts_without_an_audience_are_an_error() -> None:
    """A token for anybody would let in; the problem says which variables there are, and shows one."""
    [problem] = problems(**{ACCOUNTS: "a@b.test"})
    for word in (ACCOUNTS, AUDIENCE, "WORKER_TRIGGER_URL", "https://"):
        assert word in problem


def test_all_of_nothing_is_an_error() -> None:
    """It would let everybody in; with a secret or accounts it is none."""
    [problem] = problems(WORKER_AUTHENTICATION="ALL")
    assert "WORKER_TRIGGER_SECRET" in problem
    assert ACCOUNTS in problem
    for more in ({"WORKER_TRIGGER_SECRET": "s"}, {ACCOUNTS: "a@b.test", AUDIENCE: "https://worker.test"}):
        assert read_settings(WorkerSettings, {"WORKER_AUTHENTICATION": "all", **more}).authentication == "all"


@pytest.mark.parametrize(
    "url", ["https://issuer.test", "https://issuer.test/realm/", "http://127.0.0.1:9", "http://[::1]:9"]
)
def test_issuers(url: str) -> None:
    """Https anywhere, http on this machine."""
    assert read_settings(WorkerSettings, {"WORKER_OIDC_ISSUER": url}).oidc_issuer == url


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.test",
        "http://127.0.0.1.issuer.test",
        "http://10.0.0.1",
        "issuer.test",
        "https://",
        "ftp://issuer.test",
        "https://u:p@issuer.test",
        "https://issuer.test?a=b",
        "https://issuer.test#a",
        "https://issuer.test:99999",
    ],
)
def test_what_is_no_issuer(url: str) -> None:
    """What is not read from whom it names."""
    assert problems(WORKER_OIDC_ISSUER=url)[0].startswith("WORKER_OIDC_ISSUER: ")


def test_all_problems_are_told_together() -> None:
    """One line each."""
    found = problems(**{ACCOUNTS: "x", AUDIENCE: "a b", "WORKER_OIDC_ISSUER": "x", "WORKER_AUTHENTICATION": "some"})
    assert {problem.partition(":")[0] for problem in found} == {
        ACCOUNTS,
        AUDIENCE,
        "WORKER_OIDC_ISSUER",
        "WORKER_AUTHENTICATION",
    }


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 3600),
        ("", 3600),
        ("public, max-age=18000, must-revalidate", 18000),
        ("MAX-AGE=600", 600),
        ('max-age="600"', 600),
        ("max-age=0", 300),
        ("no-store, max-age=1", 300),
        ("max-age=999999999", 43200),
        ("max-age=" + "9" * 5000, 3600),
        ("s-maxage=600", 3600),
        ("x-max-age=600", 3600),
        ("max-age=-5", 3600),
        ("max-age=soon", 3600),
    ],
)
def test_how_long_keys_are_fresh(header: str | None, seconds: float) -> None:
    """By Cache-Control, within bounds; an hour when it does not say."""
    assert max_age(header) == seconds
