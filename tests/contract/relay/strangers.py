"""Answers that the document does not have, by class; and documented ones in wrappings that HTTP allows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

from contract.relay.cases import CONTRACT, Case
from outboxkit_contracts import PROBLEM_JSON, Answer, Problem, ProblemType
from sink import GARBAGE, HALF, RESET, SILENCE, Reply, Request, accepted, problem

HTML = b"<html><body><h1>Bad gateway</h1></body></html>"


def perfect(request: Request) -> bytes:
    """The body of a worker's answer that accepts the job."""
    return accepted(request).body


def refusal(kind: ProblemType = ProblemType.MALFORMED_REQUEST) -> bytes:
    """The body of a worker's refusal."""
    return Problem.of(kind, "because").encode()


def raw(head: str, body: bytes = b"", *, then: str = "close") -> Reply:
    """What is written byte for byte; the head's lines are parted by |."""
    return Reply(raw=head.replace("|", "\r\n").encode() + b"\r\n\r\n" + body, then=then)


OK = "HTTP/1.1 202 Accepted|content-type: application/json"

Answering = Callable[[Request], Reply]

STATUSES: dict[str, Answering] = {
    f"{status} with a perfect answer": lambda request, status=status: Reply(status, perfect(request))
    for status in (201, 203, 206, 402, 410, 418, 425, 451, 501, 505, 520, 599, 999)
} | {
    "204": lambda _: raw("HTTP/1.1 204 No Content", then="keep"),
    "205": lambda _: Reply(205),
    "304": lambda _: raw("HTTP/1.1 304 Not Modified", then="keep"),
    "101": lambda _: raw("HTTP/1.1 101 Switching Protocols|upgrade: websocket|connection: upgrade"),
    "502 in HTML": lambda _: Reply(502, HTML, "text/html"),
    "504 in HTML": lambda _: Reply(504, HTML, "text/html"),
    "404 in HTML": lambda _: Reply(404, HTML, "text/html"),
    "403 in plain text": lambda _: Reply(403, b"no", "text/plain"),
    "500 without a body": lambda _: Reply(500, b"", "text/plain"),
}

REDIRECTS: dict[str, Answering] = {
    f"{status} to {where}": lambda request, status=status, where=where: Reply(
        status, perfect(request), headers={"location": where.format(host=request.headers["host"])}
    )
    for status in (301, 302, 303, 307, 308)
    for where in ("/trap", "http://{host}/trap")
}

ACCEPTANCES: dict[str, Answering] = {
    "202 with rubbish": lambda _: Reply(202, b"\x00\xff{]"),
    "200 with rubbish": lambda _: Reply(200, b"OK"),
    "202 with nothing": lambda _: Reply(202),
    "202 with an empty object": lambda _: Reply(202, b"{}"),
    "202 with a list": lambda request: Reply(202, b"[" + perfect(request) + b"]"),
    "202 twice in one body": lambda request: Reply(202, perfect(request) * 2),
    "202 nested without end": lambda _: Reply(202, b"[" * 60_000),
    "200 with a login page": lambda _: Reply(200, b"<html>Sign in</html>", "text/html"),
    "202 about another job": lambda _: Reply(202, Answer(uuid4(), True, "running", False, "").encode()),
    "202 that does not accept": lambda r: Reply(202, Answer(r.job_id, False, "queued", False, "").encode()),
    "202 in a state there is not": lambda r: Reply(202, perfect(r).replace(b'"running"', b'"asleep"')),
    "202 without a state": lambda r: Reply(202, perfect(r).replace(b'"state"', b'"mood"')),
    "202 that echoes the trigger": lambda r: Reply(202, r.body),
    "200 with a problem": lambda _: Reply(200, refusal(), PROBLEM_JSON),
}

