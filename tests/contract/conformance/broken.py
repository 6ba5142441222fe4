"""Workers that break the protocol, each in one way: `python broken.py NAME`, with examples/stdlib-worker on the path.

Each is the correct worker of that folder with one step done differently. A program of its own, because the example's modules
have everyday names. `caught.py` says which check of the suite must notice each.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from threading import Timer
from typing import Any

import http1
import worker as correct
from http1 import BadRequest, Request, Response
from jobs import Jobs, Outcome, Place, Run
from protocol import Problem, Protocol

WORKERS: dict[str, type[correct.Worker]] = {}


def execute(statement: str, job: str) -> None:
    """Do in the database what no statement of the example does."""
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", f"job={job}", "-d", os.environ["DATABASE_URL"]]
    subprocess.run(command, input=statement.encode(), check=True)


def broken(name: str) -> Any:
    """Register a worker with this protocol, or these jobs."""

    def register(part: type[Any]) -> type[Any]:
        slot = "protocol_class" if issubclass(part, Protocol) else "jobs_class"
        WORKERS[name] = type(part.__name__, (correct.Worker,), {slot: part})
        return part

    return register


@broken("answers before it claims")
class AnswersBeforeItClaims(Protocol):
    """If it dies now, the trigger is acknowledged and the job still queued."""

    def process_job(self, request: Request) -> Response:
        """Acknowledge a job that is there, and claim it a little later."""
        if "prefer" in request.headers:
            return super().process_job(request)
        self.authorize(request)
        self.check_media_type(request)
        job = self.parse(request.read_body(64 * 1024))
        response = self.answer_state(job, self.jobs.state(job))
        if response is None:
            Timer(0.5, self.claim, [job]).start()
            response = self.answer_accepted(job, "running", "Claimed.", duplicate=False)
        return response


@broken("leaves the trigger in the outbox")
class LeavesTheTrigger(Jobs):
    """Every job is sent again, for nothing."""

    def claim_row(self, job: str) -> list[dict[str, str]]:
        """Claim the job, and put its trigger back."""
        rows = super().claim_row(job)
        if rows:
            execute(
                "insert into outboxkit.outbox (job_id, queue, kind, due_at, created_at)"
                " select id, queue, kind, clock_timestamp() + interval '1 hour', clock_timestamp() from outboxkit.jobs"
                " where id = :'job'",
                job,
            )
        return rows


@broken("runs duplicates again")
class RunsDuplicatesAgain(Protocol):
    """A trigger that comes twice runs the job twice."""

    def answer_state(self, job: str, state: dict[str, str] | None) -> Response | None:
        """Put a settled job back into the queue."""
        if state is not None and state["state"] == "succeeded":
            execute(
                "update outboxkit.jobs set state = 'queued', finished_at = null, lease_until = null, leased_by = null,"
                " max_attempts = 100 where id = :'job'",
                job,
            )
            return None
        return super().answer_state(job, state)


@broken("calls duplicates its own")
class CallsDuplicatesItsOwn(Protocol):
    """`duplicate` is always false."""

    def answer_accepted(self, job: str, state: str, message: str, *, duplicate: bool) -> Response:  # noqa: ARG002
        """Deny it."""
        return super().answer_accepted(job, state, message, duplicate=False)


@broken("settles without a fence")
class SettlesWithoutAFence(Jobs):
    """Whoever comes last wins."""

    def _token(self, run: Run) -> dict[str, str]:
        state = self.state(run.job)
        assert state is not None
        return {"job": run.job, "attempt": state["attempt"], "worker": state["leased_by"]}

    def heartbeat(self, run: Run) -> None:
        """Show none."""


@broken("says done before it is")
class SaysDoneBeforeItIs(Protocol):
    """With Prefer: wait, it does not wait."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # What still runs when this worker says it is done must not fill it: 429 is another fault.
        self.jobs.concurrency = 64
        settle = self.jobs.settle

        def late(run: Run) -> Outcome:
            time.sleep(0.5)  # so that even a quick job is never done when this worker says so
            return settle(run)

        self.jobs.settle = late  # type: ignore[method-assign]

    def answer_after(self, run: Run, seconds: int) -> Response:
        """Claim success."""
        response = self.answer_outcome(run, Outcome("succeeded", "Done."))
        return replace(response, headers={"Preference-Applied": f"wait={seconds}"})


@broken("always waits")
class AlwaysWaits(Protocol):
    """Without Prefer the answer comes when the job is done."""

    def answer_claimed(self, run: Run) -> Response:
        """Wait for it."""
        outcome = self.jobs.wait(run, 60)
        assert outcome is not None
        return self.answer_outcome(run, outcome)


