"""The relay's table, held against the document both ways, and what no stranger can make a relay do."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outboxkit_contracts import PROBLEM_JSON, Action, Answer, Problem, ProblemType, Verdict, classify
from outboxkit_contracts.actions import PROBLEM_ACTIONS, no_answer
from outboxkit_contracts.headers import MAX_RETRY_AFTER

JOB = UUID("0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e")
OTHER = UUID("0198c5a2-7c3e-7b11-9d5f-000000000000")
OF_THE_MESSAGE = {Action.ACK, Action.DEAD_LETTER, Action.RETRY, Action.RETRY_THEN, Action.SLOW_DOWN}


def answer(job_id: UUID = JOB, *, accepted: bool = True) -> bytes:
    """The body of a 202."""
    return Answer(job_id, accepted, "running", False, "Claimed.").encode()


def judge(
    status: int,
    body: bytes = b"",
    content_type: str | None = PROBLEM_JSON,
    retry_after: str | None = None,
) -> Verdict:
    """Classify the answer to the trigger of JOB."""
    return classify(status, content_type, body, retry_after, job_id=JOB)


def documented_problems(document: dict[str, Any]) -> dict[tuple[int, str], str]:
    """(status, slug) to action, as the document has it."""
    answers = document["paths"]["/process-job"]["post"]["responses"]
    return {
        (int(status), slug): action
        for status, response in answers.items()
        if isinstance(response["x-relay-action"], dict)
        for slug, action in response["x-relay-action"].items()
    }


def examples(document: dict[str, Any]) -> Iterator[tuple[int, str, Any, str]]:
    """Every example of every response, of every path: status, media type, body, action."""
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                action = response["x-relay-action"]
                for media_type, media in response.get("content", {}).items():
                    for shown in media["examples"].values():
                        value = shown["value"]
                        slug = value.get("type", "").rpartition(":")[2] if isinstance(value, dict) else ""
                        said = action[slug] if isinstance(action, dict) else action
                        yield int(status), media_type, shown["value"], said


def test_every_example_of_the_document_is_judged_as_the_document_says(document: dict[str, Any]) -> None:
    """The verdict on each documented response is its x-relay-action; health documents are no worker's answer."""
    shown = list(examples(document))
    assert len(shown) > 20
    for status, media_type, value, action in shown:
        verdict = judge(status, json.dumps(value).encode(), media_type)
        assert verdict.action == action, (status, value)


def test_every_problem_under_every_status_is_judged_as_the_document_says(document: dict[str, Any]) -> None:
    """A pair of status and problem type has the document's action, and its default where it has none."""
    documented = documented_problems(document)
    default = document["paths"]["/process-job"]["post"]["responses"]["default"]["x-relay-action"]
    for status in range(100, 600):
        for problem_type in ProblemType:
            body = Problem.of(problem_type, "Why.").encode()
            expected = documented.get((status, problem_type.slug), default)
            assert judge(status, body).action == expected, (status, problem_type)


def test_every_entry_of_the_relay_s_table_stands_in_the_document(document: dict[str, Any]) -> None:
    """The table holds nothing the document does not say."""
    documented = documented_problems(document)
    for problem_type, action in PROBLEM_ACTIONS.items():
        assert documented[problem_type.status, problem_type.slug] == action


def test_every_action_appears_in_the_document_and_no_other(document: dict[str, Any]) -> None:
    """The document and the enum have the same vocabulary, in the responses and in the description's table."""
    actions = set()
    for response in document["paths"]["/process-job"]["post"]["responses"].values():
        action = response["x-relay-action"]
        actions |= set(action.values()) if isinstance(action, dict) else {action}
    assert actions == set(Action)
    for name in Action:
        assert f"| `{name}` |" in document["info"]["description"]


@pytest.mark.parametrize("status", [200, 202])
def test_a_2xx_acknowledges_only_an_answer_that_accepts_this_job(status: int) -> None:
    """Not an answer, not accepted, or about another job: nothing is delivered."""
    assert judge(status, answer(), "application/json") == Verdict(Action.ACK, "accepted", message="Claimed.")
    for body in (answer(OTHER), answer(accepted=False), b"", b"{}", b"OK", b'{"accepted":true}'):
        assert judge(status, body, "application/json").action is Action.ENDPOINT_FAULT


@pytest.mark.parametrize("status", [100, 201, 203, 204, 206, 301, 302, 307, 418, 502, 504, 599])
def test_a_status_outside_the_table_is_an_endpoint_fault(status: int) -> None:
    """Even with the body of a perfect answer."""
    assert judge(status, answer(), "application/json").action is Action.ENDPOINT_FAULT


