"""A secret, a token, either, or both: who is let in, and what a worker says about it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from integration.worker.oidc import FORBIDDEN, IN, UNAUTHORIZED, UNVERIFIABLE, outcome, send, settings
from oidc_issuer import ACCOUNT, AUDIENCE, OidcIssuer
from outboxkit import Handlers, Job
from outboxkit.application import Application
from outboxkit.settings import Secret
from outboxkit_contracts.validation import Contract
from workers import Worker, settings_for

Set = Literal["none", "secret", "oidc", "any", "all"]
SECRET = "s3cret-of-the-worker"

# What is sent: x-worker-trigger, and the token.
GIVEN: dict[str, dict[str, str]] = {
    "no secret": {},
    "a wrong secret": {"x_worker_trigger": "wrong"},
    "the secret": {"x_worker_trigger": SECRET},
}
TOKENS = ("no token", "an expired token", "a stripped token", "a valid token")

# What is set, the secret, and the token, in the order above: the answer. Every cell, written out.
I, U, F = IN, UNAUTHORIZED, FORBIDDEN  # noqa: E741 (a table)
TABLE: dict[Set, dict[str, tuple[Any, ...]]] = {
    #            no token, expired, stripped, valid
    "none": {"no secret": (I, I, I, I), "a wrong secret": (I, I, I, I), "the secret": (I, I, I, I)},
    "secret": {"no secret": (F, F, F, F), "a wrong secret": (F, F, F, F), "the secret": (I, I, I, I)},
    "oidc": {"no secret": (U, U, U, I), "a wrong secret": (U, U, U, I), "the secret": (U, U, U, I)},
    "any": {"no secret": (U, U, U, I), "a wrong secret": (U, U, U, I), "the secret": (I, I, I, I)},
    "all": {"no secret": (F, F, F, F), "a wrong secret": (F, F, F, F), "the secret": (U, U, U, I)},
}
SAID = {"none": "none", "secret": "secret", "oidc": "oidc", "any": "secret|oidc", "all": "secret+oidc"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[OidcIssuer]:
    """One issuer for the module: no test here changes it."""
    made = OidcIssuer()
    yield made
    made.down()


@pytest.fixture(scope="module")
def workers(issuer: OidcIssuer) -> Iterator[dict[str, Worker]]:
    """A worker for everything that can be set."""
    both = {**settings(issuer), "secret": Secret(SECRET)}
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "secret": {"secret": Secret(SECRET)},
        "oidc": settings(issuer),
        "any": both,
        "all": {**both, "authentication": "all"},
    }
    application = Application(name="tests", handlers=Handlers())
    made = {name: Worker(settings_for(None, **change), application) for name, change in changes.items()}
    yield made
    for worker in made.values():
        worker.stop()


def token(issuer: OidcIssuer, name: str) -> tuple[str, ...]:
    """The token of this name; none when it is none."""
    sound = issuer.token()
    return {
        "no token": (),
        "an expired token": (issuer.token(exp=1),),
        "a stripped token": (f"{sound.rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE",),
        "a valid token": (sound,),
    }[name]


class TestTable:
    """Everything that can be set with everything that can be sent."""

    @pytest.mark.parametrize("given", TOKENS)
    @pytest.mark.parametrize("secret", GIVEN)
    @pytest.mark.parametrize("configured", TABLE)
    def test_who_is_let_in(
        self, configured: Set, secret: str, given: str, workers: dict[str, Worker], issuer: OidcIssuer
    ) -> None:
        """As the table has it; each answer is one of the document's, and holds neither secret nor token."""
        sent = token(issuer, given)
        response = send(workers[configured], *sent, **GIVEN[secret])
        assert outcome(response) == TABLE[configured][secret][TOKENS.index(given)]
        lines = list(response.headers.multi_items())
        assert not Contract().flaws_of_answer("POST", "/process-job", response.status_code, lines, response.content)
        assert ("www-authenticate" in response.headers) == (response.status_code == 401)
        assert not any(part in response.text + str(lines) for part in (SECRET, *sent))

    @pytest.mark.parametrize("configured", TABLE)
    def test_readiness_says_what_is_asked_for(self, configured: Set, workers: dict[str, Worker]) -> None:
        """And about keys where tokens are checked, and only there."""
        ready = workers[configured].ready()
        assert ready["authentication"] == SAID[configured]
        assert ("signingKeys" in ready) == ("oidc" in SAID[configured])

    def test_where_either_would_do_both_are_named(self, workers: dict[str, Worker], issuer: OidcIssuer) -> None:
        """Whoever reads the relay's log sees what there is to mend."""
        detail = send(workers["any"], *token(issuer, "an expired token")).json()["detail"]
        assert "has expired" in detail
        assert "x-worker-trigger" in detail
        assert "x-worker-trigger" not in send(workers["oidc"]).json()["detail"]


