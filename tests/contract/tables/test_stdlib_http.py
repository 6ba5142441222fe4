"""examples/stdlib-worker on the wire: what no client library sends, and a broken or hostile one does."""

import socket

from contract.tables.conftest import Start
from contract.tables.stdlib_worker import SECRET, StdlibWorker


def raw(worker: StdlibWorker, content: bytes, *, finish: bool = False) -> bytes:
    """Everything that comes back for these bytes until the worker closes the connection."""
    with socket.create_connection(("127.0.0.1", worker.port), 30) as connection:
        connection.sendall(content)
        if finish:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def head(*lines: str) -> bytes:
    """The head of a trigger, with these lines too."""
    fixed = (
        "POST /process-job HTTP/1.1",
        "Host: worker",
        f"x-worker-trigger: {SECRET}",
        "Content-Type: application/json",
    )
    return "".join(f"{line}\r\n" for line in (*fixed, *lines)).encode() + b"\r\n"


def test_no_http(start: Start) -> None:
    """What is no HTTP, or has two lengths, is refused once, and the connection closed."""
    worker = start()
    chunk = b"2\r\n{}\r\n0\r\n\r\n"
    for content in (
        b"\x16\x03\x01\r\n\r\n",
        head("Content-Length: 2", "Transfer-Encoding: chunked") + chunk,
        head("Content-Length: 2", "Content-Length: 3") + b"{} ",
        head("Content-Length: +2") + b"{}",
        head("Transfer-Encoding: gzip, chunked") + chunk,
        head("Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
        head("Content-Length : 2") + b"{}",
        head("X: a", " b", "Content-Length: 2") + b"{}",
        head("X: a\rContent-Length: 2") + b"{}",
        head("Content-Length: 2").replace(b"\r\n", b"\n") + b"{}",
        head("Content-Length: 2").replace(b"Host: worker\r\n", b"") + b"{}",
    ):
        answer = raw(worker, content)
        assert (answer.startswith(b"HTTP/1.1 400 "), answer.count(b"HTTP/1.1 4"), b"malformed-http" in answer) == (
            True,
            1,
            True,
        )
    large = raw(worker, head(*["X: " + "x" * 1000] * 40))
    assert (large.startswith(b"HTTP/1.1 431 "), b"headers-too-large" in large) == (True, True)


def test_bodies_in_chunks_and_requests_at_once(start: Start) -> None:
    """Chunks with extensions and trailers are read, and requests that come together are answered in order."""
    worker = start()
    chunked = head("Transfer-Encoding: chunked") + b"1;x=y\r\n{\r\n1\r\n}\r\n0\r\nTrailer: x\r\n\r\n"
    asked = head("Content-Length: 2", "Expect: 100-continue") + b"{}"
    last = head("Content-Length: 4", "Connection: close") + b"null"
    answer = raw(worker, chunked + asked + last)
    assert answer.count(b"HTTP/1.1 400 ") == answer.count(b"malformed-request") == 3
    assert answer.count(b"HTTP/1.1 100 ") == answer.count(b"Connection: close") == 1


def test_slow_request_is_given_up(start: Start) -> None:
    """A request that does not arrive in time is answered 408, however it dribbles."""
    worker = start(change=("http1", "REQUEST_SECONDS", 0.3))
    for begun in (b"POST /proc", head("Content-Length: 100") + b"{"):
        answer = raw(worker, begun)
        assert (answer.startswith(b"HTTP/1.1 408 "), b"request-timeout" in answer) == (True, True)
