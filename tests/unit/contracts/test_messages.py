"""Triggers and answers: read without surprises, refused with words that help."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outboxkit_contracts import (
    Answer,
    JobState,
    MalformedTrigger,
    Trigger,
    encode_trigger,
    parse_answer,
    parse_trigger,
)

JOB = UUID("0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e")
ID = f'"jobId":"{JOB}"'.encode()
STATES: list[JobState] = ["queued", "running", "succeeded", "failed", "cancelled"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
trigger_like = st.fixed_dictionaries(
    {},
    optional={
        "jobId": st.uuids().map(str) | st.text() | json_values,
        "type": st.text() | json_values,
        "other": json_values,
    },
)


def refusal(body: bytes) -> str:
    """What parse_trigger says about a body it refuses."""
    with pytest.raises(MalformedTrigger) as refused:
        parse_trigger(body)
    return refused.value.detail


def read(body: bytes) -> Trigger | str:
    """The trigger, or the detail of its refusal."""
    try:
        return parse_trigger(body)
    except MalformedTrigger as refused:
        return refused.detail


@given(st.uuids(), st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_what_is_encoded_is_read_back(job_id: UUID, trigger_type: str) -> None:
    """A trigger survives the wire, whatever its type says."""
    assert parse_trigger(encode_trigger(job_id, trigger_type)) == Trigger(job_id, trigger_type)


def test_names_on_the_wire_are_camel_case() -> None:
    """The relay sends exactly jobId and type."""
    assert json.loads(encode_trigger(JOB)) == {"jobId": str(JOB), "type": "START_RUN"}


def test_type_may_be_left_out_and_unknown_members_are_ignored() -> None:
    """Only jobId is needed; members of a later version do no harm, whatever they hold."""
    body = b"{" + ID + b',"later":{"a":[1,null,"\\u0000"]},"n":1e999}'
    assert parse_trigger(body) == Trigger(JOB, "START_RUN")


@given(st.binary())
@example(b"\xff\xfe{\0}\0")
@example(b"\xef\xbb\xbf{}")
@example(b'{"jobId":"\xed\xa0\x80"}')
@example(b'{"jobId":' + b"9" * 6000 + b"}")
@example(b'{"jobId":1e999}')
@example(b"[" * 100_000)
def test_whatever_the_bytes_it_is_a_trigger_or_malformed(body: bytes) -> None:
    """No bytes make parse_trigger raise anything else, and every refusal says something printable."""
    outcome = read(body)
    assert isinstance(outcome, Trigger) or (outcome and outcome.isprintable())


@given(trigger_like)
def test_the_parser_accepts_what_the_document_accepts(
    document: dict[str, Any], flaws: Callable[[Any, dict[str, Any]], list[str]], value: dict[str, Any]
) -> None:
    """A JSON object is read exactly when it is valid by the document's schema."""
    by_document = flaws(value, document["components"]["schemas"]["Trigger"]) == []
    assert isinstance(read(json.dumps(value).encode()), Trigger) == by_document


def test_an_id_that_is_no_uuid_is_answered_with_how_to_make_a_job() -> None:
    """The newcomer's first try, "test-123", is told what ids are and which command prints one."""
    detail = refusal(b'{"jobId":"test-123"}')
    assert '`jobId` "test-123" is not a UUID' in detail
    assert "`outboxkit enqueue KIND '{…}'` prints one" in detail
    assert "`select outboxkit.enqueue_job(…)`" in detail


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "body is empty"),
        (b" \n", "body is empty"),
        (b"jobId=1", "not valid JSON: JSON is malformed: invalid character (byte 0)"),
        (b"{" + ID + b"} x", "trailing characters"),
        (b"{" + ID, "not valid JSON: Input data was truncated"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "`jobId` is missing"),
        (b'{"jobid":"test-123"}', "`jobId` is missing"),
        (b'{"jobId":7}', "`jobId` must be a string that holds a UUID, not a number"),
        (b'{"jobId":null}', "not null"),
        (b'{"jobId":[]}', "not an array"),
        (b'{"jobId":true}', "not a boolean"),
        (b'{"jobId":""}', '`jobId` "" is not a UUID'),
        (b'{"jobId":"a\\u0000\\u202eb"}', r'`jobId` "a\u0000\u202eb" is not a UUID'),
        (b"{" + ID + b',"type":5}', "`type` must be a string, not a number"),
        (b"{" + ID + b',"type":null}', "`type` must be a string, not null"),
        (b"{" + ID + b',"type":{}}', "`type` must be a string, not an object"),
        (b"{" + ID + b',"type":"a\\u0000"}', "`type` holds a NUL character"),
        (b"{" + ID + b',"type":"\\ud800"}', "half a surrogate pair stands alone at byte 56"),
        (b"{" + ID + b',"type":"\\udc00"}', "half a surrogate pair stands alone at byte 56"),
        (b"{" + ID + b',"type":"\xff"}', "not UTF-8: invalid start byte at byte 56"),
        (b"{" + ID + b',"other":"\xff"}', "not UTF-8: invalid start byte at byte 57"),
        (b"{" + ID + b',"other":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(body: bytes, says: str) -> None:
    """Each way to get the body wrong has its own words."""
    assert says in refusal(body)


def test_a_long_id_is_quoted_in_part() -> None:
    """A refusal never repeats a large body."""
    assert len(refusal(b'{"jobId":"' + b"x" * 60_000 + b'"}')) < 400


@given(st.builds(Answer, st.uuids(), st.booleans(), st.sampled_from(STATES), st.booleans(), st.text()))
def test_an_answer_is_read_back(answer: Answer) -> None:
    """Answers survive the wire."""
    assert parse_answer(answer.encode()) == answer


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(f'{{"jobId":"{JOB}","type":"START_RUN"}}'.encode())
def test_what_is_no_answer_is_none(body: bytes) -> None:
    """A body that is not an answer, an echoed trigger among them, is None and no exception."""
    assert parse_answer(body) is None


def test_an_answer_with_an_unknown_state_is_none() -> None:
    """States are those of the jobs table; another word is not our worker's."""
    body = Answer(JOB, True, "running", False, "").encode()
    assert parse_answer(body) is not None
    assert parse_answer(body.replace(b'"running"', b'"sleeping"')) is None