@broken("waits longer than it was asked to")
class WaitsTooLong(Protocol):
    """Prefer: wait=1 waits for ten."""

    def parse_wait(self, request: Request) -> int | None:
        """Ten times as long."""
        wait = super().parse_wait(request)
        return None if wait is None else wait * 10


@broken("answers 500 when a handler fails")
class AnswersFailuresWith500(Protocol):
    """Two layers of retries get into each other's way."""

    def answer_outcome(self, run: Run, outcome: Outcome) -> Response:
        """Report the handler's failure as the worker's."""
        if outcome.state != "succeeded":
            raise Problem("internal-error", outcome.message)
        return super().answer_outcome(run, outcome)


@broken("acknowledges jobs that are not due")
class AcknowledgesEarly(Protocol):
    """The trigger is gone when the job is due."""

    def answer_state(self, job: str, state: dict[str, str] | None) -> Response | None:
        """Say thank you."""
        try:
            return super().answer_state(job, state)
        except Problem as problem:
            if problem.slug == "not-due":
                return self.answer_accepted(job, "queued", "Later.", duplicate=False)
            raise


@broken("sends no Retry-After")
class SendsNoRetryAfter(Protocol):
    """The relay does not know when."""

    def answer_problem(self, problem: Problem, path: str | None = None) -> Response:
        """Leave the header out."""
        response = super().answer_problem(problem, path)
        return replace(response, headers={k: v for k, v in response.headers.items() if k != "Retry-After"})


@broken("calls unknown kinds malformed")
class CallsUnknownKindsMalformed(Protocol):
    """A deploy that is under way sends the backlog to the dead letters."""

    def answer_state(self, job: str, state: dict[str, str] | None) -> Response | None:
        """400 in place of 422."""
        try:
            return super().answer_state(job, state)
        except Problem as problem:
            if problem.slug == "unknown-kind":
                raise Problem("malformed-request", problem.detail) from None
            raise


@broken("acknowledges jobs that do not exist")
class AcknowledgesUnknownJobs(Protocol):
    """A worker on the wrong database swallows everything."""

    def answer_state(self, job: str, state: dict[str, str] | None) -> Response | None:
        """Never mind."""
        if state is None:
            return self.answer_accepted(job, "succeeded", "Done.", duplicate=True)
        return super().answer_state(job, state)


@broken("answers about another job")
class AnswersAboutAnotherJob(Protocol):
    """A cache in between, say."""

    def answer_accepted(self, job: str, state: str, message: str, *, duplicate: bool) -> Response:  # noqa: ARG002
        """Always the same id."""
        other = "00000000-0000-4000-8000-000000000000"
        return super().answer_accepted(other, state, message, duplicate=duplicate)


@broken("takes more than it has slots for")
class TakesMoreThanItHas(Jobs):
    """No 429: jobs are claimed and then wait."""

    def reserve(self, job: str) -> Place:
        """There is always room for one more."""
        self.concurrency = 10_000
        return super().reserve(job)


@broken("leaks 500")
class Leaks500(Protocol):
    """What cannot be read is an accident."""

    def parse(self, body: bytes) -> str:
        """Trust the client."""
        return str(json.loads(body)["jobId"]).lower()


@broken("shows stack traces")
class ShowsStackTraces(Protocol):
    """Helpful, to everybody."""

    def answer_problem(self, problem: Problem, path: str | None = None) -> Response:
        """Show where it happened."""
        problem.detail += "\n" + "".join(traceback.format_exception(problem))
        return super().answer_problem(problem, path)


@broken("ignores the secret")
class IgnoresTheSecret(Protocol):
    """Open to everybody."""

    def authorize(self, request: Request) -> None:
        """Let everybody in."""


@broken("compares the beginning of the secret")
class ComparesTheBeginning(Protocol):
    """As strncmp does with a wrong length."""

    def authorize(self, request: Request) -> None:
        """Whatever begins like it will do."""
        if not request.headers.get("x-worker-trigger", "").startswith(self.secrets[0]):
            raise Problem("forbidden", "The secret is wrong.")


@broken("tells the secret")
class TellsTheSecret(Protocol):
    """For easier debugging."""

    def authorize(self, request: Request) -> None:
        """Say what was expected."""
        try:
            super().authorize(request)
        except Problem:
            raise Problem("forbidden", f"x-worker-trigger is to be {self.secrets[0]}.") from None


