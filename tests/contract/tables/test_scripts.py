"""The whole path with psql and two shell scripts, each with the rights of its role: no Python of the kit but its sweep."""

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from contract.tables import statements
from contract.tables.conftest import Logins, Looker, Shell
from databases import Database
from outboxkit import sweeps
from waiting import ended, until

# What a job did, in the transaction of its completion.
EFFECT = "echo \"insert into effects values ('$JOB_ID', $JOB_ATTEMPT, current_user);\""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that commands wait for; whoever opens the gate makes it."""
    return tmp_path / "gate"


def waits_for(gate: Path) -> str:
    """The part of a command that says it is there, and then waits."""
    return f'touch "{gate}.$JOB_ATTEMPT"\nuntil [ -e "{gate}" ]; do sleep 0.02; done'


def arrived(gate: Path, attempt: int = 1) -> bool:
    """Whether the command of this attempt waits at the gate."""
    return Path(f"{gate}.{attempt}").exists()


def opened(gate: Path) -> None:
    """Let the commands go on."""
    gate.touch()


def pid_at(gate: Path) -> int:
    """The command that wrote its process id down before it came to the gate."""
    return int(Path(f"{gate}.pid").read_text())


async def expire_and_sweep(database: Database, job: str) -> None:
    """End the job's lease, and have the kit sweep."""
    async with await database.connect() as connection:
        over = "update outboxkit.jobs set lease_until = clock_timestamp() - interval '1 second' where id = %s"
        await connection.execute(over, [job])
        assert (await sweeps.heal(connection, sweeps.SweepLimits())).requeued == 1


def test_job_comes_with_the_applications_transaction(shell: Shell, look: Looker, tmp_path: Path) -> None:
    """produce.sh commits the application's rows and the job together; when its SQL fails, there is neither."""
    orders = tmp_path / "the orders.sql"
    orders.write_text("insert into orders values ('books'); select 'seen';")
    job = shell.produce("-f", str(orders), "SHIP", '{"note": "it\'s \\\\ :\'x\' ü"}')
    assert look.job(job)["payload"] == {"note": "it's \\ :'x' ü"}
    assert (look.count("orders"), look.count("outboxkit.outbox")) == (1, 1)

    orders.write_text("insert into orders values ('pens'); select 1/0;")
    failed = shell.try_to_produce("-f", str(orders), "SHIP")
    assert (failed.returncode, failed.stdout) == (3, "")
    refused = shell.try_to_produce("-f", str(orders), "SHIP", "no JSON")
    assert refused.returncode == 3
    assert (look.count("orders"), look.count("outboxkit.jobs")) == (1, 1)


