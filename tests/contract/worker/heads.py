"""Request lines and header lines."""

from __future__ import annotations

from contract.worker import raw
from contract.worker.case import (
    BODY,
    FORBIDDEN,
    HEADERS,
    MALFORMED,
    NOT_FOUND,
    UNKNOWN,
    WRONG_METHOD,
    WRONG_TYPE,
    Case,
    post,
    refused,
    to,
)
from outboxkit_contracts.messages import MAX_HEADER_BYTES

SECRET = b"x-worker-trigger: s3cret"
GUESS = b"x-worker-trigger: guess"
TRIGGER = raw.request(body=BODY)
OTHER_TYPES = (
    "text/plain",
    "application/json+x",
    "application/jsonx",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "json",
    ";",
    "*/*",
    "application/json, text/plain",
    "äpplication/json",
)
NOWHERE = (
    "/..",
    "/../process-job",
    "/a/../process-job",
    "/.%2e/process-job",
    "/process-job//x",
    "/process-job%00",
    "/process-job%0d%0aX:x",
    "/Process-Job",
    "/%ff",
    "/%",
    "/%zz",
    "/favicon.ico",
    "/" + "a/" * 2000,
)
NO_FILES = ("..%2f..%2fpyproject.toml", "..%2f__init__.py", "../app.py", "index.html", "%00", "x/y")


def with_lines_of(size: int) -> bytes:
    """A trigger whose header lines have just so many bytes."""
    head, _, body = TRIGGER.partition(raw.BLANK)
    lines = len(head.partition(b"\r\n")[2]) + len("\r\nX: \r\n")
    return head + b"\r\nX: " + b"x" * (size - lines) + raw.BLANK + body


def line(text: bytes) -> bytes:
    """A trigger with one more line."""
    return raw.request("POST", "/process-job", text, body=BODY)


CREDENTIALS = [
    post("no credentials", FORBIDDEN, secret=False),
    post("the secret twice", FORBIDDEN, SECRET),
    post("a wrong secret first", FORBIDDEN, GUESS, SECRET, secret=False),
    post("a wrong secret last", FORBIDDEN, GUESS),
    post("the header's name in capitals", UNKNOWN, SECRET.replace(b"x-w", b"X-W"), secret=False),
    post("blanks before the secret", UNKNOWN, b"x-worker-trigger:\t s3cret", secret=False),
]

MEDIA_TYPES = [
    post("no media type", WRONG_TYPE, json_type=False),
    post("an empty media type", WRONG_TYPE, b"Content-Type:", json_type=False),
    post("a second media type", WRONG_TYPE, b"Content-Type: text/plain"),
    post("the media type twice", WRONG_TYPE, b"Content-Type: application/json"),
    *(post(name, WRONG_TYPE, f"Content-Type: {name}".encode("latin-1"), json_type=False) for name in OTHER_TYPES),
    *(
        post(name, UNKNOWN, f"Content-Type: {name}".encode(), json_type=False)
        for name in ("application/json;charset=utf-8", "APPLICATION/JSON", "application/json ;x")
    ),
]

LINES = [
    refused("NUL in a value", line(b"X: a\0b")),
    refused("a control character in a value", line(b"X: a\x01b")),
    refused("NUL in a name", line(b"X\0: a")),
    refused("no colon", line(b"X")),
    refused("no name", line(b": x")),
    refused("a blank before the colon", line(b"X : x")),
    refused("a folded line", line(b"X: a\r\n b")),
    refused("a first line that is folded", TRIGGER.replace(b"Host:", b" Host:")),
    refused("a bare line feed", line(b"X: a\nY: b")),
    refused("a bare carriage return", line(b"X: a\rY: b")),
    post("bytes past ASCII in a value", UNKNOWN, b"X: \xff\xfe"),
    Case("no Host", TRIGGER.replace(b"Host: worker\r\n", b""), (UNKNOWN,)),
    Case("an empty Host", TRIGGER.replace(b"Host: worker", b"Host:"), (UNKNOWN,)),
    Case("a Host that is none", TRIGGER.replace(b"Host: worker", b"Host: ///\xff:x"), (MALFORMED,)),
    post("Prefer that says nothing", UNKNOWN, b"Prefer: wait=, wait=-1, \xff;;,="),
    post("traceparent that is none", UNKNOWN, b"traceparent: \xff-00-\xe4"),
    post("Expect: 100-continue", UNKNOWN, b"Expect: 100-continue"),
    post("Expect: anything", UNKNOWN, b"Expect: anything"),
    post("Upgrade: the body is read as the body", UNKNOWN, b"Connection: Upgrade", b"Upgrade: h2c"),
    Case("header lines as large as allowed", with_lines_of(MAX_HEADER_BYTES), (UNKNOWN,)),
    refused("header lines a byte too large", with_lines_of(MAX_HEADER_BYTES + 1), HEADERS),
    refused("header lines of ten megabytes", with_lines_of(10_000_000), HEADERS),
    refused("100,000 header lines", line(b"\r\n".join([b"a: b"] * 100_000)), HEADERS),
    refused("a name of 100,000 letters", line(b"x" * 100_000 + b": x"), HEADERS),
    refused("a target of 100,000 letters", TRIGGER.replace(b"-job", b"-job?" + b"x" * 100_000), HEADERS),
    refused("a target of ten megabytes", TRIGGER.replace(b"-job", b"-job?" + b"x" * 10_000_000), HEADERS),
]

