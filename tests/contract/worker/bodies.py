"""Bodies, and how they are framed."""

from __future__ import annotations

from contract.worker import raw
from contract.worker.case import (
    BODY,
    FORBIDDEN,
    HEADERS,
    MALFORMED,
    TOO_LARGE,
    UNKNOWN,
    UNREADABLE,
    WRONG_METHOD,
    WRONG_TYPE,
    Case,
    post,
    posted,
    refused,
)
from outboxkit_contracts.messages import MAX_TRIGGER_BYTES

CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
MEGABYTE = b"x" * 1_000_000


def chunks(*pieces: bytes, end: bytes = LAST) -> bytes:
    """The pieces as HTTP's chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def chunked(*pieces: bytes, end: bytes = LAST) -> bytes:
    """A trigger in chunks."""
    return posted(chunks(*pieces, end=end), CHUNKED)


def member(value: bytes) -> bytes:
    """A trigger with one more member."""
    return BODY[:-1] + b", " + value + b"}"


NO_TRIGGERS = {
    "empty": b"",
    "blanks": b" \r\n\t ",
    "cut short": b'{"jobId": "0198',
    "two documents": BODY + BODY,
    "a trailing comma": BODY[:-1] + b",}",
    "single quotes": BODY.replace(b'"', b"'"),
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "NaN": b'{"jobId": NaN}',
    "a number of a thousand digits": b'{"jobId": ' + b"9" * 1000 + b"}",
    "an exponent without end": b'{"jobId": 1e999999999}',
    **{f"a bare {value}": value.encode() for value in ("null", "true", "0", '""', "[]", "{}")},
    "invalid UTF-8 in a value": member(b'"type": "\xff"'),
    "invalid UTF-8 in an unknown member": member(b'"x": "\xc3("'),
    "overlong UTF-8": member(b'"type": "\xc0\xaf"'),
    "a surrogate in UTF-8": member(b'"type": "\xed\xa0\x80"'),
    "half an escaped surrogate": member(b'"type": "\\ud800"'),
    "NUL in type": member(b'"type": "\\u0000"'),
    "NUL in jobId": b'{"jobId": "\\u0000"}',
    "a bare NUL": BODY + b"\0",
    "nested arrays": b"[" * 60_000,
    "nested objects in an unknown member": member(b'"x": ' + b'{"a":' * 13_000),
    "nested and balanced": member(b'"x": ' + b"[" * 32_000 + b"]" * 32_000),
    "two jobIds, the first is none": b'{"jobId": "x", ' + BODY[1:],
    "two jobIds, the last is none": member(b'"jobId": "x"'),
}

BODIES = [
    *(post(name, UNREADABLE, body=body) for name, body in NO_TRIGGERS.items()),
    Case("no body at all", posted(b""), (UNREADABLE,)),
    post("a key in other words", UNKNOWN, body=BODY.replace(b"jobId", b"job\\u0049d")),
    post("as large as allowed", UNKNOWN, body=BODY.ljust(MAX_TRIGGER_BYTES)),
    post("a byte too large", TOO_LARGE, body=BODY.ljust(MAX_TRIGGER_BYTES + 1)),
    post("ten megabytes", TOO_LARGE, body=MEGABYTE * 10),
    post("ten megabytes without credentials", FORBIDDEN, body=MEGABYTE * 10, secret=False),
    Case(
        "ten megabytes, not looked at, on a connection that closes",
        raw.request("POST", "/", b"Connection: close", body=MEGABYTE * 10),
        (WRONG_METHOD,),
        path="/",
        closes=True,
    ),
]

CHUNKS = [
    Case("one chunk", chunked(BODY), (UNKNOWN,)),
    Case("a chunk a byte", chunked(*(bytes([byte]) for byte in BODY)), (UNKNOWN,)),
    Case("no chunk", chunked(), (UNREADABLE,)),
    Case("chunks past the limit", chunked(*[MEGABYTE] * 10), (TOO_LARGE,)),
    Case("an extension", posted(b'31;a="b"\r\n' + BODY + b"\r\n" + LAST, CHUNKED), (UNKNOWN,)),
    Case("the last chunk first", chunked() + chunks(BODY), (UNREADABLE, MALFORMED), closes=True),
    refused("an extension of a megabyte", posted(b"31;a=" + MEGABYTE + b"\r\n" + BODY + LAST, CHUNKED), HEADERS),
    refused("a size in no digits", posted(b"xyz\r\n", CHUNKED)),
    refused("a negative size", posted(b"-1\r\n", CHUNKED)),
    refused("a size past 64 bits", posted(b"f" * 17 + b"\r\n", CHUNKED)),
    refused("more than the size says", posted(b"2\r\nabc\r\n", CHUNKED)),
    refused("a trailer of a megabyte", chunked(BODY, end=b"0\r\nX: " + MEGABYTE + raw.BLANK), HEADERS),
    refused("100,000 trailers", chunked(BODY, end=b"0\r\n" + b"a: b\r\n" * 100_000 + b"\r\n"), HEADERS),
    Case(
        "a secret in a trailer is none",
        raw.request("POST", "/process-job", CHUNKED, secret=False)
        + chunks(BODY, end=b"0\r\nx-worker-trigger: s3cret\r\n\r\n"),
        (FORBIDDEN,),
    ),
    Case(
        "a media type in a trailer is none",
        raw.request("POST", "/process-job", CHUNKED) + chunks(BODY, end=b"0\r\nContent-Type: application/json\r\n\r\n"),
        (WRONG_TYPE,),
    ),
]

LENGTHS = [
    refused("Content-Length, Transfer-Encoding", raw.request("POST", "/process-job", CHUNKED, body=BODY)),
    refused("Transfer-Encoding, Content-Length", posted(chunks(BODY), CHUNKED, b"Content-Length: 5")),
    refused("the same length twice", raw.request("POST", "/process-job", b"Content-Length: 49", body=BODY)),
    refused("two lengths", raw.request("POST", "/process-job", b"Content-Length: 5", body=BODY)),
    *(
        refused(f"Content-Length: {value}", posted(b"", f"Content-Length: {value}".encode()))
        for value in ("-1", "+5", "5, 5", "0x5", "5 5", "five", "1" * 30)
    ),
    *(
        refused(f"Transfer-Encoding: {value}", posted(chunks(BODY), f"Transfer-Encoding: {value}".encode()))
        for value in ("gzip", "xchunked", "identity", "chunked, gzip", "chunked, chunked")
    ),
    Case(
        "gzip, chunked: read as chunks and not unpacked",
        posted(chunks(b"\x1f\x8b\x08"), b"Transfer-Encoding: gzip, chunked"),
        (UNREADABLE,),
    ),
    refused("a coding at an address that reads no body", raw.request("GET", "/health", b"Transfer-Encoding: gzip")),
]