def test_rolled_back_job_was_never_there(logins: Logins, look: Looker, psql: Path, tmp_path: Path) -> None:
    """The function's job goes with a ROLLBACK, also one to a savepoint."""
    script = tmp_path / "rolled-back.sql"
    variables = {"kind": "SHIP", "payload": "{}", "queue": "default"} | dict.fromkeys(
        ["run_at", "unique_key", "max_attempts", "traceparent"], ""
    )
    enqueue = f"\\i {statements.SQL}/enqueue.sql"
    settings = "".join(f"\\set {name} '{value}'\n" for name, value in variables.items())
    script.write_text(
        f"{settings}begin;\n{enqueue}\nrollback;\nbegin;\nsavepoint s;\n{enqueue}\nrollback to s;\ncommit;\n"
    )
    command = [psql, logins.url("web"), "-qX", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", script]
    subprocess.run(command, check=True)
    assert (look.count("outboxkit.jobs"), look.count("outboxkit.outbox")) == (0, 0)


def test_job_runs_and_what_it_prints_commits_with_it(shell: Shell, look: Looker, logins: Logins) -> None:
    """The command gets the payload, and its SQL is committed with the completion; no trigger is left."""
    job = shell.produce("SHIP", '{"name": "o\'neill"}')
    quoted = """payload=$(cat); echo "insert into orders values (\\$\\$$payload\\$\\$);" """
    shell.work("SHIP", shell.command(f"{quoted}\n{EFFECT}"))
    row = look.becomes(job, "succeeded")
    assert (row["attempt"], row["max_attempts"], row["lease_until"], row["errors"]) == (1, 5, None, [])
    assert look.rows("select name::json->>'name' as name from orders") == [{"name": "o'neill"}]
    effects = [{"job_id": row["id"], "attempt": 1, "worker": logins.names["worker"]}]
    assert (look.rows("select * from effects"), look.count("outboxkit.outbox")) == (effects, 0)


def test_running_job_is_not_claimed_again(shell: Shell, look: Looker, logins: Logins, psql: Path, gate: Path) -> None:
    """A claim of a running job gets no row, and its state says why; nor does a poller see it."""
    job = shell.produce("SHIP")
    holder = shell.work("SHIP", shell.command(waits_for(gate)))
    until(lambda: arrived(gate), what="the command to start")
    claim = {"worker": "00000000-0000-7000-8000-000000000000", "lease": 30, "kinds": '{"SHIP": 1}'}
    url = logins.url("worker")
    assert statements.run(psql, url, "claim_by_id", job=job, **claim) == []
    assert statements.run(psql, url, "claim_due", slots=5, overdue=0, **claim) == []
    (state,) = statements.run(psql, url, "read_state", job=job)
    assert (state["state"], state["attempt"], state["leased_by"]) == ("running", "1", holder.worker)
    gate.touch()
    look.becomes(job, "succeeded")


def test_lease_is_renewed_while_the_command_runs(shell: Shell, look: Looker, gate: Path) -> None:
    """Signs of life move the lease ahead for as long as the command takes."""
    job = shell.produce("SHIP")
    shell.work("SHIP", shell.command(waits_for(gate)), JOB_LEASE_SECONDS=3)
    first = look.becomes(job, "running")["lease_until"]
    until(lambda: look.job(job)["lease_until"] > first, what="a sign of life")
    gate.touch()
    assert look.becomes(job, "succeeded")["attempt"] == 1


async def test_frozen_worker_is_refused(shell: Shell, look: Looker, database: Database, gate: Path) -> None:
    """A worker that was frozen until its lease was over and another had the job commits nothing of what it did."""
    command = shell.command(f"{waits_for(gate)}\n{EFFECT}")
    job = shell.produce("SHIP")
    stale = shell.work("SHIP", command)
    until(lambda: arrived(gate), what="the first command to start")
    stale.freeze()
    await expire_and_sweep(database, job)
    fresh = shell.work("SHIP", command)
    until(lambda: arrived(gate, attempt=2), what="the second command to start")
    opened(gate)
    look.becomes(job, "succeeded")
    assert stale.worker != fresh.worker
    stale.thaw()
    until(lambda: "refused, the lease was lost" in stale.log, what="the completion to be refused")
    assert [row["attempt"] for row in look.rows("select attempt from effects")] == [2]
    row = look.job(job)
    assert (row["attempt"], str(row["leased_by"]), [e["reason"] for e in row["errors"]]) == (
        2, fresh.worker, ["lease-expired"],
    )  # fmt: skip


async def test_lost_lease_stops_the_command(shell: Shell, look: Looker, database: Database, gate: Path) -> None:
    """A worker that learns that its lease is lost stops the command, with all that it has started, and writes nothing."""
    command = shell.command(f"echo $$ > {gate}.pid\n{waits_for(gate)}")
    job = shell.produce("SHIP")
    worker = shell.work("SHIP", command, JOB_LEASE_SECONDS=3)
    until(lambda: arrived(gate), what="the command to start")
    pid = pid_at(gate)
    worker.freeze()
    await expire_and_sweep(database, job)
    look.run("update outboxkit.jobs set run_at = now() + interval '1 hour' where id = %s", job)
    worker.thaw()
    until(lambda: "the lease was lost: somebody else has the job" in worker.log, what="the worker to notice")
    until(lambda: _is_gone(pid), what="the command to end")
    assert look.job(job)["state"] == "queued"


def test_failed_attempt_is_tried_again(shell: Shell, look: Looker) -> None:
    """A command that fails is run again; what it said is kept, whatever bytes there were; its SQL is not run."""
    job = shell.produce("SHIP")
    failing = f"{EFFECT}\nif [ $JOB_ATTEMPT = 1 ]; then printf 'no \\377\\000 luck' >&2; exit 1; fi"
    shell.work("SHIP", shell.command(failing))
    (failure,) = look.becomes(job, "succeeded")["errors"]
    assert (failure["attempt"], failure["reason"], failure["error"]) == (1, "handler-error", "no  luck")
    assert [row["attempt"] for row in look.rows("select attempt from effects")] == [2]


def test_sql_that_fails_is_a_failed_attempt(shell: Shell, look: Looker) -> None:
    """What the command prints is rolled back as a whole when it cannot be run, and the attempt is one that failed."""
    job = shell.produce("-n", "1", "SHIP")
    shell.work("SHIP", shell.command(f"{EFFECT}\necho 'select 1/0;'"))
    (failure,) = look.becomes(job, "failed")["errors"]
    assert failure["reason"] == "completion-failed"
    assert "division by zero" in failure["error"]
    assert look.count("effects") == 0


def test_command_that_hangs_is_stopped(shell: Shell, look: Looker, gate: Path) -> None:
    """However long its signs of life would go on, a command has a limit; beyond it, the attempt has failed."""
    job = shell.produce("-n", "1", "SHIP")
    shell.work("SHIP", shell.command(waits_for(gate)), JOB_TIMEOUT_SECONDS=1)
    (failure,) = look.becomes(job, "failed")["errors"]
    assert failure["reason"] == "timeout"


def test_retry_waits(shell: Shell, look: Looker) -> None:
    """With a backoff the next attempt is due later, and its trigger with it."""
    job = shell.produce("SHIP")
    shell.work("SHIP", shell.command("exit 1"), JOB_BACKOFF_SECONDS=300)
    until(lambda: look.job(job)["errors"], what="the failure to be recorded")
    (trigger,) = look.rows("select due_at, created_at from outboxkit.outbox where job_id = %s", job)
    row = look.job(job)
    assert (row["state"], row["run_at"]) == ("queued", trigger["due_at"])
    assert 0 <= (row["run_at"] - trigger["created_at"]).total_seconds() <= 300


@pytest.mark.parametrize(("status", "attempts", "reason"), [(65, 1, "handler-failed"), (1, 2, "handler-error")])
def test_dead_letter_is_seen_and_replayed(
    shell: Shell, look: Looker, logins: Logins, psql: Path, gate: Path, status: int, attempts: int, reason: str
) -> None:
    """A job that gives up, at once or at its last attempt, has a letter; a replay runs it again, and only once."""
    job = shell.produce("-n", "2", "SHIP")
    shell.work("SHIP", shell.command(f'[ -e "{gate}" ] || {{ echo boom >&2; exit {status}; }}'))
    look.becomes(job, "failed")
    (letter,) = look.rows("select * from outboxkit.dead_letters")
    told = (str(letter["job_id"]), letter["stage"], letter["reason"], letter["attempts"], letter["last_error"])
    assert told == (job, "job", reason, attempts, "boom")
    gate.touch()
    replay = {"letter": letter["id"], "actor": "me", "attempts": 3}
    assert statements.run(psql, logins.url("worker"), "replay", **replay) == [{"id": job}]
    assert statements.run(psql, logins.url("worker"), "replay", **replay) == []
    assert look.becomes(job, "succeeded")["attempt"] == attempts + 1
    assert look.rows("select replayed_by from outboxkit.dead_letters") == [{"replayed_by": "me"}]


def test_queued_job_is_cancelled(shell: Shell, look: Looker, logins: Logins, psql: Path) -> None:
    """The web role cancels a queued job, whose triggers go; whoever comes later is told."""
    job = shell.produce("SHIP")
    assert statements.run(psql, logins.url("web"), "cancel", job=job) == [{"state": "cancelled", "asked": "t"}]
    assert statements.run(psql, logins.url("web"), "cancel", job=job) == [{"state": "cancelled", "asked": "f"}]
    assert look.count("outboxkit.outbox") == 0
    claim = {"worker": "00000000-0000-7000-8000-000000000000", "lease": 30, "kinds": '{"SHIP": 1}'}
    assert statements.run(psql, logins.url("worker"), "claim_by_id", job=job, **claim) == []


def test_running_job_is_cancelled(shell: Shell, look: Looker, logins: Logins, psql: Path, gate: Path) -> None:
    """A running job's command is stopped at the next sign of life, and the job ends as cancelled, without a letter."""
    job = shell.produce("SHIP")
    shell.work("SHIP", shell.command(f"{waits_for(gate)}\n{EFFECT}"), JOB_LEASE_SECONDS=3)
    until(lambda: arrived(gate), what="the command to start")
    assert statements.run(psql, logins.url("web"), "cancel", job=job) == [{"state": "running", "asked": "t"}]
    look.becomes(job, "cancelled")
    assert (look.count("effects"), look.count("outboxkit.dead_letters"), look.count("outboxkit.outbox")) == (0, 0, 0)


def test_unique_key_is_one_job(shell: Shell, look: Looker) -> None:
    """However many producers enqueue one key at once, there is one job, whose id all get; another kind's key is its own."""
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda n: shell.produce("-k", "today", "SHIP", f'{{"n": {n}}}'), range(8)))
    assert (len(ids), look.count("outboxkit.jobs"), look.count("outboxkit.outbox")) == (1, 1, 1)
    assert shell.produce("-k", "today", "BILL") not in ids