def test_an_issuer_that_is_away_takes_no_secret_away(start_bare: Any) -> None:
    """With a right secret nobody waits for keys that are not needed; with a wrong one, 503, as the token may be valid."""
    away = OidcIssuer()
    away.down()
    worker = start_bare(None, **settings(away), secret=Secret(SECRET))
    assert outcome(send(worker, away.token(), x_worker_trigger=SECRET)) == IN
    assert outcome(send(worker, away.token(), x_worker_trigger="wrong")) == UNVERIFIABLE
    both = start_bare(None, **settings(away), secret=Secret(SECRET), authentication="all")
    assert outcome(send(both, away.token(), x_worker_trigger="wrong")) == FORBIDDEN
    assert outcome(send(both, away.token(), x_worker_trigger=SECRET)) == UNVERIFIABLE


def test_google_has_two_names(start_bare: Any, issuer: OidcIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of either is Google's, where Google is the issuer, and of no other."""
    monkeypatch.setattr("outboxkit_worker.tokens.GOOGLE", issuer.url)
    worker = start_bare(None, **settings(issuer))
    assert outcome(send(worker, issuer.token())) == IN
    assert outcome(send(worker, issuer.token(iss="accounts.google.com"))) == IN
    assert outcome(send(worker, issuer.token(iss="http://accounts.google.com"))) == UNAUTHORIZED


def test_a_job_is_run_for_a_token(start_worker: Any, issuer: OidcIssuer, jobs: Any) -> None:
    """All the way: of several accounts, and with the audience that WORKER_TRIGGER_URL gives."""
    handlers = Handlers()

    @handlers.register("NOOP")
    async def noop(payload: dict[str, Any], job: Job) -> None: ...

    accounts = ("first@project.iam.gserviceaccount.com", ACCOUNT)
    changes = settings(issuer, oidc_accounts=accounts, oidc_audience=None, trigger_url=f"{AUDIENCE}/process-job")
    worker = start_worker(handlers, **changes)
    job = jobs.enqueue("NOOP")
    assert worker.trigger(job).status_code == 401
    assert jobs.row(job)["attempt"] == 0
    for account in accounts:
        authorization = f"Bearer {issuer.token(email=account)}"
        assert worker.trigger(job, authorization=authorization, prefer="wait=20").status_code == 200
    assert jobs.state(job) == "succeeded"


class TestLog:
    """What a worker writes down."""

    def test_it_warns_when_everybody_is_let_in(
        self, start_bare: Any, issuer: OidcIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And only then."""
        start_bare(None, **settings(issuer))
        start_bare(None, secret=Secret(SECRET))
        assert "is open to everybody" not in caplog.text
        start_bare(None)
        assert "is open to everybody" in caplog.text

    def test_refusals_are_a_bounded_number_of_lines(
        self, start_bare: Any, issuer: OidcIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever knocks all day does not fill the disk."""
        worker = start_bare(None, **settings(issuer))
        for _ in range(60):
            assert outcome(send(worker)) == UNAUTHORIZED
        lines = [record for record in caplog.records if record.getMessage().startswith("Refused trigger")]
        assert len(lines) == 20

    def test_what_cloud_tasks_says_is_logged(
        self, start_worker: Any, jobs: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """On the line of the trigger, cut and on one line; without it, not at all."""
        with caplog.at_level(logging.INFO):
            worker = start_worker()
            job = jobs.enqueue("NOOP")
            named = {
                "x_cloudtasks_queuename": "queue\x85next\xa0line",
                "x_cloudtasks_taskname": "t" * 5000,
                "x_cloudtasks_taskretrycount": "3",
                "x_cloudtasks_taskexecutioncount": "1",
            }
            lines = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in named.items()}
            worker.client.post("/process-job", json={"jobId": str(job)}, headers=lines)
            worker.trigger(job)
        first, second = [vars(r) for r in caplog.records if r.getMessage() == "Received trigger"]
        assert first["task_queue"] == "queue next line"
        assert first["task_name"] == "t" * 200
        assert (first["task_retry_count"], first["task_execution_count"]) == ("3", "1")
        assert first["job_id"] == second["job_id"] == job
        assert not [name for name in second if name.startswith("task_")]


def test_a_worker_without_tokens_needs_none_of_it() -> None:
    """Neither PyJWT nor httpx nor cryptography is imported by a worker that checks no tokens."""
    code = """
import sys
from outboxkit import Handlers
from outboxkit.application import Application
from outboxkit_worker.app import create_app
from outboxkit_worker.settings import WorkerSettings
create_app(settings=WorkerSettings(), application=Application(name="a", handlers=Handlers()))
sys.exit(", ".join({"jwt", "httpx", "cryptography"} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