PROBLEMS: dict[str, Answering] = {
    "a problem of nobody's": lambda _: Reply(400, b'{"type":"about:blank","title":"Bad Request"}', PROBLEM_JSON),
    "a problem of a type there is not": lambda _: Reply(400, refusal().replace(b"malformed", b"boring"), PROBLEM_JSON),
    "a type under another status": lambda _: Reply(404, refusal(), PROBLEM_JSON),
    "a refusal with status 500": lambda _: Reply(500, refusal(), PROBLEM_JSON),
    "a refusal as application/json": lambda _: Reply(400, refusal()),
    "a refusal as text/html": lambda _: Reply(400, refusal(), "text/html"),
    "a refusal without a content type": lambda _: raw(
        f"HTTP/1.1 400 X|content-length: {len(refusal())}", refusal(), then="keep"
    ),
    "a refusal cut short": lambda _: Reply(400, refusal()[:-1], PROBLEM_JSON),
    "a refusal that is not UTF-8": lambda _: Reply(400, refusal().replace(b"because", b"\xff\xfe"), PROBLEM_JSON),
    "a problem of the web's": lambda _: problem(ProblemType.CONFLICT),
}

HALVES: dict[str, Answering] = {
    "half a status line": lambda _: Reply(raw=b"HTTP/1.1 2", then="close"),
    "half a head": lambda _: Reply(raw=b"HTTP/1.1 202 Accepted\r\ncontent-ty", then="close"),
    "half a body": lambda _: HALF,
    "half a chunk": lambda r: raw(f"{OK}|transfer-encoding: chunked", b"ff\r\n" + perfect(r)),
    "no last chunk": lambda r: raw(f"{OK}|transfer-encoding: chunked", b"%x\r\n" % len(perfect(r)) + perfect(r)),
    "a body shorter than it says": lambda r: raw(f"{OK}|content-length: {len(perfect(r)) + 1}", perfect(r)),
    "a body longer than it says": lambda r: raw(f"{OK}|content-length: {len(perfect(r)) - 1}", perfect(r), then="keep"),
    "a reset at once": lambda _: RESET,
    "a reset within the head": lambda _: Reply(raw=b"HTTP/1.1 202 Accepted\r\n", then="reset"),
    "a reset within the body": lambda _: replace(HALF, then="reset"),
    "a close without a word": lambda _: Reply(raw=b"", then="close"),
}

NOT_HTTP: dict[str, Answering] = {
    "another protocol": lambda _: GARBAGE,
    "TLS": lambda _: Reply(raw=b"\x15\x03\x01\x00\x02\x02\x28", then="close"),
    "HTTP/0.9": lambda r: Reply(raw=perfect(r), then="close"),
    "HTTP/9.9": lambda r: raw(f"HTTP/9.9 202 X|content-length: {len(perfect(r))}", perfect(r)),
    "a status in words": lambda r: raw(f"HTTP/1.1 yes|content-length: {len(perfect(r))}", perfect(r)),
    "a length in words": lambda r: raw(f"{OK}|content-length: many", perfect(r)),
    "a negative length": lambda r: raw(f"{OK}|content-length: -1", perfect(r)),
    "two lengths": lambda r: raw(f"{OK}|content-length: {len(perfect(r))}|content-length: 3", perfect(r)),
    "a chunk of no size": lambda r: raw(f"{OK}|transfer-encoding: chunked", b"zz\r\n" + perfect(r)),
    "a header without end": lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\nx-long: " + b"a" * 100_000, then="close"),
    "headers without end": lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, then="close"),
    "compressed": lambda r: Reply(202, gzip.compress(perfect(r)), headers={"content-encoding": "gzip"}),
    "compressed rubbish": lambda _: Reply(202, b"\x1f\x8b" + b"\0" * 50, headers={"content-encoding": "gzip"}),
    "a body of a megabyte": lambda _: Reply(200, b"a" * 2**20, "text/plain"),
    "a body without end": lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n", then="endless"),
}

SECRET = "x-worker-trigger"
ECHOES: dict[str, Answering] = {
    "an echo of the request": lambda r: Reply(
        500, repr(r.lines).encode(), "text/plain", {"x-echo": r.headers[SECRET], "retry-after": r.headers[SECRET]}
    ),
    "an echo as a problem": lambda r: Reply(
        502, refusal().replace(b"because", r.headers[SECRET].encode()), PROBLEM_JSON
    ),
    "an echo as an answer about another job": lambda r: Reply(
        202, Answer(uuid4(), True, "running", False, r.headers[SECRET]).encode()
    ),
    "an echo that is not HTTP": lambda r: Reply(raw=f"{r.headers[SECRET]} ?\r\n\r\n".encode(), then="close"),
}

