"""One answer of a provider, and what the document says a relay does about it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from time import time
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis.generation.jsonschema.builder import build

from outboxkit_contracts import PROBLEM_JSON
from outboxkit_contracts.validation import PROCESS_JOB, Contract
from sink import Reply, Request

CONTRACT = Contract()
URI = "urn:outboxkit:problem:"
DEFAULT = CONTRACT.responses("post", PROCESS_JOB)["default"]["x-relay-action"]

# The draft of OpenAPI 3.1, as schemathesis counts it.
DRAFT_2020_12 = 20
FORMATS = {
    "uuid": st.uuids().map(str),
    "uri": st.just("about:blank"),
    "uri-reference": st.sampled_from(["/process-job", "?", "https://worker.invalid/process-job#1", ""]),
    "date-time": st.just("2026-01-31T12:00:00Z"),
}


@dataclass(frozen=True, repr=False)
class Case:
    """An answer, made anew for each request. `action` is the document's word."""

    name: str
    answer: Callable[[Request], Reply]
    action: str = DEFAULT
    status: int | None = None
    slug: str | None = None
    says: str = ""
    """What last_error is to say of it."""
    wait: tuple[int, int] = (0, 0)
    """Seconds that its Retry-After asks to wait, at least and at most."""
    job_gone: bool = False
    """The job's row was deleted before."""
    endless: bool = False
    """Only the relay's deadline ends it."""

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(repr(self))  # else hypothesis writes out every field


def documented_pairs() -> set[tuple[int, str | None]]:
    """Every status of POST /process-job with every problem type that it has; None where it has no problem."""
    found: set[tuple[int, str | None]] = set()
    for status, response in CONTRACT.responses("post", PROCESS_JOB).items():
        action = response["x-relay-action"]
        if status != "default":
            found |= {(int(status), slug) for slug in action} if isinstance(action, dict) else {(int(status), None)}
    return found


def examples() -> Iterator[Case]:
    """Every example of the document, with the headers that its response is described to have."""
    for status, response in sorted(CONTRACT.responses("post", PROCESS_JOB).items()):
        for media_type, media in response.get("content", {}).items():
            for name, example in media["examples"].items():
                yield documented(f"{status} {name}", int(status), media_type, example["value"])


def documented(name: str, status: int, media_type: str, value: Mapping[str, Any]) -> Case:
    """The case of a body that conforms: its job's id becomes the one that was asked for."""
    slug = value["type"].removeprefix(URI) if media_type == PROBLEM_JSON else None
    described = CONTRACT.responses("post", PROCESS_JOB)[str(status)].get("headers", {})
    headers = {name.lower(): str(_followed(header)["example"]) for name, header in described.items()}
    asked = int(headers.get("retry-after", "0"))

    def answer(request: Request) -> Reply:
        body = {**value, "jobId": str(request.job_id)} if "jobId" in value else value
        return Reply(status, json.dumps(body).encode(), media_type, headers)

    says = "" if slug is None else f"HTTP {status} {slug}"
    return Case(name, answer, CONTRACT.action(status, slug), status, slug, says, (asked, asked))


def _followed(header: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = header.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = CONTRACT.document["components"]["headers"][reference] if reference else header
    return found


# Retry-After as it comes: its value, and the seconds it asks for, at least and at most. An hour is the longest.
RETRY_AFTER: dict[str, tuple[str | None, tuple[int, int]]] = {
    "none": (None, (0, 0)),
    "0": ("0", (0, 0)),
    "1": ("1", (1, 1)),
    "blanks": ("  40  ", (40, 40)),
    "more than an hour": ("86400", (3600, 3600)),
    "no end of digits": ("9" * 400, (3600, 3600)),
    "negative": ("-5", (0, 0)),
    "a fraction": ("1.5", (0, 0)),
    "a word": ("soon", (0, 0)),
    "digits of another script": ("٤٠", (0, 0)),
    "a date that was": ("Wed, 21 Oct 2015 07:28:00 GMT", (0, 0)),
    "a date far ahead": ("Fri, 31 Dec 9999 23:59:59 GMT", (3600, 3600)),
    "a date there is not": ("Fri, 31 Feb 2027 23:59:59 GMT", (0, 0)),
    "an HTTP date": ("{date}", (38, 41)),
}


def retry_after(case: Case) -> Iterator[Case]:
    """The case with every Retry-After there is."""
    for name, (value, wait) in RETRY_AFTER.items():
        yield replace(case, name=f"{case.name}, Retry-After: {name}", answer=_with_retry_after(case, value), wait=wait)


def _with_retry_after(case: Case, value: str | None) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        reply = case.answer(request)
        kept = {name: text for name, text in reply.headers.items() if name != "retry-after"}
        said = {} if value is None else {"retry-after": value.format(date=formatdate(time() + 40, usegmt=True))}
        return replace(reply, headers={**kept, **said})

    return answer


def generated() -> SearchStrategy[Case]:
    """Answers that conform, drawn from the document's schemas: every status and problem type equally often."""
    return st.one_of([_of_schema(status, slug) for status, slug in sorted(documented_pairs(), key=str)])


def _of_schema(status: int, slug: str | None) -> SearchStrategy[Case]:
    [(media_type, media)] = CONTRACT.responses("post", PROCESS_JOB)[str(status)]["content"].items()
    schema = copy.deepcopy(media["schema"])
    if slug is not None:
        schema = {"allOf": [schema, {"properties": {"type": {"const": URI + slug}}}]}
    rooted = {**schema, "components": {"schemas": CONTRACT.document["components"]["schemas"]}}
    bodies = build(rooted, draft=DRAFT_2020_12, formats=FORMATS)
    cases = bodies.map(lambda body: documented(f"{status} {slug or ''} {body!r}", status, media_type, body))
    described = "Retry-After" in CONTRACT.responses("post", PROCESS_JOB)[str(status)].get("headers", {})
    return cases.flatmap(lambda case: st.sampled_from(list(retry_after(case)))) if described else cases
