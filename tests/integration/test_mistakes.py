"""What a newcomer gets wrong, and what the commands say then: one line that helps, and nothing half-done."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from databases import Database
from outboxkit.application import load
from outboxkit.settings import SettingsError, database_url
from outboxkit_reports import uploads
from outboxkit_web.app import create_app
from outboxkit_web.settings import WebSettings

COMMAND = [sys.executable, "-m", "outboxkit_cli"]


def outboxkit(url: str, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run one command against a database."""
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "LOG_FORMAT": "json", **environ}
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["K", "[]"], "wanted a dict"),
        (["", "{}"], "kind has 0 characters"),
        (["K", "{}", "--queue", ""], "queue has 0 characters"),
        (["K", '{"a": "\\u0000"}'], "NUL"),
        (["K", '{"a": NaN}'], "has no JSON form"),
    ],
    ids=["list", "no kind", "no queue", "NUL", "NaN"],
)
def test_enqueue_says_what_is_wrong(database: Database, arguments: list[str], said: str) -> None:
    """A job that cannot be enqueued is a usage error without a traceback, and nothing is written."""
    run = outboxkit(database.url, "enqueue", *arguments)
    assert run.returncode == 2
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    with database.sync() as connection:
        assert connection.execute("select count(*) from outboxkit.jobs").fetchone() == (0,)


def test_enqueue_into_a_database_that_was_not_migrated(empty_database: Database) -> None:
    """The message names the command that mends it."""
    run = outboxkit(empty_database.url, "enqueue", "K")
    assert run.returncode == 1
    assert "outboxkit migrate" in run.stderr
    assert "Traceback" not in run.stderr


def test_once_in_a_mode_that_is_not_configured_fails(database: Database) -> None:
    """`relay --once` exits non-zero and names the missing variable: a scheduler must not take that for health."""
    assert outboxkit(database.url, "enqueue", "K").returncode == 0
    run = outboxkit(database.url, "relay", "--once", JOB_TRIGGER_MODE="http")
    assert run.returncode == 1
    assert "WORKER_TRIGGER_URL" in run.stdout
    assert outboxkit(database.url, "relay", "--once").returncode == 0, "the mode db is a mode"


@pytest.mark.parametrize("url", ["postgres://u:hunter2@h:port/db", "postgres://u:hunter2@w/x@h/db?nope=1"])
def test_a_database_url_that_libpq_cannot_read(url: str) -> None:
    """It is refused before anything starts, and the password is not repeated."""
    with pytest.raises(ValueError, match=r"%-encoded|not a database URL") as caught:
        database_url(url)
    assert "hunter2" not in str(caught.value)


def test_a_lifespan_without_the_engine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lifespan that takes no argument is a settings problem that shows the right signature."""
    (tmp_path / "forgetful.py").write_text("import outboxkit\nhandlers = outboxkit.Handlers()\ndef lifespan(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=r"lifespan\(engine\)"):
        load("forgetful")


async def test_a_multipart_upload_that_is_too_large(database: Database) -> None:
    """It gets the 413 that the same bytes get as JSON, and the message names the limit's variable."""
    app = create_app(
        settings=WebSettings(database_url=database_url(database.url), max_body_bytes=50_000),
        application=load(uploads.__name__.partition(".")[0]),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client:
        answer = await client.post("/api/reports", data={"title": "x"}, files={"file": b"1" * 60_000})
    assert (answer.status_code, "WEB_MAX_BODY_BYTES" in answer.json()["detail"]) == (413, True)
