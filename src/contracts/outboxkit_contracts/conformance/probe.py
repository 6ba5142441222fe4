"""A check's hands: sends requests to the worker, and holds every answer against the document."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import httpx

from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.jobs import CannotMake, MakingFailed, Need
from outboxkit_contracts.conformance.outcomes import Failed, Skipped
from outboxkit_contracts.conformance.target import Target
from outboxkit_contracts.headers import WORKER_TRIGGER
from outboxkit_contracts.validation import PROCESS_JOB, Contract

JSON: Final = ("content-type", "application/json")

_STACK_TRACE: Final = re.compile(
    rb"Traceback \(most recent call last\)"
    rb"|\\n\s+at [\w.$<>]+ ?\("
    rb"|\\n\s*File \\?\".+\\?\", line \d+"
    rb"|goroutine \d+ \[running\]"
)


class Probe:
    """One check's connection to the worker. Remembers what was sent.

    Everything that sends returns an answer that conforms to the document, or raises `Failed`: an undocumented status, a
    missing header, a body that does not match its schema, an answer later than the deadline, one that holds the secret,
    or shows a stack trace.
    """

    def __init__(self, target: Target, contract: Contract) -> None:
        self.target = target
        self.exchanges: list[Exchange] = []
        self._contract = contract
        self._lock = threading.Lock()
        # trust_env: a proxy of this machine's is not between a relay and its worker.
        self._client = httpx.Client(timeout=target.deadline, follow_redirects=False, trust_env=False)

    def __enter__(self) -> Self:
        """The probe; its connections are closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    # What a check needs.

    def job(self, need: Need) -> UUID:
        """A new job of this sort. Raises `Skipped` when there is no way to one."""
        try:
            return self.target.jobs.make(need)
        except CannotMake as reason:
            raise Skipped(str(reason)) from None
        except MakingFailed as error:
            raise Failed(f"no {need} job: {error}") from None

    def secret(self) -> str:
        """The worker's secret. Raises `Skipped` when it checks none."""
        if self.target.secret is None:
            raise Skipped("needs --secret")
        return self.target.secret

    # What it sends.

    def trigger(self, job: UUID | str, *, wait: int | None = None, **members: Any) -> Exchange:
        """A trigger as a relay sends it; `wait` in seconds goes into Prefer, `members` into the body."""
        prefer = () if wait is None else (("prefer", f"wait={wait}"),)
        content = json.dumps({"jobId": str(job), **members}, separators=(",", ":")).encode()
        return self.post(content, prefer, patience=wait or 0)

    def post(
        self,
        content: bytes,
        headers: tuple[tuple[str, str], ...] = (),
        *,
        media_type: str | None = "application/json",
        secret: str | None = None,
        chunked: bool = False,
        patience: float = 0,
    ) -> Exchange:
        """A POST to /process-job. `secret` is sent in place of the right one; "" sends none.

        `media_type` None leaves the header out. `patience` in seconds is added to the deadline.
        """
        typed = () if media_type is None else (("content-type", media_type),)
        lines = (*self.credentials(secret), *typed, *headers)
        return self.request("POST", PROCESS_JOB, lines, content, chunked=chunked, patience=patience)

    def credentials(self, secret: str | None = None) -> tuple[tuple[str, str], ...]:
        """The header lines that let a request in; with `secret` in place of the right one, and none when it is empty."""
        value = self.target.secret if secret is None else secret
        return ((WORKER_TRIGGER, value),) if value else ()

    def get(self, path: str) -> Exchange:
        """A GET without credentials."""
        return self.request("GET", path)

    def request(
        self,
        method: str,
        path: str,
        headers: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
        *,
        chunked: bool = False,
        patience: float = 0,
    ) -> Exchange:
        """Any request, on a connection that is kept."""
        exchange = self.record(method, path, headers, content, chunked=chunked)
        started = monotonic()
        try:
            answer = self._client.send(self._built(exchange, self.target.deadline + patience))
        except httpx.TimeoutException:
            raise Failed(f"no answer within {self.target.deadline + patience:g} s", exchange) from None
        except httpx.TransportError as error:
            raise Failed(f"no answer: {str(error) or type(error).__name__}", exchange) from None
        exchange.seconds = monotonic() - started
        exchange.status, exchange.body = answer.status_code, answer.content
        exchange.answered = tuple(answer.headers.multi_items())
        self.judge(exchange, patience=patience)
        return exchange

    def record(
        self, method: str, path: str, headers: tuple[tuple[str, str], ...], content: bytes, *, chunked: bool = False
    ) -> Exchange:
        """Remember a request that is about to be sent, with the headers that go with every one."""
        # A guess that is nearly right gives as much away as the secret.
        guesses = [(value, "WRONG_SECRET") for name, value in headers if name == WORKER_TRIGGER and value != "wrong"]
        exchange = Exchange(
            method=method,
            url=self.target.base + path,
            headers=(*self.target.headers, *headers),
            content=content,
            chunked=chunked,
            secrets=(*self.target.secrets, *guesses),
        )
        with self._lock:
            self.exchanges.append(exchange)
        return exchange

    def judge(self, exchange: Exchange, *, patience: float = 0) -> None:
        """Raise `Failed` unless the answer is one that the document has, in time, and keeps secrets."""
        path = exchange.path.removeprefix(httpx.URL(self.target.base).path.rstrip("/")) or "/"
        flaws = self._contract.flaws_of_answer(exchange.method, path, exchange.status, exchange.answered, exchange.body)
        if flaws:
            raise Failed(f"the answer {described(exchange)} is not as documented: {'; '.join(flaws)}", exchange)
        if exchange.seconds > self.target.deadline + patience:
            raise Failed(f"the answer took {exchange.seconds:.1f} s", exchange)
        secret = self.target.secret
        if secret and secret.encode() in b"\n".join([exchange.body, *(v.encode() for _, v in exchange.answered)]):
            raise Failed("the answer holds the secret", exchange)
        if _STACK_TRACE.search(exchange.body):
            raise Failed("the answer shows a stack trace to whoever asks", exchange)

    def _built(self, exchange: Exchange, timeout: float) -> httpx.Request:
        content: bytes | Iterator[bytes] = exchange.content
        if exchange.chunked:
            content = _pieces(exchange.content)
        lines = [(name.encode(), value.encode()) for name, value in exchange.headers]
        return self._client.build_request(
            exchange.method, exchange.url, content=content or None, headers=lines, timeout=timeout
        )


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


