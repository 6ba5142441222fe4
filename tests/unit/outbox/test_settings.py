"""Settings from environment variables: every problem at once, and no secret in any of them."""

import copy
import logging
import pickle
import traceback
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outboxkit.modes import Mode
from outboxkit.settings import (
    DatabaseUrl,
    JobTriggerMode,
    Port,
    Secret,
    SettingsError,
    Variable,
    days,
    flag,
    http_url,
    milliseconds,
    mode,
    read_settings,
    seconds,
    secret,
    variables,
    whole,
)

VALUE = "s3cr%t/+ü='\""
Token = Annotated[Secret | None, Variable("TOKEN", "A secret.", "long and random", secret)]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A role's settings."""

    database_url: DatabaseUrl
    port: Port = 8080
    mode: JobTriggerMode = Mode.DB
    token: Token = None

    def __post_init__(self) -> None:
        """Two values at odds."""
        if self.mode is Mode.HTTP and self.token is None:
            raise ValueError("TOKEN is not set, and JOB_TRIGGER_MODE=http needs it")


GIVEN = {"DATABASE_URL": "postgres://u:pw@h/d", "PORT": " 9000 ", "JOB_TRIGGER_MODE": "Cloud_Tasks", "TOKEN": VALUE}


def test_reads() -> None:
    """Values are read by their variable's own reader, with blanks round them taken off."""
    settings = read_settings(Example, GIVEN)
    assert (settings.port, settings.mode) == (9000, Mode.CLOUD_TASKS)
    assert settings.database_url.reveal() == "postgres://u:pw@h/d"
    assert settings.token == Secret(VALUE)


def test_empty_is_not_set() -> None:
    """A variable that is empty or blank counts as not set."""
    settings = read_settings(Example, {"DATABASE_URL": "postgresql:///d", "PORT": "", "TOKEN": "  "})
    assert (settings.port, settings.token) == (8080, None)


def test_every_problem_at_once() -> None:
    """Each problem is a line that starts with the variable's name and says what would be right."""
    with pytest.raises(SettingsError) as refused:
        read_settings(Example, {"PORT": "http", "JOB_TRIGGER_MODE": "fax", "TOKEN": "a\nb"})
    assert [problem.split(":")[0].split(" ")[0] for problem in refused.value.problems] == [
        "DATABASE_URL",
        "PORT",
        "JOB_TRIGGER_MODE",
        "TOKEN",
    ]
    assert all("For example" in problem for problem in refused.value.problems)


def test_values_at_odds() -> None:
    """What a role's own check finds is a problem like the others."""
    with pytest.raises(SettingsError) as refused:
        read_settings(Example, {"DATABASE_URL": "postgresql:///d", "JOB_TRIGGER_MODE": "http"})
    assert refused.value.problems == ["TOKEN is not set, and JOB_TRIGGER_MODE=http needs it"]


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@h/d",
        "hunter2",
        "postgresql://user:pass@host:hunter2/d",
        "://hunter2",
    ],
)
def test_database_urls_never_show(url: str) -> None:
    """A wrong URL may hold a password: not a part of it is in the problem, nor in its traceback."""
    with pytest.raises(SettingsError) as refused:
        read_settings(Example, {"DATABASE_URL": url})
    shown = "".join(traceback.format_exception(refused.value))
    assert refused.value.problems[0].startswith("DATABASE_URL: ")
    assert "hunter2" not in shown


def test_variables() -> None:
    """The declarations can be listed, for the reference in the docs."""
    assert {field: variable.name for field, variable in variables(Example).items()} == {
        "database_url": "DATABASE_URL",
        "port": "PORT",
        "mode": "JOB_TRIGGER_MODE",
        "token": "TOKEN",
    }


