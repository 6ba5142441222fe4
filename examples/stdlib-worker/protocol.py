"""The worker protocol, openapi/process-job.yaml, one method for each step: what to answer, and when."""

from __future__ import annotations

import hmac
import json
import logging
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any, NoReturn

from database import DatabaseError
from http1 import BadRequest, Request, Response
from jobs import UNRECORDED, Jobs, Outcome, Place, Run

TRIGGER_BYTES = 64 * 1024
EARLY_SECONDS = 2.0
WAIT_MAX_SECONDS = 600
TRIES = 3
"""Claims of a job that is queued and due before the worker says that it is busy."""
REVISION = "outboxkit_0001"
"""The revision of the tables that the statements need; a later one will do too."""
NO_TABLES = ("42P01", "3F000")
"""SQLSTATEs: no such table, no such schema."""

TITLES = {
    "malformed-request": (400, "The request cannot be understood"),
    "malformed-http": (400, "The request is not proper HTTP"),
    "forbidden": (403, "These credentials do not allow this"),
    "unknown-job": (404, "There is no job with this id"),
    "not-found": (404, "There is nothing at this address"),
    "method-not-allowed": (405, "This address does not answer this method"),
    "request-timeout": (408, "The request did not arrive in time"),
    "not-due": (409, "The job is not due yet"),
    "payload-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body's media type is not supported"),
    "unknown-kind": (422, "This worker has no handler for the job's kind"),
    "worker-full": (429, "The worker is full"),
    "headers-too-large": (431, "The header lines are too large"),
    "internal-error": (500, "The outcome was not recorded"),
    "draining": (503, "The process is shutting down"),
    "no-database": (503, "The database cannot be reached"),
    "busy": (503, "The job could not be claimed just now"),
}
_READING = ("GET", "HEAD", "OPTIONS")
METHODS = {"/process-job": ("OPTIONS", "POST"), "/": _READING, "/health": _READING, "/health/ready": _READING}

_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_WAIT = re.compile(r'(?:^|,)[ \t]*wait[ \t]*=[ \t]*"?([0-9]+)"?[ \t]*(?=[,;]|$)', re.IGNORECASE)

log = logging.getLogger(__name__)


