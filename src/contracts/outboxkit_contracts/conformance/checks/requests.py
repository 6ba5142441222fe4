"""What a trigger may look like, and what becomes of a request that is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from outboxkit_contracts.conformance.checks.jobs import ANSWERS
from outboxkit_contracts.conformance.outcomes import Failed
from outboxkit_contracts.conformance.probe import JSON, Probe, described, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.messages import MAX_TRIGGER_BYTES

_ID: Final = "0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e"
_BODY: Final = "#/paths/~1process-job/post/requestBody"

NOT_JSON: Final[Mapping[str, bytes]] = {
    "an empty body": b"",
    "blanks": b" \r\n\t ",
    "half a document": b'{"jobId": "',
    "a form": b"jobId=1&type=START_RUN",
    "single quotes": b"{'jobId': '%s'}" % _ID.encode(),
    "two documents": b'{"jobId": "%s"}{"jobId": "%s"}' % (_ID.encode(), _ID.encode()),
    "rubbish after the document": b'{"jobId": "%s"} x' % _ID.encode(),
    "NaN": b'{"jobId": "%s", "x": NaN}' % _ID.encode(),
    "a control character in a string": b'{"jobId": "%s", "type": "a\nb"}' % _ID.encode(),
    "NUL bytes": b"\0" * 16,
}
NOT_A_TRIGGER: Final[Mapping[str, Any]] = {
    "null": None,
    "true": True,
    "a number": 7,
    "a string": _ID,
    "an array": [{"jobId": _ID}],
    "an empty object": {},
    "jobid in lower case": {"jobid": _ID},
    "jobId null": {"jobId": None},
    "jobId a number": {"jobId": 7},
    "jobId an object": {"jobId": {"id": _ID}},
    "jobId empty": {"jobId": ""},
    "jobId no UUID": {"jobId": "test-123"},
    "jobId with a tail": {"jobId": f"{_ID}x"},
    "jobId with blanks": {"jobId": f" {_ID} "},
    "jobId a path": {"jobId": "../../etc/passwd"},
    "jobId an SQL fragment": {"jobId": f"{_ID}' or '1'='1"},
    "type null": {"jobId": _ID, "type": None},
    "type a number": {"jobId": _ID, "type": 1},
    "type with NUL": {"jobId": _ID, "type": "START\0RUN"},
}
NOT_UTF8: Final[Mapping[str, bytes]] = {
    "latin-1": b'{"jobId": "%s", "type": "\xe9"}' % _ID.encode(),
    "a bad byte in an unknown member": b'{"jobId": "%s", "x": "\xff"}' % _ID.encode(),
    "a surrogate": b'{"jobId": "%s", "type": "\xed\xa0\x80"}' % _ID.encode(),
    "UTF-16": json.dumps({"jobId": _ID}).encode("utf-16"),
}
MEDIA_TYPES: Final = (
    None,
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
    "application/jsonp",
    "json",
    "*/*",
)


def _unknown(probe: Probe, why: str, **request: Any) -> None:
    """The trigger is understood: its job, which does not exist, is looked for."""
    content = request.pop("content", None) or json.dumps({"jobId": str(uuid4())}).encode()
    expect(probe.post(content, **request), 404, "unknown-job", why)


@check("request.not-json", f"{ANSWERS}/400")
def not_json(probe: Probe) -> None:
    """A body that is not JSON is answered 400."""
    for what, content in NOT_JSON.items():
        expect(probe.post(content), 400, "malformed-request", what)


@check("request.not-a-trigger", "#/components/schemas/Trigger")
def not_a_trigger(probe: Probe) -> None:
    """JSON that is no trigger is answered 400."""
    for what, value in NOT_A_TRIGGER.items():
        expect(probe.post(json.dumps(value).encode()), 400, "malformed-request", what)


@check("request.not-utf-8", _BODY)
def not_utf8(probe: Probe) -> None:
    """A body that is not UTF-8 is answered 400."""
    for what, content in NOT_UTF8.items():
        expect(probe.post(content), 400, "malformed-request", what)


@check("request.nesting", f"{ANSWERS}/400")
def nesting(probe: Probe) -> None:
    """Deep nesting is answered: 400, or 404 where it is read."""
    for content in (b"[" * 60_000, b'{"jobId":"%s","x":%s1%s}' % (_ID.encode(), b"[" * 20_000, b"]" * 20_000)):
        answer = probe.post(content)
        if (answer.status, answer.slug) not in ((400, "malformed-request"), (404, "unknown-job")):
            raise Failed(f"400 malformed-request is due for deep nesting; the answer is {described(answer)}", answer)


@check("request.media-type", f"{ANSWERS}/415")
def media_type(probe: Probe) -> None:
    """A body that is not declared as application/json is answered 415."""
    content = json.dumps({"jobId": str(uuid4())}).encode()
    for declared in MEDIA_TYPES:
        what = "a missing content type" if declared is None else f"the content type {declared}"
        expect(probe.post(content, media_type=declared), 415, "unsupported-media-type", what)


@check("request.media-type-spelling", f"{_BODY}/content")
def media_type_spelling(probe: Probe) -> None:
    """The content type may have parameters and capitals."""
    for declared in ("application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"):
        _unknown(probe, f"the content type {declared}", media_type=declared)


@check("request.too-large", f"{ANSWERS}/413")
def too_large(probe: Probe) -> None:
    """A body of more than 65,536 bytes is answered 413, in chunks too."""
    content = _of_size(MAX_TRIGGER_BYTES + 1)
    expect(probe.post(content), 413, "payload-too-large", f"a body of {len(content)} bytes")
    expect(probe.post(content, chunked=True), 413, "payload-too-large", f"a body of {len(content)} bytes in chunks")


@check("request.largest", f"{ANSWERS}/413")
def largest(probe: Probe) -> None:
    """A body of 65,536 bytes is read."""
    _unknown(probe, "a body of 65,536 bytes", content=_of_size(MAX_TRIGGER_BYTES))


@check("request.unknown-members", "#/components/schemas/Trigger")
def unknown_members(probe: Probe) -> None:
    """Unknown members are ignored; `type` may be left out, or hold any text."""
    for members in ({"priority": 3, "x": {"y": [None]}}, {"type": "ANYTHING"}, {"type": ""}, {"type": "Grüße 👋"}, {}):
        body = json.dumps({"jobId": str(uuid4()), **members}).encode()
        _unknown(probe, f"a trigger with {members}", content=body)


@check("request.spelling", "#/components/schemas/Trigger/properties/jobId")
def spelling(probe: Probe) -> None:
    """A job id may be written in capitals, and JSON with blanks and escapes."""
    job = str(uuid4())
    escaped = "".join(f"\\u{ord(c):04x}" for c in job)
    for text in (f'{{"jobId":"{job.upper()}"}}', f'\n{{ "jobId" :\t"{job}" }}\r\n', f'{{"jobId":"{escaped}"}}'):
        _unknown(probe, f"the body {text!r}", content=text.encode())


@check("request.headers", "#/paths/~1process-job/post/parameters")
def headers(probe: Probe) -> None:
    """Prefer, traceparent and the headers of Cloud Tasks may hold anything."""
    for line in (
        ("prefer", "wait=abc, respond-async;x"),
        ("prefer", "wait=99999999999999999999"),
        ("prefer", 'wait="'),
        ("traceparent", "00-nothing-01"),
        ("traceparent", "ff-00000000000000000000000000000000-0000000000000000-zz"),
        ("x-cloudtasks-taskretrycount", "many"),
        ("x-cloudtasks-tasketa", "-1e999"),
    ):
        _unknown(probe, f"the header {line[0]}: {line[1]}", headers=(line,))


@check("request.methods", f"{ANSWERS}/405")
def methods(probe: Probe) -> None:
    """Another method than POST is answered 405, with POST in Allow."""
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = probe.request(
            method, "/process-job", (*probe.credentials(), JSON), json.dumps({"jobId": _ID}).encode()
        )
        expect(answer, 405, "method-not-allowed", f"{method} /process-job")
        if "POST" not in [name.strip() for name in (answer.header("allow") or "").split(",")]:
            raise Failed(f"Allow is {answer.header('allow')!r}, without POST", answer)


@check("request.wrong-path", f"{ANSWERS}/404")
def wrong_path(probe: Probe) -> None:
    """Another path is answered 404 `not-found`, which does not look like an unknown job."""
    for path in ("/process-jobs", "/nothing/here"):
        answer = probe.request("POST", path, (*probe.credentials(), JSON), json.dumps({"jobId": _ID}).encode())
        expect(answer, 404, "not-found", f"POST {path}")


def _of_size(size: int) -> bytes:
    """A trigger of just so many bytes, for a job that does not exist."""
    start = b'{"jobId":"%s","x":"' % str(uuid4()).encode()
    return start + b"x" * (size - len(start) - 2) + b'"}'