class TestSecret:
    """A Secret never shows."""

    def test_never_shows(self) -> None:
        """Not in repr, str, format, exceptions, tracebacks, log lines, nor inside other values."""
        hidden = Secret(VALUE)
        holder = read_settings(Example, GIVEN)
        shown = [repr(hidden), str(hidden), f"{hidden}", f"{hidden!r:>30}", "%s %r" % (hidden, hidden), repr(holder)]  # noqa: UP031 (all ways)
        shown += [repr([hidden]), repr({"a": hidden}), repr(SettingsError([f"{hidden}"]))]
        try:
            raise ValueError(hidden)
        except ValueError as error:
            shown += traceback.format_exception(error)
        record = logging.makeLogRecord({"msg": "%s", "args": (hidden,)})
        shown.append(record.getMessage())
        shown.append(msgspec.json.encode({"a": hidden}, enc_hook=str).decode())
        for text in shown:
            assert VALUE not in text
            assert "s3cr" not in text

    def test_is_no_json(self) -> None:
        """It has no JSON form, alone or within its settings: encoding it is an error that does not show it either."""
        for value in (Secret(VALUE), read_settings(Example, GIVEN)):
            with pytest.raises(TypeError) as refused:
                msgspec.json.encode(value)
            assert "s3cr" not in str(refused.value)
            with pytest.raises(TypeError):
                msgspec.to_builtins(value)

    @given(st.text(), st.text())
    def test_matches(self, one: str, two: str) -> None:
        """It matches its own bytes and no others, whatever characters it has, also the environment's raw bytes."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in (one, two)]
        kept = [Secret(raw.decode("utf-8", "surrogateescape")) for raw in encoded]
        assert kept[0].matches(encoded[0])
        assert kept[0].matches(encoded[1]) == (one == two) == (kept[0] == kept[1])

    def test_equality(self) -> None:
        """Equal to a Secret with the same value and to nothing else; its hash gives nothing away."""
        assert Secret("a") == Secret("a")
        assert Secret("a") != "a"
        assert hash(Secret("a")) == hash(Secret("b"))
        assert copy.copy(Secret("a")) == Secret("a") == pickle.loads(pickle.dumps(Secret("a")))  # noqa: S301 (our own)


def _refusal(read: Any, text: str) -> str:
    with pytest.raises(ValueError, match=r".") as refused:
        read(text)
    return str(refused.value)


class TestReaders:
    """How text becomes a value."""

    @pytest.mark.parametrize("text", ["8080x", "", "1.5", "-1", "65536", "9" * 5000])
    def test_whole(self, text: str) -> None:
        """Whole numbers within bounds."""
        assert whole(0, 65535)("8080") == 8080
        assert _refusal(whole(0, 65535), text)

    @pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1e99", "soon"])
    def test_durations(self, text: str) -> None:
        """Durations within bounds, and never a value that no clock understands."""
        assert seconds(0, 60)("1.5") == 1.5
        assert milliseconds(0, 60_000)("1500") == 1.5
        assert days(0, 10)("0.5") == timedelta(hours=12)
        for read in (seconds(0, 60), milliseconds(0, 60), days(0, 10)):
            assert _refusal(read, text)

    @pytest.mark.parametrize(("text", "value"), [("yes", True), ("OFF", False), ("1", True), ("False", False)])
    def test_flag(self, text: str, value: bool) -> None:
        """Yes and no in their usual spellings."""
        assert flag(text) is value
        assert "none of" in _refusal(flag, "perhaps")

    @pytest.mark.parametrize("text", ["cloud-tasks", "CLOUD_TASKS", "Cloud-Tasks"])
    def test_mode(self, text: str) -> None:
        """Modes in any case and with either dash."""
        assert mode(text) is Mode.CLOUD_TASKS
        assert mode("HTTP") is Mode.HTTP

    @pytest.mark.parametrize("text", ["http://h", "https://h:8443/path?q=1", "http://[::1]:80/"])
    def test_http_url(self, text: str) -> None:
        """Absolute http and https URLs are taken as they are."""
        assert http_url(text) == text

    @pytest.mark.parametrize(
        "text", ["ftp://h", "h/path", "//h", "http://", "http://h:99999", "http://[::1", "mailto:h"]
    )
    def test_http_url_refused(self, text: str) -> None:
        """Anything else is refused."""
        assert _refusal(http_url, text)

    @pytest.mark.parametrize("scheme", ["http", "ftp", "//", ""])
    def test_http_url_with_credentials(self, scheme: str) -> None:
        """Credentials in a URL are refused without being shown, whatever else is wrong with it."""
        url = f"{scheme}://user:hunter2@h" if scheme.isalpha() else f"{scheme}user:hunter2@h"
        assert "hunter2" not in _refusal(http_url, url)
        assert "WORKER_TRIGGER_SECRET" in _refusal(http_url, url)

    @pytest.mark.parametrize("text", ["a\rb", "a\nb", "a\x00b", "a\x7fb"])
    def test_secret(self, text: str) -> None:
        """A secret may hold any character that a header can carry, and is refused without being shown."""
        assert secret(VALUE).reveal() == VALUE
        assert text not in _refusal(secret, text)
