"""Problem documents: the JSON of RFC 9457, never an exception of their own."""

import json
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outboxkit_contracts import Flaw, Problem, ProblemType, parse_problem
from outboxkit_contracts.problems import is_problem_json

JOB = UUID("0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e")


def test_members_that_do_not_apply_are_left_out() -> None:
    """A plain problem has type, title, status and detail, and no nulls."""
    assert json.loads(Problem.of(ProblemType.DRAINING, "Stopping.").encode()) == {
        "type": "urn:outboxkit:problem:draining",
        "title": "The process is shutting down",
        "status": 503,
        "detail": "Stopping.",
    }


def test_extension_members_have_their_names_on_the_wire() -> None:
    """jobId, state, kind, retryAfter and errors stand beside the members of the RFC."""
    problem = Problem.of(
        ProblemType.NOT_DUE,
        "Later.",
        instance="/process-job",
        job_id=JOB,
        state="queued",
        kind="K",
        retry_after=0,
        errors=(Flaw(detail="no price", row=2, column="price"),),
    )
    sent = json.loads(problem.encode())
    assert sent["jobId"] == str(JOB)
    assert sent["retryAfter"] == 0
    assert sent["errors"] == [{"detail": "no price", "row": 2, "column": "price"}]
    assert parse_problem(problem.encode()) == problem


@pytest.mark.parametrize("problem_type", ProblemType)
def test_a_type_is_found_by_its_uri(problem_type: ProblemType) -> None:
    """URIs are unique, and each leads back to its type."""
    assert problem_type.uri == f"urn:outboxkit:problem:{problem_type.slug}"
    assert ProblemType.of(problem_type.uri) is problem_type
    assert 400 <= problem_type.status <= 599


def test_a_foreign_uri_is_no_type_of_ours() -> None:
    """about:blank, a bare slug and another vendor's URI are unknown."""
    for uri in ("about:blank", "not-due", "https://example.com/problems/not-due", ""):
        assert ProblemType.of(uri) is None


@given(st.text(alphabet=st.characters(categories=["Cs", "L", "Cc"])))
@example("\ud800")
def test_any_text_can_be_encoded(detail: str) -> None:
    """A detail from outside, lone surrogates and control characters included, still gives valid JSON."""
    problem = Problem.of(ProblemType.INVALID_INPUT, detail, job_id=JOB, errors=(Flaw(detail=detail),))
    sent = json.loads(problem.encode().decode("utf-8"))
    expected = "".join("?" if "\ud800" <= c <= "\udfff" else c for c in detail)
    assert sent["detail"] == sent["errors"][0]["detail"] == expected


@given(st.binary())
@example(b"[" * 100_000)
def test_what_is_no_problem_is_none(body: bytes) -> None:
    """Bytes that are not a problem document are None and no exception."""
    assert parse_problem(body) is None


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/problem+json", True),
        ("Application/Problem+JSON ; charset=utf-8", True),
        ("application/problem+json;", True),
        ("application/json", False),
        ("application/problem+json, text/html", False),
        ("text/html; application/problem+json", False),
        ("", False),
        (None, False),
    ],
)
def test_the_media_type_decides_whatever_its_case_and_parameters(content_type: str | None, expected: bool) -> None:
    """Only application/problem+json itself is a problem's media type."""
    assert is_problem_json(content_type) is expected