@pytest.mark.parametrize("status", sorted({member.status for member in ProblemType}))
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<h1>Not Found</h1>"),
        (None, b""),
        (PROBLEM_JSON, b"rubbish"),
        (PROBLEM_JSON, b'{"type":"about:blank","title":"Not Found"}'),
        (PROBLEM_JSON, b'{"title":"no type"}'),
        (PROBLEM_JSON, b'{"type":["urn:outboxkit:problem:unknown-job"]}'),
        ("application/json", b'{"type":"urn:outboxkit:problem:unknown-job"}'),
        ("application/json", b'{"type":"urn:outboxkit:problem:malformed-request"}'),
    ],
)
def test_an_error_that_is_no_problem_of_ours_is_an_endpoint_fault(
    status: int, content_type: str | None, body: bytes
) -> None:
    """A proxy's 404 dead-letters nothing, its 500 counts nothing, its 401 is a fault all the same."""
    verdict = judge(status, body, content_type, "7")
    assert verdict.action is Action.ENDPOINT_FAULT
    assert verdict.problem is None
    assert verdict.retry_after == 7


def test_a_stranger_s_words_are_not_kept() -> None:
    """A wrong URL may echo the request, secret and all: none of its body reaches the verdict."""
    echo = b'{"headers":{"x-worker-trigger":"s3cret"},"type":"x","detail":"s3cret","message":"s3cret"}'
    for status in (200, 202, 301, 400, 401, 404, 500, 503):
        verdict = judge(status, echo)
        assert "s3cret" not in repr(verdict)
        assert verdict.message == ""


def test_the_worker_s_words_are_kept_clean_and_short() -> None:
    """A detail loses NUL and line breaks, and is cut to 500 characters."""
    body = Problem.of(ProblemType.INTERNAL_ERROR, "a\0b\nc" + "x" * 1000).encode()
    verdict = judge(500, body)
    assert verdict.reason == "HTTP 500 internal-error"
    assert verdict.problem == "internal-error"
    assert verdict.message == "a b c" + "x" * 495


@pytest.mark.parametrize(
    ("problem_type", "action"),
    [
        (ProblemType.NOT_DUE, Action.RETRY_THEN),
        (ProblemType.WORKER_FULL, Action.SLOW_DOWN),
        (ProblemType.NO_DATABASE, Action.ENDPOINT_FAULT),
        (ProblemType.INTERNAL_ERROR, Action.RETRY),
    ],
)
@pytest.mark.parametrize(("header", "seconds"), [("40", 40), ("999999", MAX_RETRY_AFTER), ("soon", None), (None, None)])
def test_retry_after_is_honoured_where_the_row_stays(
    problem_type: ProblemType, action: Action, header: str | None, seconds: int | None
) -> None:
    """Capped when far, ignored when malformed."""
    verdict = judge(problem_type.status, Problem.of(problem_type, "Why.").encode(), retry_after=header)
    assert (verdict.action, verdict.retry_after) == (action, seconds)


def test_a_dead_letter_has_no_time_to_retry() -> None:
    """Retry-After beside a permanent refusal means nothing."""
    body = Problem.of(ProblemType.MALFORMED_REQUEST, "Why.").encode()
    assert judge(400, body, retry_after="5").retry_after is None


def test_no_answer_at_all_is_an_endpoint_fault() -> None:
    """Refused and timed out connections are judged like strangers."""
    assert no_answer("connection refused") == Verdict(Action.ENDPOINT_FAULT, "connection refused")


@given(
    st.integers(0, 999),
    st.none() | st.text() | st.just(PROBLEM_JSON),
    st.binary(),
    st.none() | st.text(),
)
@example(404, PROBLEM_JSON, b"[" * 100_000, None)
@example(200, PROBLEM_JSON, b"[" * 100_000, None)
@example(999, "\ud800" * 100, b"", "9" * 5000)
def test_rubbish_is_always_an_endpoint_fault(
    status: int, content_type: str | None, body: bytes, retry_after: str | None
) -> None:
    """Bytes that are neither an answer nor a problem never raise, and never touch the message."""
    verdict = judge(status, body, content_type, retry_after)
    assert verdict.action not in OF_THE_MESSAGE
    assert verdict.reason.isprintable()
    assert verdict.retry_after is None or 0 <= verdict.retry_after <= MAX_RETRY_AFTER
