"""examples/stdlib-worker: every answer of the protocol, and every promise of a worker, with the rights of its role."""

import importlib.util
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from contract.tables import statements
from contract.tables.conftest import Logins, Looker, Start
from contract.tables.stdlib_worker import FOLDER, SECRET, accepted, problem
from databases import Database
from outboxkit import sweeps
from outboxkit_contracts.actions import Action
from waiting import until


def enqueue(look: Looker, kind: str, payload: str = "{}", **values: object) -> str:
    """A committed job."""
    names = "".join(f", {name} => %s" for name in values)
    (row,) = look.rows(f"select outboxkit.enqueue_job(%s, %s::jsonb{names}) as id", kind, payload, *values.values())
    return str(row["id"])


def test_nothing_but_the_standard_library_is_imported() -> None:
    """In a Python without site-packages it imports, and every module that it brings along is Python's own or its own."""
    program = f"""
import sys; before = set(sys.modules); sys.path.insert(0, {str(FOLDER)!r}); import worker
print(*sorted(name.partition(".")[0] for name in sys.modules.keys() - before))"""
    command = [sys.executable, "-I", "-S", "-c", program]
    imported = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    own = {path.stem for path in FOLDER.glob("*.py")}
    assert own <= imported
    assert imported - own <= set(sys.stdlib_module_names)


def test_password_is_no_argument() -> None:
    """The password reaches psql through its environment, and the URL as psql knows it."""
    spec = importlib.util.spec_from_file_location("stdlib_worker_database", FOLDER / "database.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for url, arguments, password in (
        ("postgresql+psycopg://u:p%40ss@h:1/d?sslmode=require", "postgresql://u@h:1/d?sslmode=require", "p@ss"),
        ("postgres://u@/d?host=/tmp", "postgresql://u@/d?host=/tmp", None),
        ("postgresql:///d", "postgresql:///d", None),
    ):
        made = module.Database(url)
        assert made._command[-1] == arguments
        assert made._environment.get("PGPASSWORD") == password


def test_job_is_done(start: Start, look: Looker) -> None:
    """With Prefer the answer comes when the job is settled, without once it is claimed; another trigger is a duplicate."""
    worker = start()
    job = enqueue(look, "ECHO", '{"n": 1}')
    answer = worker.trigger(job, prefer="wait=20")
    assert (accepted(answer, job), answer.headers["preference-applied"]) == ((200, "succeeded", False), "wait=20")
    assert look.job(job)["result"] == {"n": 1}
    assert accepted(worker.trigger(job), job) == (200, "succeeded", True)
    slow = enqueue(look, "SLEEP", '{"seconds": 60}')
    assert accepted(worker.trigger(slow), slow) == (202, "running", False)
    assert accepted(worker.trigger(slow), slow) == (202, "running", True)
    assert (look.job(slow)["attempt"], look.count("outboxkit.outbox")) == (1, 0)


@pytest.mark.parametrize(
    "text",
    ["o'neill", "\\", "\\'; select 1", "a\nb\r\tc", 'grün\u2028\u0085,"x"', ":'job' :job", "`ls`", "x" * 200_000],
)
def test_any_text_comes_through(start: Start, look: Looker, text: str) -> None:
    """A payload reaches the handler, and a result the table, whatever characters there are in it; a long one is refused."""
    job = enqueue(look, "ECHO", json.dumps({"text": text}))
    (_, state, _) = accepted(start().trigger(job, prefer="wait=20"), job)
    if len(text) > 64 * 1024:
        assert (state, look.job(job)["errors"][0]["reason"]) == ("failed", "unusable-result")
    else:
        assert (state, look.job(job)["result"]) == ("succeeded", {"text": text})


def test_failures_are_delivered_triggers(start: Start, look: Looker) -> None:
    """A handler that fails is answered 200, with its retry recorded; one that is no use is a dead letter."""
    worker = start()
    job = enqueue(look, "FAIL", max_attempts=2)
    assert accepted(worker.trigger(job, prefer="wait=20"), job) == (200, "queued", False)
    assert (look.count("outboxkit.outbox"), look.count("outboxkit.dead_letters")) == (1, 0)
    assert accepted(worker.trigger(job, prefer="wait=20"), job) == (200, "failed", False)
    rejected = enqueue(look, "REJECT")
    assert accepted(worker.trigger(rejected, prefer="wait=20"), rejected) == (200, "failed", False)
    letters = look.rows("select job_id::text, reason, attempts from outboxkit.dead_letters order by id")
    assert [tuple(letter.values()) for letter in letters] == [
        (job, "handler-error", 2),
        (rejected, "handler-failed", 1),
    ]


