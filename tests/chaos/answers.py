"""What a worker may answer instead of the truth, as bytes on the wire."""

from outboxkit_contracts.problems import PROBLEM_JSON, Problem, ProblemType


def http(status: int, content_type: str, body: bytes, *headers: str) -> bytes:
    """One HTTP/1.1 answer after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def problem(kind: ProblemType, *headers: str) -> bytes:
    """A problem of the protocol."""
    return http(kind.status, PROBLEM_JSON, Problem.of(kind, "chaos").encode(), *headers)


ANSWERS = {
    "400": problem(ProblemType.MALFORMED_REQUEST),
    "429": problem(ProblemType.WORKER_FULL, "retry-after: 1"),
    "500": problem(ProblemType.INTERNAL_ERROR),
    "503": problem(ProblemType.DRAINING, "retry-after: 1"),
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a login page": http(200, "text/html", b"<h1>Welcome</h1>"),
}
