"""What no HTTP library sends: bytes on a socket, to the web role as `outboxkit web` serves it."""

from __future__ import annotations

import json
import socket
from http.client import HTTPResponse
from urllib.parse import urlsplit

import psycopg
import pytest

from contract.web.fuzzing import DEADLINE, PROBLEM
from contract.web.webs import Web, answers
from databases import Database

REPORTS = b"/api/reports"
NOBODY = REPORTS + b"/0198c0de-0000-7000-8000-000000000000"
JSON = b"Content-Type: application/json"
FORM = b"Content-Type: multipart/form-data; boundary=B"
CSV = b"date,symbol,price\n2000-01-01,A,1\n2000-02-01,A,2\n"
GOOD = json.dumps({"title": "t", "csv": CSV.decode()}).encode()
TITLE = b'Content-Disposition: form-data; name="title"\r\n\r\nt'
FILE = b'Content-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n' + CSV
MEGABYTE = b"x" * 1_000_000


def exchange(web: Web, *pieces: bytes) -> HTTPResponse:
    """Send bytes and read the answer to its end; a socket that falls silent fails the test."""
    url = urlsplit(web.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=DEADLINE) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):  # refused already; the answer is there to be read
                break
        response = HTTPResponse(connection, method=pieces[0].partition(b" ")[0].decode("latin-1"))
        response.begin()
        response.body = response.read()  # type: ignore[attr-defined]
        return response


def request(method: bytes, path: bytes, *headers: bytes, body: bytes = b"", sized: bool = True) -> bytes:
    """One request, after which the connection closes."""
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers]
    if sized and body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(path: bytes, *headers: bytes) -> bytes:
    """A GET."""
    return request(b"GET", path, *headers)


def post(body: bytes, *headers: bytes, sized: bool = True) -> bytes:
    """An upload."""
    return request(b"POST", REPORTS, *headers, body=body, sized=sized)


def form(*parts: bytes, boundary: bytes = b"B") -> bytes:
    """A multipart body."""
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


def chunks(*parts: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in (*parts, b""))


def titled(part_headers: bytes, title: bytes) -> bytes:
    """A form whose title is a part of this kind."""
    return form(b'Content-Disposition: form-data; name="title"' + part_headers + b"\r\n\r\n" + title, FILE)