TARGETS = [
    Case("absolute form", raw.request("POST", "http://elsewhere:1/process-job", body=BODY), (UNKNOWN,)),
    refused("absolute form without a path", raw.request("GET", "http://elsewhere")),
    Case("asterisk form", raw.request("OPTIONS", "*"), (NOT_FOUND,), "OPTIONS", "*"),
    refused("authority form", raw.request("CONNECT", "worker:443")),
    *(
        Case(target, raw.request("POST", target, body=BODY), (UNKNOWN,))
        for target in ("/process-job?a=b&a=%FF", "/process%2Djob", "/process-job/", "//process-job//")
    ),
    *(to("POST", target, NOT_FOUND) for target in NOWHERE),
    *(to("GET", target, NOT_FOUND) for target in (*NOWHERE, *(f"/docs/{name}" for name in NO_FILES))),
    refused("a blank in the target", raw.request("GET", "/a b")),
    refused("no target", b"GET HTTP/1.1" + raw.BLANK),
    refused("a target without a slash", raw.request("GET", "health")),
    refused("bytes past ASCII in the target", b"GET /\xff HTTP/1.1" + raw.BLANK),
]

METHODS = [
    *(
        to(method, "/health", WRONG_METHOD)
        for method in ("POST", "TRACE", "DELETE", "PATCH", "PUT", "PROPFIND", "QUERY")
    ),
    *(to(method, "/process-job", WRONG_METHOD) for method in ("GET", "TRACE", "PUT", "PROPFIND", "QUERY")),
    to("HEAD", "/process-job", 405),
    *(to("OPTIONS", path, 204) for path in ("/process-job", "/", "/health", "/health/ready", "/openapi.yaml")),
    *(to(method, path, 200) for method in ("GET", "HEAD") for path in ("/", "/health", "/health/ready")),
    *(to(method, "/openapi.yaml", 200) for method in ("GET", "HEAD")),
    to("GET", "/health", 200, b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    Case("a body where none belongs", raw.request("GET", "/health", body=BODY), (200,), "GET", "/health"),
    refused("a method in small letters", raw.request("post", body=BODY)),
    refused("an unknown method", raw.request("BREW")),
    refused("a method without end", b"X" * 1_000_000),
]

PROTOCOLS = [
    refused("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    refused("TLS", bytes.fromhex("16030100f8010000f40303") + b"\x7f" * 200),
    refused("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    refused("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    refused("NULs", b"\0" * 10_000),
    *(refused(f"HTTP/{number}", raw.request("GET", "/", version=number)) for number in ("1.2", "3.0", "11", "x")),
    Case("empty lines first", b"\r\n\r\n" + TRIGGER, (UNKNOWN,)),
    Case("HTTP/0.9", b"GET /health\r\n\r\n", (200,), "GET", "/health"),
    Case("HTTP/1.0", raw.request(body=BODY, version="1.0"), (UNKNOWN,), closes=True),
    Case(
        "HTTP/1.0, keep-alive",
        raw.request("POST", "/process-job", b"Connection: keep-alive", body=BODY, version="1.0"),
        (UNKNOWN,),
        closes=True,
    ),
    Case("Connection: close", line(b"Connection: close"), (UNKNOWN,), closes=True),
]