def test_what_is_no_trigger_is_refused(start: Start) -> None:
    """Bodies, media types and sizes: each has its problem, and can never work."""
    worker = start()
    wrong = [
        b"",
        b"{}",
        b"[]",
        b'{"jobId": 7}',
        b'{"jobId": "x"}',
        b"\xff",
        b"[" * 60_000,
        b'{"jobId": "\\ud800"}',
        b"NaN",
    ]
    malformed = (400, "malformed-request", Action.DEAD_LETTER)
    assert [problem(worker.post(body)) for body in wrong] == [malformed] * len(wrong)
    form = problem(worker.post(b"x=1", content_type="application/x-www-form-urlencoded"))
    assert form == (415, "unsupported-media-type", Action.DEAD_LETTER)
    large = problem(worker.post(b'"' + b"x" * 65536 + b'"'))
    assert large == (413, "payload-too-large", Action.DEAD_LETTER)
    assert problem(worker.trigger(str(uuid4()))) == (404, "unknown-job", Action.DEAD_LETTER)


def test_credentials_come_first(start: Start) -> None:
    """Without a valid secret nothing is read; the previous one is valid too."""
    worker = start(WORKER_TRIGGER_SECRET_PREVIOUS="old")
    forbidden = (403, "forbidden", Action.ENDPOINT_FAULT)
    assert [problem(worker.post(b"", x_worker_trigger=wrong)) for wrong in ("", "x", SECRET + "x")] == [forbidden] * 3
    assert problem(worker.post(b"", x_worker_trigger="old"))[0] == 400
    open_to_all = start(WORKER_TRIGGER_SECRET="")
    assert problem(open_to_all.post(b"", x_worker_trigger=""))[0] == 400


def test_methods_and_paths(start: Start) -> None:
    """Every address says what it answers."""
    client = start().client
    wrong = client.put("/process-job")
    assert (problem(wrong), wrong.headers["allow"]) == (
        (405, "method-not-allowed", Action.ENDPOINT_FAULT),
        "OPTIONS, POST",
    )
    assert problem(client.post("/process", json={})) == (404, "not-found", Action.ENDPOINT_FAULT)
    assert (client.options("/process-job").status_code, client.options("/health").headers["allow"]) == (
        204, "GET, HEAD, OPTIONS",
    )  # fmt: skip
    for path in ("/", "/health", "/health/ready"):
        assert (client.get(path).status_code, client.head(path).status_code, client.head(path).content) == (
            200,
            200,
            b"",
        )
        assert problem(client.delete(path))[0] == 405
    assert client.get("/health").json()["service"] == "worker"
    ready = client.get("/health/ready").json()
    assert (ready["status"], ready["migrations"], ready["authentication"]) == ("ready", "current", "secret")


def test_job_that_is_not_for_now(start: Start, look: Looker) -> None:
    """Too early, of a kind that nobody knows, or too many at once: each is told, and the job left alone."""
    worker = start(WORKER_CONCURRENCY=1)
    later = enqueue(look, "ECHO", run_at="2100-01-01 00:00Z")
    assert problem(worker.trigger(later)) == (409, "not-due", Action.RETRY_THEN)
    unknown = enqueue(look, "NEWER")
    assert problem(worker.trigger(unknown)) == (422, "unknown-kind", Action.RETRY)
    slow = enqueue(look, "SLEEP", '{"seconds": 60}')
    assert accepted(worker.trigger(slow), slow)[0] == 202
    other = enqueue(look, "ECHO")
    assert problem(worker.trigger(other)) == (429, "worker-full", Action.SLOW_DOWN)
    assert {look.job(job)["attempt"] for job in (later, unknown, other)} == {0}