REFUSED = {
    # Not text, or not in UTF-8.
    "latin-1 in the path": (get(b"/caf\xe9"), 400, "malformed-http"),
    "%ff in the path": (get(REPORTS + b"/%ff"), 404, "not-found"),
    "latin-1 in the query": (get(REPORTS + b"?after=\xe9"), 400, "malformed-http"),
    "%ff in the query": (get(REPORTS + b"?after=%ff"), 400, "malformed-request"),
    "a surrogate in the query": (get(REPORTS + b"?after=%ed%a0%80"), 400, "malformed-request"),
    "latin-1 in JSON": (post(b'{"title":"caf\xe9","csv":"x"}', JSON), 400, "malformed-request"),
    "UTF-16": (post(GOOD.decode().encode("utf-16"), JSON), 400, "malformed-request"),
    "a byte order mark": (post(b"\xef\xbb\xbf" + GOOD, JSON), 400, "malformed-request"),
    "a lone surrogate": (post(b'{"title":"\\ud800","csv":"x"}', JSON), 400, "malformed-request"),
    "latin-1 in a title": (post(titled(b"", b"caf\xe9"), FORM), 400, "malformed-request"),
    "latin-1 in a file": (post(form(TITLE, FILE + b"2000-03-01,caf\xe9,1\n"), FORM), 422, "invalid-input"),
    "latin-1 in a file's name": (post(form(TITLE, FILE.replace(b"a.csv", b"\xe9")), FORM), 400, "malformed-request"),
    # NUL.
    "NUL in the path": (get(REPORTS + b"/%00"), 404, "not-found"),
    "NUL in the query": (get(REPORTS + b"?after=%00"), 400, "malformed-request"),
    "NUL in a header": (get(REPORTS, b"X-A: a\0b"), 400, "malformed-http"),
    "NUL in a title": (post(b'{"title":"a\\u0000b","csv":"x"}', JSON), 422, "invalid-input"),
    "NUL in a form's title": (post(titled(b"", b"a\0b"), FORM), 422, "invalid-input"),
    "NUL in a file": (post(b'{"title":"t","csv":"date,symbol,price\\u0000"}', JSON), 422, "invalid-input"),
    # Bodies.
    "no body": (post(b"", JSON, b"Content-Length: 0"), 400, "malformed-request"),
    "deep arrays": (post(b"[" * 100_000 + b"]" * 100_000, JSON), 400, "malformed-request"),
    "deep objects": (post(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, JSON), 400, "malformed-request"),
    "deep in what is ignored": (post(GOOD[:-1] + b',"z":' + b"[" * 100_000, JSON), 400, "malformed-request"),
    "NaN": (post(b'{"title":NaN,"csv":"x"}', JSON), 400, "malformed-request"),
    "a huge number": (post(GOOD[:-1] + b',"n":' + b"9" * 100_000 + b"}", JSON), 400, "malformed-request"),
    "huge": (post(MEGABYTE * 13, JSON), 413, "payload-too-large"),
    "huge in chunks": (
        post(chunks(*[MEGABYTE] * 13), JSON, b"Transfer-Encoding: chunked", sized=False),
        413,
        "payload-too-large",
    ),
    "a huge form in chunks": (
        post(chunks(*[MEGABYTE] * 13), FORM, b"Transfer-Encoding: chunked", sized=False),
        413,
        "payload-too-large",
    ),
    "a huge promise": (post(b"", JSON, b"Content-Length: 99999999999"), 413, "payload-too-large"),
    "a length that is none": (post(b"", JSON, b"Content-Length: x"), 400, "malformed-http"),
    "two lengths": (post(GOOD, JSON, b"Content-Length: 5"), 400, "malformed-http"),
    "length and chunks": (post(chunks(GOOD), JSON, b"Transfer-Encoding: chunked"), 400, "malformed-http"),
    "a chunk without a size": (
        post(b"zz\r\n", JSON, b"Transfer-Encoding: chunked", sized=False),
        400,
        "malformed-http",
    ),
    # Media types.
    "no media type": (post(GOOD), 415, "unsupported-media-type"),
    "text": (post(GOOD, b"Content-Type: text/plain"), 415, "unsupported-media-type"),
    "latin-1 as a media type": (post(GOOD, b"Content-Type: \xe9"), 415, "unsupported-media-type"),
    "something like JSON": (post(GOOD, b"Content-Type: application/x+json"), 415, "unsupported-media-type"),
    "a form without files": (
        post(b"title=t", b"Content-Type: application/x-www-form-urlencoded"),
        415,
        "unsupported-media-type",
    ),
    "another multipart": (
        post(form(TITLE, FILE), b"Content-Type: multipart/mixed; boundary=B"),
        415,
        "unsupported-media-type",
    ),
    # Idempotency keys.
    "an empty key": (post(GOOD, JSON, b"Idempotency-Key:"), 400, "malformed-request"),
    "a long key": (post(GOOD, JSON, b"Idempotency-Key: " + b"k" * 256), 400, "malformed-request"),
    "two keys": (post(GOOD, JSON, b"Idempotency-Key: a", b"Idempotency-Key: b"), 400, "malformed-request"),
    "one key twice": (post(GOOD, JSON, b"Idempotency-Key: a", b"idempotency-key: a"), 400, "malformed-request"),
    "a tab in the key": (post(GOOD, JSON, b"Idempotency-Key: a\tb"), 400, "malformed-request"),
    "latin-1 in the key": (post(GOOD, JSON, b"Idempotency-Key: caf\xe9"), 400, "malformed-request"),
    "NUL in the key": (post(GOOD, JSON, b"Idempotency-Key: a\0"), 400, "malformed-http"),
    "a folded key": (post(GOOD, JSON, b"Idempotency-Key: a\r\n b"), 400, "malformed-http"),
    # Multipart.
    "no boundary": (post(form(TITLE, FILE), b"Content-Type: multipart/form-data"), 400, "malformed-request"),
    "another boundary": (
        post(form(TITLE, FILE), b"Content-Type: multipart/form-data; boundary=C"),
        400,
        "malformed-request",
    ),
    "latin-1 as a boundary": (
        post(form(TITLE, FILE), b"Content-Type: multipart/form-data; boundary=\xe9"),
        400,
        "malformed-request",
    ),
    "a form cut off": (post(form(TITLE, FILE)[:-10], FORM), 400, "malformed-request"),
    "a form cut off in a header": (post(b"--B\r\nContent-Disp", FORM), 400, "malformed-request"),
    "an empty form": (post(b"--B--\r\n", FORM), 422, "invalid-input"),
    "a part without a name": (post(form(b"X: y\r\n\r\nx", FILE), FORM), 400, "malformed-request"),
    "a charset that is unknown": (
        post(titled(b"\r\nContent-Type: text/plain; charset=nope", b"t"), FORM),
        400,
        "malformed-request",
    ),
    "a charset that is no text": (
        post(titled(b"\r\nContent-Type: text/plain; charset=hex", b"6161"), FORM),
        400,
        "malformed-request",
    ),
    "a title that is a file": (post(titled(b'; filename="x"', b"t"), FORM), 422, "invalid-input"),
    "two titles": (post(form(TITLE, TITLE, FILE), FORM), 422, "invalid-input"),
    "two files": (post(form(TITLE, FILE, FILE), FORM), 422, "invalid-input"),
    "3,000 parts": (post(form(TITLE, FILE, *[TITLE] * 3_000), FORM), 400, "malformed-request"),
    "a part with a huge header": (
        post(form(TITLE.replace(b"title", MEGABYTE), FILE), FORM),
        400,
        "malformed-request",
    ),
    "bytes that are no form": (post(b"\0\xff" * 500, FORM), 400, "malformed-request"),
    # Paths and methods.
    "a percent sign alone": (get(REPORTS + b"/%"), 404, "not-found"),
    "dots": (get(b"/api/%2e%2e/health"), 404, "not-found"),
    "the other case": (get(b"/API/reports"), 404, "not-found"),
    "a long path": (get(b"/" + b"a" * 30_000), 404, "not-found"),
    "too long a path": (get(b"/" + MEGABYTE), 431, "headers-too-large"),
    "too long a header": (get(b"/", b"X-A: " + MEGABYTE), 431, "headers-too-large"),
    "a path with a space": (get(b"/a b"), 400, "malformed-http"),
    "an unknown path": (post(GOOD, JSON).replace(REPORTS, b"/nope", 1), 404, "not-found"),
    "below a report": (get(NOBODY + b"/nope"), 404, "not-found"),
    "TRACE": (request(b"TRACE", REPORTS), 405, "method-not-allowed"),
    "PATCH": (request(b"PATCH", NOBODY), 405, "method-not-allowed"),
    "an unknown method": (request(b"FOO", REPORTS), 400, "malformed-http"),
    "a method in lower case": (request(b"get", REPORTS), 400, "malformed-http"),
    "another protocol": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 50, 400, "malformed-http"),
}