@broken("looks at the body first")
class LooksAtTheBodyFirst(Protocol):
    """A stranger learns what a trigger looks like."""

    def process_job(self, request: Request) -> Response:
        """Parse, then authorize."""
        body = request.read_body(64 * 1024)
        self.parse(body)
        return super().process_job(replace(request, read_body=lambda _: body))


@broken("takes any media type")
class TakesAnyMediaType(Protocol):
    """A browser's form can trigger jobs across sites."""

    def check_media_type(self, request: Request) -> None:
        """Whatever."""


@broken("is strict about the media type's spelling")
class IsStrictAboutSpelling(Protocol):
    """application/json; charset=utf-8 is refused."""

    def check_media_type(self, request: Request) -> None:
        """To the letter."""
        if request.headers.get("content-type") != "application/json":
            raise Problem("unsupported-media-type", "Send application/json.")


@broken("reads bodies of any size")
class ReadsAnySize(Protocol):
    """Until the memory is full."""

    def process_job(self, request: Request) -> Response:
        """A megabyte will do."""
        return super().process_job(replace(request, read_body=lambda _: request.read_body(1 << 20)))


@broken("refuses unknown members")
class RefusesUnknownMembers(Protocol):
    """A relay that is released first is refused."""

    def parse(self, body: bytes) -> str:
        """Nothing but what it knows."""
        job = super().parse(body)
        if set(json.loads(body)) - {"jobId", "type"}:
            raise Problem("malformed-request", "What is this?")
        return job


@broken("reports errors as plain JSON")
class ReportsPlainJson(Protocol):
    """application/json in place of application/problem+json."""

    def answer_problem(self, problem: Problem, path: str | None = None) -> Response:
        """Another media type."""
        return replace(super().answer_problem(problem, path), media_type="application/json")


@broken("answers in HTML")
class AnswersInHtml(Protocol):
    """The right JSON under the wrong name."""

    def answer_accepted(self, job: str, state: str, message: str, *, duplicate: bool) -> Response:
        """Another media type."""
        return replace(super().answer_accepted(job, state, message, duplicate=duplicate), media_type="text/html")


@broken("sends no Allow")
class SendsNoAllow(Protocol):
    """405, and no word of what is allowed."""

    def answer_problem(self, problem: Problem, path: str | None = None) -> Response:
        """Leave the header out."""
        return replace(super().answer_problem(problem, path), headers={})


@broken("calls wrong paths unknown jobs")
class CallsWrongPathsUnknownJobs(Protocol):
    """A wrong URL sends the backlog to the dead letters."""

    def answer_problem(self, problem: Problem, path: str | None = None) -> Response:
        """404 is 404."""
        if problem.slug == "not-found":
            problem.slug = "unknown-job"
        return super().answer_problem(problem, path)


@broken("says nothing about its secret")
class SaysNothingAboutItsSecret(Protocol):
    """Readiness says `none`, and there is one."""

    def ready(self) -> Response:
        """Leave it out."""
        response = super().ready()
        return replace(response, body=response.body.replace(b'"authentication": "secret"', b'"authentication": "none"'))


@broken("has another health document")
class HasAnotherHealthDocument(Protocol):
    """{"ok": true}."""

    def health(self) -> Response:
        """Short."""
        return Response(200, b'{"ok": true}')


class ChunksWin(http1.Body):
    """A body with two lengths is read in chunks."""

    def __init__(self, source: Any, headers: dict[str, str], **rest: Any) -> None:
        if "transfer-encoding" in headers:
            headers = {name: value for name, value in headers.items() if name != "content-length"}
        super().__init__(source, headers, **rest)


@broken("takes two lengths")
class TakesTwoLengths(Protocol):
    """Requests can be smuggled past a proxy."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        http1.Body = ChunksWin  # type: ignore[misc]


@broken("reads headers of any size")
class ReadsAnyHeaders(Protocol):
    """Until the memory is full."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        http1.HEADER_BYTES = 1 << 24


@broken("hangs on a client that stops")
class HangsOnAClient(Protocol):
    """One half request, and the worker is at its end: the server has but one thread."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        http1.Server.process_request = http1.socketserver.TCPServer.process_request  # type: ignore[method-assign]
        http1.IDLE_SECONDS = 0.05  # so that a kept connection keeps nobody waiting


@broken("closes on chunks")
class ClosesOnChunks(Protocol):
    """Clients that stream their body are refused."""

    def process_job(self, request: Request) -> Response:
        """No, thank you."""
        if "transfer-encoding" in request.headers:
            raise BadRequest("malformed-http", "No chunks here.")
        return super().process_job(request)


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print(*WORKERS, sep="\n")  # noqa: T201 (its answer)
    else:
        correct.main(WORKERS[sys.argv[1]])