def test_database_that_is_away(start: Start) -> None:
    """Without a database nothing is known of a job: 503, and not ready."""
    away = (503, "no-database", Action.ENDPOINT_FAULT)
    for url in (None, "postgresql://nobody@127.0.0.1:1/none"):
        worker = start(url=url)
        assert problem(worker.trigger(str(uuid4()))) == away
        ready = worker.client.get("/health/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "down")


def test_outcome_that_cannot_be_recorded(start: Start, look: Looker, logins: Logins) -> None:
    """When Postgres refuses the outcome, whoever waits gets 500, and the job is left to its lease."""
    worker = start(change=("jobs", "PAUSES", (0.01,)))
    job = enqueue(look, "SLEEP", '{"seconds": 1}')
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(worker.trigger, job, prefer="wait=20")
        look.becomes(job, "running")
        look.run(f"revoke update on outboxkit.jobs from {logins.names['worker']}")
        assert problem(answer.result()) == (500, "internal-error", Action.RETRY)
    assert look.job(job)["state"] == "running"


def test_many_triggers_are_one_run(start: Start, look: Looker) -> None:
    """Twenty triggers for one job at once, on as many connections: one starts it, the others are told so."""
    worker = start(WORKER_CONCURRENCY=2)
    job = enqueue(look, "ECHO")
    with ThreadPoolExecutor(20) as pool:
        answers = [
            accepted(answer, job) for answer in pool.map(lambda _: worker.trigger(job, prefer="wait=20"), range(20))
        ]
    assert [duplicate for _, _, duplicate in answers].count(False) == 1
    assert (look.job(job)["attempt"], look.job(job)["state"]) == (1, "succeeded")


def test_lease_is_renewed(start: Start, look: Looker) -> None:
    """Signs of life move the lease ahead while the handler runs."""
    worker = start(JOB_LEASE_SECONDS=1)
    job = enqueue(look, "SLEEP", '{"seconds": 60}')
    worker.trigger(job)
    first = look.job(job)["lease_until"]
    until(lambda: look.job(job)["lease_until"] > first, what="a sign of life")


async def test_lost_job_is_not_settled(
    start: Start, look: Looker, database: Database, logins: Logins, psql: Path
) -> None:
    """A worker whose lease is over says busy rather than claim what it is still at, and its completion is refused."""
    worker = start()
    job = enqueue(look, "SLEEP", '{"seconds": 2}')
    assert accepted(worker.trigger(job), job) == (202, "running", False)
    look.run("update outboxkit.jobs set lease_until = now() - interval '1 second' where id = %s", job)
    async with await database.connect() as connection:
        assert (await sweeps.heal(connection, sweeps.SweepLimits())).requeued == 1
    assert problem(worker.trigger(job)) == (503, "busy", Action.ENDPOINT_FAULT)
    other = {"worker": uuid4(), "lease": 60, "kinds": '{"SLEEP": 3}'}
    (claimed,) = statements.run(psql, logins.url("worker"), "claim_by_id", job=job, **other)
    until(lambda: "The lease was lost" in worker.log, what="the completion to be refused")
    row = look.job(job)
    assert (row["state"], row["attempt"], row["leased_by"], row["result"]) == ("running", 2, other["worker"], None)
    assert claimed["attempt"] == "2"


def test_lost_lease_stops_the_handler(start: Start, look: Looker) -> None:
    """A sign of life that comes too late tells that another worker has the job, and the handler stops."""
    worker = start(JOB_LEASE_SECONDS=1)
    job = enqueue(look, "SLEEP", '{"seconds": 600}')
    worker.trigger(job)
    look.run("update outboxkit.jobs set attempt = 2, leased_by = gen_random_uuid() where id = %s", job)
    until(lambda: "The lease was lost" in worker.log, what="the worker to notice")
    assert look.job(job)["state"] == "running"


def test_cancelled_job_stops(start: Start, look: Looker, logins: Logins, psql: Path) -> None:
    """A running job that is cancelled stops at the next sign of life, and ends as cancelled."""
    worker = start(JOB_LEASE_SECONDS=1)
    job = enqueue(look, "SLEEP", '{"seconds": 600}')
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(worker.trigger, job, prefer="wait=30")
        look.becomes(job, "running")
        statements.run(psql, logins.url("web"), "cancel", job=job)
        assert accepted(answer.result(), job) == (200, "cancelled", False)
    assert look.count("outboxkit.dead_letters") == 0


def test_draining_finishes_what_runs(start: Start, look: Looker) -> None:
    """From SIGTERM on triggers are refused and nobody is kept waiting; what runs is finished, and then the worker ends."""
    worker = start(SHUTDOWN_GRACE_SECONDS=30)
    job = enqueue(look, "SLEEP", '{"seconds": 3}')
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(worker.trigger, job, prefer="wait=30")
        look.becomes(job, "running")
        worker.process.send_signal(signal.SIGTERM)
        assert accepted(waiting.result(), job) == (202, "running", False)
    assert problem(worker.trigger(enqueue(look, "ECHO"))) == (503, "draining", Action.ENDPOINT_FAULT)
    assert worker.client.get("/health/ready").status_code == 503
    assert worker.process.wait(30) == 0
    assert (look.job(job)["state"], look.job(job)["attempt"]) == ("succeeded", 1)


@pytest.mark.parametrize("hurry", [False, True], ids=["grace over", "second signal"])
def test_what_does_not_finish_is_given_back(start: Start, look: Looker, *, hurry: bool) -> None:
    """When the grace is over, or somebody is in a hurry, what still runs is given back unharmed."""
    worker = start(SHUTDOWN_GRACE_SECONDS=60 if hurry else 0)
    job = enqueue(look, "SLEEP", '{"seconds": 600}')
    worker.trigger(job)
    worker.process.send_signal(signal.SIGTERM)
    if hurry:
        until(lambda: "shutting down" in worker.log, what="the first signal to be heard")
    assert worker.stop(signal.SIGINT) == 0
    row = look.job(job)
    assert (row["state"], row["attempt"], row["max_attempts"], row["errors"]) == ("queued", 1, 4, [])
    assert look.count("outboxkit.outbox") == 1