class Problem(Exception):  # noqa: N818 (it is one, as RFC 9457 calls it)
    """The answer is this problem document; `members` are the document's own beside the five of the RFC."""

    def __init__(self, slug: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.headers = headers or {}
        self.members = members


class Protocol:
    """Answers requests. Every step is a method, so that a subclass can do one of them differently."""

    def __init__(self, jobs: Jobs, *, secrets: tuple[str, ...], mode: str, has_database: bool) -> None:
        """Without secrets everybody is let in. `mode`: this process's own, for readiness when no relay is alive."""
        self.jobs = jobs
        self.secrets = secrets
        self.mode = mode
        self.has_database = has_database
        self.started = monotonic()

    def answer(self, request: Request) -> Response:
        """One request; never raises anything but BadRequest."""
        try:
            return self.route(request)
        except Problem as error:
            problem = error
        except DatabaseError as error:
            log.warning("a trigger found no database: %s", error)
            problem = Problem("no-database", "The job could not be looked up; the log has the details.", retryAfter=5)
        except (BadRequest, OSError):
            raise
        except Exception:
            log.exception("a request failed")
            problem = Problem("internal-error", "An unexpected error; the log has the details.")
        return self.answer_problem(problem, request.path)

    def refuse(self, error: BadRequest) -> Response:
        """The answer to what cannot be read."""
        return self.answer_problem(Problem(error.slug, error.detail))

    def route(self, request: Request) -> Response:
        """Find out who answers."""
        methods = METHODS.get(request.path)
        if methods is None:
            raise Problem("not-found", f"There is nothing at {request.path}; triggers go to POST /process-job.")
        allow = {"Allow": ", ".join(methods)}
        if request.method not in methods:
            raise Problem("method-not-allowed", f"{request.path} answers {allow['Allow']}.", headers=allow)
        if request.method == "OPTIONS":
            return Response(204, headers=allow)
        if request.path == "/process-job":
            return self.process_job(request)
        return self.ready() if request.path == "/health/ready" else self.health()

    def process_job(self, request: Request) -> Response:
        """Credentials, media type, size, body, shutdown; then the job."""
        self.authorize(request)
        self.check_media_type(request)
        job = self.parse(request.read_body(TRIGGER_BYTES))
        if self.jobs.draining:
            raise Problem("draining", "This worker is shutting down and takes no new jobs.", retryAfter=5)
        if not self.has_database:
            raise Problem("no-database", "This worker has no database: set DATABASE_URL.", retryAfter=5)
        found = self.claim(job)
        if isinstance(found, Response):
            return found
        wait = self.parse_wait(request)
        return self.answer_claimed(found) if wait is None else self.answer_after(found, wait)

    def authorize(self, request: Request) -> None:
        """The header x-worker-trigger holds a secret: compared in constant time, and with every one that is valid."""
        given = request.headers.get("x-worker-trigger", "").encode("latin-1")
        matches = [hmac.compare_digest(given, secret.encode()) for secret in self.secrets]
        if matches and not any(matches):
            raise Problem("forbidden", "The header x-worker-trigger does not hold this worker's WORKER_TRIGGER_SECRET.")

    def check_media_type(self, request: Request) -> None:
        """Nothing but JSON."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem("unsupported-media-type", "Send the body with the header Content-Type: application/json.")

    def parse(self, body: bytes) -> str:
        """The job's id. Members that nobody knows are ignored, and so is what numbers there are."""
        try:
            trigger = json.loads(body.decode(), parse_int=_zero, parse_float=_zero, parse_constant=_refuse_constant)
            json.dumps(trigger, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
        except (ValueError, RecursionError) as error:
            raise Problem("malformed-request", f"The body is not JSON in UTF-8: {error}") from None
        job = trigger.get("jobId") if isinstance(trigger, dict) else None
        if not isinstance(job, str) or not _UUID.fullmatch(job):
            raise Problem("malformed-request", 'The body must be {"jobId": "<uuid>"}: a job that stands in Postgres.')
        kind = trigger.get("type", "")
        if not isinstance(kind, str) or "\0" in kind:
            raise Problem("malformed-request", "`type` must be text without NUL; it may also be left out.")
        return job.lower()

    def parse_wait(self, request: Request) -> int | None:
        """Seconds of `Prefer: wait=N`, as many as this worker waits at most; None: it was not asked to."""
        match = _WAIT.search(request.headers.get("prefer", ""))
        return None if match is None else min(WAIT_MAX_SECONDS, int(match[1][:9]))

    def claim(self, job: str) -> Run | Response:
        """The run that this trigger started; or the answer, when the job was not to be had."""
        for _ in range(TRIES):
            place = self.jobs.reserve(job)
            if place is Place.AT_WORK:
                return self.answer_state(job, self.jobs.state(job)) or self.answer_busy(job)
            if place is Place.FULL:
                self.answer_full(job)
            run = self.jobs.claim(job)
            if run is not None:
                return run
            # Read afresh: † a job that is queued and due is claimed again, and never acknowledged.
            response = self.answer_state(job, self.jobs.state(job))
            if response is not None:
                return response
        return self.answer_busy(job)

    def answer_state(self, job: str, state: dict[str, str] | None) -> Response | None:
        """The answer to a trigger that got no lease; None: the job is queued and due, and must be claimed again."""
        if state is None:
            raise Problem("unknown-job", f"This worker's database holds no job {job}.", jobId=job)
        if state["state"] == "running":
            return self.answer_accepted(job, "running", "The job is already running.", duplicate=True)
        if state["state"] != "queued":
            return self.answer_accepted(job, state["state"], "The job is already settled.", duplicate=True)
        if float(state["due_in"]) > EARLY_SECONDS:
            wait = math.ceil(float(state["due_in"]))
            raise Problem("not-due", f"The job is due in {wait} s.", jobId=job, state="queued", retryAfter=wait)
        if state["kind"] not in self.jobs.handlers:
            known = ", ".join(self.jobs.handlers)
            detail = f"No handler is registered for {state['kind']}; this worker knows {known}."
            raise Problem("unknown-kind", detail, jobId=job, kind=state["kind"])
        return None

    def answer_claimed(self, run: Run) -> Response:
        """202: the job is running here, because of this trigger."""
        return self.answer_accepted(run.job, "running", "Claimed.", duplicate=False)

    def answer_after(self, run: Run, seconds: int) -> Response:
        """200 when the job is settled, 202 after so many seconds, and at once when the worker is to shut down."""
        outcome = self.jobs.wait(run, seconds)
        response = self.answer_claimed(run) if outcome is None else self.answer_outcome(run, outcome)
        return replace(response, headers={**response.headers, "Preference-Applied": f"wait={seconds}"})

    def answer_outcome(self, run: Run, outcome: Outcome) -> Response:
        """The answer when the attempt is over."""
        if outcome.state is not None:
            return self.answer_accepted(run.job, outcome.state, outcome.message, duplicate=False)
        if outcome is UNRECORDED:
            raise Problem("internal-error", outcome.message)
        return self.answer_state(run.job, self.jobs.state(run.job)) or self.answer_busy(run.job)

    def answer_accepted(self, job: str, state: str, message: str, *, duplicate: bool) -> Response:
        """200 when the job is settled (or its retry recorded), 202 while it is running."""
        answer = {"jobId": job, "accepted": True, "state": state, "duplicate": duplicate, "message": message}
        return Response(202 if state == "running" else 200, _json(answer))

    def answer_full(self, job: str) -> NoReturn:
        """429: no slot is free."""
        detail = f"All {self.jobs.concurrency} slots are taken (WORKER_CONCURRENCY)."
        raise Problem("worker-full", detail, jobId=job, retryAfter=1)

    def answer_busy(self, job: str) -> NoReturn:
        """503: the job is queued and due, and could not be claimed all the same."""
        raise Problem("busy", "The job could not be claimed just now.", jobId=job, state="queued", retryAfter=1)

    def answer_problem(self, problem: Problem, path: str | None = None) -> Response:
        """The problem document; its retryAfter goes into the header too."""
        status, title = TITLES[problem.slug]
        document = {
            "type": f"urn:outboxkit:problem:{problem.slug}",
            "title": title,
            "status": status,
            "detail": problem.detail,
            **({} if path is None else {"instance": path}),
            **problem.members,
        }
        headers = dict(problem.headers)
        if "retryAfter" in problem.members:
            headers["Retry-After"] = str(problem.members["retryAfter"])
        return Response(status, _json(document), "application/problem+json", headers)

    def health(self) -> Response:
        """Alive; says nothing about the database."""
        uptime = round(monotonic() - self.started, 3)
        now = datetime.now(UTC).isoformat()
        return Response(200, _json({"status": "ok", "service": "worker", "uptime": uptime, "timestamp": now}))

    def ready(self) -> Response:
        """Whether the worker can take work, and in words why not."""
        problems: list[str] = []
        document = {
            "status": "ready",
            "service": "worker",
            "database": "down",
            "migrations": "unknown",
            "mode": self.mode,
            "modeConfigured": True,
            "authentication": "secret" if self.secrets else "none",
            "problems": problems,
        }
        if not self.has_database:
            problems.append("This worker has no database: set DATABASE_URL.")
        else:
            document |= self._look_at_the_tables(problems)
        if self.jobs.draining:
            problems.append("The worker is shutting down.")
        if problems:
            document["status"] = "not-ready"
        return Response(503 if problems else 200, _json(document))

    def _look_at_the_tables(self, problems: list[str]) -> dict[str, Any]:
        try:
            row = self.jobs.database.run("readiness")[0]
        except DatabaseError as error:
            if error.sqlstate in NO_TABLES:
                problems.append("The database holds no tables of the kit: run `outboxkit migrate`.")
                return {"database": "up", "migrations": "behind"}
            # Its first line names host and port, never a password.
            problems.append(f"The database cannot be reached: {str(error).splitlines()[0]}")
            return {}
        if row["revision"] < REVISION:
            problems.append(
                f"The tables are at revision {row['revision'] or 'none'}, not {REVISION}: run `outboxkit migrate`."
            )
        return {
            "database": "up",
            "migrations": "behind" if row["revision"] < REVISION else "current",
            "mode": (row["effective_mode"] if row["fresh"] == "t" else "") or row["mode_override"] or self.mode,
            "modeConfigured": row["fresh"] != "t" or row["problems"] == "[]",
        }


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


def _zero(_: str) -> int:
    return 0


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