ENDLESS: dict[str, Answering] = {
    "silence": lambda _: SILENCE,
    "silence after the head": lambda _: raw(f"{OK}|content-length: 100", then="silence"),
    "silence within the body": lambda r: raw(f"{OK}|content-length: 1000", perfect(r), then="silence"),
    "one 102 and no more": lambda _: raw("HTTP/1.1 102 Processing", then="silence"),
}

CLASSES = {
    "statuses": STATUSES,
    "redirects": REDIRECTS,
    "acceptances": ACCEPTANCES,
    "problems": PROBLEMS,
    "halves": HALVES,
    "not HTTP": NOT_HTTP,
    "echoes": ECHOES,
    "endless": ENDLESS,
}


def strangers() -> Iterator[Case]:
    """Every answer that is no worker's, by the document's default."""
    for name, members in CLASSES.items():
        for member, answer in members.items():
            yield Case(member, answer, endless=name == "endless")


def _of(kind: ProblemType, **members: object) -> bytes:
    """A refusal with members set, or left out where they are None."""
    body = {**json.loads(refusal(kind)), **members}
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


# What differs from the document in a way that takes some looking.
NEARLY: dict[str, Answering] = {
    "202 as text/plain": lambda r: Reply(202, perfect(r), "text/plain"),
    "a refusal about another job": lambda _: Reply(
        400, _of(ProblemType.MALFORMED_REQUEST, jobId=str(uuid4())), PROBLEM_JSON
    ),
    "a refusal whose body says 500": lambda _: Reply(400, _of(ProblemType.MALFORMED_REQUEST, status=500), PROBLEM_JSON),
    "a refusal without a title": lambda _: Reply(400, _of(ProblemType.MALFORMED_REQUEST, title=None), PROBLEM_JSON),
    "a refusal without a detail": lambda _: Reply(400, _of(ProblemType.MALFORMED_REQUEST, detail=None), PROBLEM_JSON),
}


def nearly() -> Iterator[Case]:
    """Answers that are nearly a worker's."""
    return (Case(name, answer) for name, answer in NEARLY.items())


def _plain(reply: Reply) -> str:
    lines = {"content-type": reply.content_type, **reply.headers}
    return f"HTTP/1.1 {reply.status} X" + "".join(f"|{name}: {value}" for name, value in lines.items())


WRAPPINGS: dict[str, Callable[[Reply], Reply]] = {
    "after 100": lambda reply: Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" + reply.encoded()),
    "after 103 and 102": lambda reply: Reply(
        raw=b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + reply.encoded()
    ),
    "in chunks": lambda reply: raw(
        f"{_plain(reply)}|transfer-encoding: chunked",
        b"".join(b"1\r\n%c\r\n" % byte for byte in reply.body) + b"0\r\n\r\n",
        then="keep",
    ),
    "until the connection closes": lambda reply: raw(f"{_plain(reply)}|connection: close", reply.body),
    "as HTTP/1.0": lambda reply: raw(_plain(reply).replace("HTTP/1.1", "HTTP/1.0", 1), reply.body),
    "in capitals": lambda reply: raw(
        f"HTTP/1.1 {reply.status} X|CONTENT-TYPE: {reply.content_type.upper()} ; CHARSET=UTF-8"
        f"|CONTENT-LENGTH: {len(reply.body)}"
        + "".join(f"|{name.upper()}: {value}" for name, value in reply.headers.items()),
        reply.body,
        then="keep",
    ),
    "with a cookie": lambda reply: replace(reply, headers={**reply.headers, "set-cookie": "id=1; path=/"}),
}


def wrapped(case: Case) -> Iterator[Case]:
    """A documented answer in every wrapping; its meaning stays."""
    for name, wrap in WRAPPINGS.items():
        yield replace(case, name=f"{case.name} {name}", answer=lambda r, wrap=wrap: wrap(case.answer(r)))


def undocumented_statuses() -> list[int]:
    """Every final status that the document does not have."""
    known = CONTRACT.responses("post", "/process-job")
    return [status for status in range(200, 1000) if str(status) not in known]
