"""A worker's address whose answers come from the document, and which holds every request against the document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

from contract.counting import count
from contract.relay.cases import CONTRACT
from outboxkit_contracts.validation import PROCESS_JOB
from sink import Reply, Request, Sink, accepted

ONCE = ("host", "content-type", "content-length", "x-worker-trigger")
"""Header lines of which there is exactly one."""
ALLOWED = {*ONCE, "accept", "accept-encoding", "user-agent", "traceparent", "prefer"}
TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Provider(Sink):
    """Answers each job as `answers` has it, else as `otherwise` does: it accepts, to begin with.

    `flaws` has what was wrong with any request, in words.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.answers: dict[UUID, Callable[[Request], Reply | Awaitable[Reply]]] = {}
        self.otherwise: Callable[[Request], Reply | Awaitable[Reply]] = accepted
        self.traces: dict[UUID, str] = {}
        self.secrets = {"test-secret"}
        self.flaws: list[str] = []

    def forget(self) -> None:
        """Begin anew; nothing that was wrong is forgotten."""
        self.answers.clear()
        self.traces.clear()
        self.requests.clear()

    def _answer(self, request: Request) -> Reply | Awaitable[Reply]:
        count("relay: requests, each held against the document")
        self.flaws += [f"{flaw}, in {request}" for flaw in self._flaws(request)]
        if request.path != PROCESS_JOB:
            return Reply(404)
        return self.answers.get(request.job_id, self.otherwise)(request)

    def _flaws(self, request: Request) -> Iterator[str]:
        yield from CONTRACT.flaws_of_trigger(request.lines, request.body)
        if (request.method, request.path) != ("POST", PROCESS_JOB):
            yield f"{request.method} {request.path}: a redirect was followed"
            return
        names = [name for name, _ in request.lines]
        yield from (f"{names.count(name)} headers {name}" for name in ONCE if names.count(name) != 1)
        yield from (f"a header {name}" for name in set(names) - ALLOWED)
        headers = request.headers
        if headers["x-worker-trigger"] not in self.secrets:
            yield "another secret"
        if headers["content-type"] != "application/json" or headers["host"] != self.url.split("/")[2]:
            yield "another content type, or another host"
        if headers.get("traceparent") != self.traces.get(request.job_id):
            yield "not the trace that the job has"
        if "traceparent" in headers and not TRACEPARENT.fullmatch(headers["traceparent"]):
            yield "no trace"