def described(exchange: Exchange) -> str:
    """An answer in a few words, for messages."""
    if exchange.slug:
        return f"{exchange.status} {exchange.slug}"
    media_type = exchange.header("content-type")
    return f"{exchange.status} ({media_type})" if media_type else f"{exchange.status} (no content type)"


def expect(exchange: Exchange, status: int, slug: str, why: str) -> None:
    """Raise `Failed` unless the answer is this problem; `why` says after "for" what was sent."""
    if (exchange.status, exchange.slug) != (status, slug):
        raise Failed(f"{status} {slug} is due for {why}; the answer is {described(exchange)}", exchange)


def accepted(exchange: Exchange, job: UUID, **members: object) -> Mapping[str, Any]:
    """Raise `Failed` unless the answer accepts this job and its members are these; returns the answer's body."""
    if exchange.status not in (200, 202):
        raise Failed(f"a 2xx is due; the answer is {described(exchange)}: {exchange.document.get('detail')}", exchange)
    document = exchange.document
    if UUID(document["jobId"]) != job:
        raise Failed(f"the answer is about another job: {document['jobId']}", exchange)
    running = document["state"] == "running"
    if running != (exchange.status == 202):
        raise Failed(f"{exchange.status} does not go with the state {document['state']}", exchange)
    wrong = {name: document[name] for name, value in members.items() if document[name] not in _alternatives(value)}
    if wrong:
        said = ", ".join(f"{name} is {json.dumps(value)}" for name, value in wrong.items())
        due = ", ".join(f"{name}: {_shown(members[name])}" for name in wrong)
        raise Failed(f"{said}; due is {due}", exchange)
    return document


def _alternatives(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _shown(value: object) -> str:
    return " or ".join(json.dumps(one) for one in _alternatives(value))