ACCEPTED = {
    "latin-1 in a header": (get(REPORTS, b"X-A: \xe9", b"Accept: \xe9", b"Cookie: \xe9=;;", b"traceparent: \xe9"), 200),
    "an encoded letter": (get(b"/%61pi/reports"), 200),
    "a query nobody knows": (get(b"/health?%ff=%00&&=&a"), 200),
    "a body with GET": (request(b"GET", REPORTS, JSON, body=GOOD), 200),
    "chunks": (post(chunks(GOOD[:9], GOOD[9:]), JSON, b"Transfer-Encoding: chunked", sized=False), 201),
    "a media type in capitals": (post(GOOD, b"Content-Type: APPLICATION/JSON; charset=utf-8"), 201),
    "a file without a name": (post(form(TITLE, FILE.replace(b'; filename="a.csv"', b"")), FORM), 201),
    "a quoted boundary": (post(form(TITLE, FILE), b'Content-Type: multipart/form-data; boundary="B"'), 201),
    "the longest key": (post(GOOD, JSON, b"Idempotency-Key: " + b"k" * 255), 201),
    "HEAD": (request(b"HEAD", REPORTS), 200),
    "OPTIONS": (request(b"OPTIONS", REPORTS), 204),
}


def stored(database: Database) -> tuple[int, ...]:
    """How many reports, jobs and keys there are."""
    with psycopg.connect(database.url) as connection:
        tables = ("reports.reports", "outboxkit.jobs", "outboxkit.idempotency_keys")
        return tuple(connection.execute(f"select count(*) from {table}").fetchone()[0] for table in tables)  # type: ignore[index]  # noqa: S608


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_problem(name: str, live: Web, web_database: Database) -> None:
    """The status and the problem that the document has for it, in time, and nothing is stored."""
    sent, status, slug = REFUSED[name]
    before = stored(web_database)
    response = exchange(live, sent)
    assert (response.status, response.headers["content-type"]) == (status, PROBLEM)
    problem = json.loads(response.body)  # type: ignore[attr-defined]
    assert (problem["status"], problem["type"]) == (status, f"urn:outboxkit:problem:{slug}")
    assert bool(response.headers["allow"]) == (status == 405)
    assert stored(web_database) == before


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_is_odd_and_accepted(name: str, live: Web) -> None:
    """What is unusual, but allowed, does what it would do in its usual form."""
    sent, status = ACCEPTED[name]
    assert exchange(live, sent).status == status


@pytest.mark.parametrize("path", [b"/health", REPORTS, REPORTS + b"?limit=0", b"/nope"])
def test_head_says_what_get_says(path: bytes, live: Web) -> None:
    """HEAD has GET's status and headers, and no body."""
    got, head = exchange(live, get(path)), exchange(live, request(b"HEAD", path))
    assert (head.status, head.headers["content-type"]) == (got.status, got.headers["content-type"])
    assert head.body == b""  # type: ignore[attr-defined]


@pytest.mark.parametrize("cut", [10, -10], ids=["in the head", "in the body"])
def test_a_client_that_leaves_is_no_error(cut: int, live: Web, web_database: Database) -> None:
    """A request that stops in the middle stores nothing and is no failure (the log is looked at in the end)."""
    before = stored(web_database)
    url = urlsplit(live.url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=DEADLINE) as connection:
        connection.sendall(post(GOOD, JSON)[:cut])
    assert answers(live.url)
    assert stored(web_database) == before
