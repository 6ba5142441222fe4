"""`Contract`: what of a request or an answer is not as the document has it."""

import json
from typing import Any

import pytest

from outboxkit_contracts import PROBLEM_JSON, Action, ProblemType
from outboxkit_contracts.actions import PROBLEM_ACTIONS
from outboxkit_contracts.validation import Contract

JOB = "0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e"
ANSWER = {"jobId": JOB, "accepted": True, "state": "running", "duplicate": False, "message": "Claimed."}
JSON = ("Content-Type", "application/json")


def problem(kind: ProblemType, **changes: Any) -> bytes:
    """A problem document, with members replaced or (None) left out."""
    members = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": "because", **changes}
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "flaw"),
    [
        (202, [JSON], json.dumps(ANSWER), None),
        (202, [("content-type", "Application/JSON; charset=utf-8")], json.dumps(ANSWER), None),
        (202, [JSON], json.dumps({**ANSWER, "new": 1}), None),
        (202, [JSON], json.dumps({**ANSWER, "accepted": False}), "/accepted"),
        (202, [JSON], json.dumps({**ANSWER, "state": "done"}), "/state"),
        (202, [JSON], json.dumps({**ANSWER, "jobId": "7"}), "uuid"),
        (202, [JSON], "<p>fine</p>", "the body is not application/json"),
        (202, [JSON], "[" * 100_000, "the body is not application/json"),
        (202, [("content-type", "text/html")], json.dumps(ANSWER), "'text/html'"),
        (202, [], json.dumps(ANSWER), "missing"),
        (202, [JSON, JSON], json.dumps(ANSWER), "'application/json' and 'application/json'"),
        (202, [JSON, ("Preference-Applied", "wait=ten")], json.dumps(ANSWER), "Preference-Applied"),
        (204, [], "", "status 204 is not documented"),
        (418, [JSON], "{}", "status 418 is not documented"),
    ],
)
def test_answers_are_held_against_the_document(
    contract: Contract, status: int, headers: list[tuple[str, str]], body: str, flaw: str | None
) -> None:
    """Status, content type, headers and body: the flaw names what is wrong, and a conforming answer has none."""
    found = contract.flaws_of_answer("POST", "/process-job", status, headers, body.encode())
    assert found == [] if flaw is None else any(flaw in text for text in found), found


@pytest.mark.parametrize("after", [None, "soon", "-1", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_retry_after_is_a_number_of_seconds(contract: Contract, after: str | None) -> None:
    """409, 429 and 503 carry it, as a whole number."""
    headers = [("content-type", PROBLEM_JSON)] + ([] if after is None else [("retry-after", after)])
    for kind in (ProblemType.NOT_DUE, ProblemType.WORKER_FULL, ProblemType.DRAINING):
        found = contract.flaws_of_answer("POST", "/process-job", kind.status, headers, problem(kind))
        assert any("Retry-After" in flaw for flaw in found)
        good = [("content-type", PROBLEM_JSON), ("retry-after", "7")]
        assert contract.flaws_of_answer("POST", "/process-job", kind.status, good, problem(kind)) == []


def test_a_problem_goes_with_its_status(contract: Contract) -> None:
    """A problem type under another status, a status that contradicts the header, and an own type are flaws."""
    headers = [("content-type", PROBLEM_JSON)]
    for body in (
        problem(ProblemType.UNKNOWN_KIND),
        problem(ProblemType.UNKNOWN_JOB, status=400),
        problem(ProblemType.UNKNOWN_JOB, type="about:blank"),
        problem(ProblemType.UNKNOWN_JOB, detail=None),
    ):
        assert contract.flaws_of_answer("POST", "/process-job", 404, headers, body)
    assert contract.flaws_of_answer("POST", "/process-job", 404, headers, problem(ProblemType.UNKNOWN_JOB)) == []


def test_what_is_not_there_is_judged_by_what_is(contract: Contract) -> None:
    """Another path may answer 404, another method 405, and HEAD has no body."""
    headers = [("content-type", PROBLEM_JSON), ("allow", "POST")]
    assert contract.flaws_of_answer("POST", "/nothing?x=1", 404, headers, problem(ProblemType.NOT_FOUND)) == []
    assert contract.flaws_of_answer("PUT", "/process-job", 405, headers, problem(ProblemType.METHOD_NOT_ALLOWED)) == []
    assert contract.flaws_of_answer("HEAD", "/health", 405, headers, b"") == []


@pytest.mark.parametrize(
    ("headers", "body", "flaw"),
    [
        ([JSON, ("x-worker-trigger", "s"), ("traceparent", "anything")], {"jobId": JOB, "type": "A", "new": 1}, None),
        ([JSON], {"jobId": JOB}, None),
        ([JSON], {"jobId": "test-123"}, "uuid"),
        ([JSON], {}, "jobId"),
        ([JSON], {"jobId": JOB, "type": "a\0b"}, "/type"),
        ([("content-type", "text/plain")], {"jobId": JOB}, "content type"),
        ([JSON, ("x-worker-trigger", " ")], {"jobId": JOB}, "x-worker-trigger is empty"),
    ],
)
def test_triggers_are_held_against_the_document(
    contract: Contract, headers: list[tuple[str, str]], body: dict[str, Any], flaw: str | None
) -> None:
    """Body, content type and credentials of what a relay sends."""
    found = contract.flaws_of_trigger(headers, json.dumps(body).encode())
    assert found == [] if flaw is None else any(flaw in text for text in found), found


@pytest.mark.parametrize("kind", ProblemType)
def test_the_action_of_the_document_is_the_relays(contract: Contract, kind: ProblemType) -> None:
    """For every problem that the document has, and for those that it has not: an endpoint fault."""
    assert contract.action(kind.status, kind.slug) == PROBLEM_ACTIONS.get(kind, Action.ENDPOINT_FAULT)
    assert contract.action(200) == contract.action(202) == "ack"
    assert contract.action(418) == contract.action(404, "about:blank") == "endpoint-fault"