def test_future_job_waits(shell: Shell, look: Looker, logins: Logins, psql: Path) -> None:
    """A job is not claimed before its time, by its id or by a poller; its state says how long it takes."""
    job = shell.produce("-t", "2100-01-01 00:00Z", "SHIP")
    claim = {"worker": "00000000-0000-7000-8000-000000000000", "lease": 30, "kinds": '{"SHIP": 1}'}
    url = logins.url("worker")
    assert statements.run(psql, url, "claim_by_id", job=job, **claim) == []
    assert statements.run(psql, url, "claim_due", slots=5, overdue=0, **claim) == []
    (state,) = statements.run(psql, url, "read_state", job=job)
    assert float(state["due_in"]) > 3600
    look.run("update outboxkit.jobs set run_at = now() where id = %s", job)
    shell.work("SHIP", shell.command("true"))
    look.becomes(job, "succeeded")


def test_sigterm_gives_the_job_back(shell: Shell, look: Looker, gate: Path) -> None:
    """A worker that is told to end stops its command, gives the job back unharmed, and exits with 0."""
    job = shell.produce("SHIP")
    worker = shell.work("SHIP", shell.command(f"echo $$ > {gate}.pid\n{waits_for(gate)}"))
    until(lambda: arrived(gate), what="the command to start")
    assert worker.terminate() == 0
    assert _is_gone(pid_at(gate))
    row = look.job(job)
    assert (row["state"], row["attempt"], row["max_attempts"], row["errors"]) == ("queued", 1, 6, [])
    assert look.count("outboxkit.outbox") == 1
    gate.touch()
    shell.work("SHIP", shell.command("true"))
    assert look.becomes(job, "succeeded")["attempt"] == 2


def test_sigterm_ends_an_idle_worker(shell: Shell) -> None:
    """A worker without work ends at once, also when it polls seldom."""
    worker = shell.work("SHIP", shell.command("true"), WORKER_POLL_SECONDS=600)
    assert worker.worker
    assert worker.terminate() == 0


def test_deaf_command_is_killed(shell: Shell, look: Looker, gate: Path) -> None:
    """A command that does not hear SIGTERM is killed, and its job given back."""
    job = shell.produce("SHIP")
    worker = shell.work("SHIP", shell.command(f"trap '' TERM\n{waits_for(gate)}"))
    until(lambda: arrived(gate), what="the command to start")
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(30) == 0
    assert look.job(job)["state"] == "queued"


def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or ended(psutil.Process(pid))
