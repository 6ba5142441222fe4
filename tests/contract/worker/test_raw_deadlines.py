"""Requests that do not arrive as a whole: 408 in time, whatever is missing, and only to them.

The worker here has the deadlines of `outboxkit worker`, cut to half a second.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from contract.counting import count
from contract.worker import raw
from contract.worker.bodies import CHUNKED
from contract.worker.case import BODY, JSON, posted
from contract.worker.raw import Conversation, connected, request
from contract.worker.scene import Scene, conforms
from outboxkit_cli.http_protocol import HttpProtocol
from outboxkit_contracts.messages import encode_trigger
from workers import Gate, Worker

LATE = (408, "request-timeout")
TRIGGER = request(body=BODY)
HALF_A_HEAD = request()[:-2]
HALF_A_BODY = TRIGGER[:-3]
NO_LAST_CHUNK = posted(b"31\r\n" + BODY + b"\r\n", CHUNKED)


class Hasty(HttpProtocol):
    """The protocol of `outboxkit worker` in a hurry."""

    head_seconds = request_seconds = linger_seconds = 0.5


@pytest.fixture(scope="module")
def worker(scene: Scene) -> Worker:
    """A worker that does not wait long."""
    return scene.start(Hasty)


@pytest.fixture(autouse=True)
def the_worker_goes_on(scene: Scene, worker: Worker) -> Iterator[None]:
    """However slow a client was, the worker runs the next job."""
    yield
    scene.runs_a_job(worker)
    count("worker, raw sockets: slow requests by hand")


def check_late(found: Conversation, *before: int | tuple[int, str]) -> None:
    """After these answers there is one 408, and the connection is closed."""
    assert found.outline == [*before, LATE]
    for answer in found.answers:
        conforms(answer)
    assert found.answers[-1].says_close


def drip(connection: socket.socket, data: bytes, *, then: bytes) -> None:
    """Send the data, and then one piece after the other until there is something to read."""
    connection.sendall(data)
    while not select.select([connection], [], [], 0.05)[0]:
        raw.send(connection, then)


def send_for_ever(connection: socket.socket) -> None:
    """Go on until the other side is gone."""
    while True:
        connection.sendall(b"x" * 100_000)


def wait_for_a_deadline(worker: Worker) -> None:
    """Return when a request that began just now has been given up."""
    check_late(raw.converse(worker.address, b"GET"))


@pytest.mark.parametrize(
    "sent",
    [
        b"P",
        b"POST /process-job",
        HALF_A_HEAD,
        HALF_A_BODY,
        request("POST", "/process-job", JSON, CHUNKED),
        NO_LAST_CHUNK,
    ],
    ids=["a letter", "half a line", "half a head", "half a body", "no chunk", "no last chunk"],
)
def test_a_request_that_stops_in_the_middle(worker: Worker, sent: bytes) -> None:
    """408, and the connection closes."""
    with connected(worker.address) as connection:
        connection.sendall(sent)
        check_late(raw.listen(connection))
        assert raw.is_closed(connection)


@pytest.mark.parametrize(
    ("sent", "then"),
    [
        (HALF_A_HEAD, b"x"),
        (HALF_A_HEAD, b"a: b\r\n"),
        (request("POST", "/process-job", JSON, b"Content-Length: 9999"), b" "),
        (request("POST", "/process-job", JSON, CHUNKED), b"1\r\nx\r\n"),
        (NO_LAST_CHUNK + b"0\r\n", b"a: b\r\n"),
    ],
    ids=["a header", "header lines", "a body", "chunks", "trailers"],
)
def test_a_request_that_drips(worker: Worker, sent: bytes, then: bytes) -> None:
    """The deadline is for all of it: no byte that comes puts it off."""
    with connected(worker.address) as connection:
        drip(connection, sent, then=then)
        check_late(raw.listen(connection))
        assert raw.is_closed(connection)


def test_a_slow_trigger_triggers_nothing(scene: Scene, worker: Worker) -> None:
    """Its job stays queued, with its outbox row."""
    job = scene.jobs.enqueue("NOOP")
    check_late(raw.converse(worker.address, request(body=encode_trigger(job) + b" ")[:-1]))
    assert (scene.jobs.state(job), scene.jobs.triggers(job)) == ("queued", 1)


def test_the_body_of_a_refused_request(worker: Worker) -> None:
    """A client that was answered already is not answered again: the connection closes."""
    with connected(worker.address) as connection:
        drip(connection, request("POST", "/process-job", b"Content-Length: 9999", secret=False), then=b"x")
        assert raw.listen(connection).outline == [(403, "forbidden")]
        drip(connection, b"x", then=b"x")
        assert raw.is_closed(connection)


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
def test_a_connection_without_a_request(worker: Worker, sent: bytes) -> None:
    """It is closed without a word."""
    assert raw.converse(worker.address, sent) == Conversation([], closed=True)


def test_an_empty_line_after_a_request(worker: Worker) -> None:
    """It is no request, so nothing more is said; but the connection does not stay open for it."""
    with connected(worker.address) as connection:
        connection.sendall(request("GET", "/health"))
        assert raw.listen(connection).outline == [200]
        connection.sendall(b"\r\n")
        assert raw.is_closed(connection)


def test_a_client_that_goes_on_sending(worker: Worker) -> None:
    """After a refusal the worker listens for a little while, so that the answer is not lost, and then no more."""
    with connected(worker.address) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        assert raw.listen(connection).outline == [(400, "malformed-http")]
        with pytest.raises(ConnectionError):
            send_for_ever(connection)


class TestWaiting:
    """Requests that have arrived."""

    def test_an_answer_may_take_longer(self, scene: Scene, worker: Worker, gate: Gate) -> None:
        """The deadline is for the request, not for its answer."""
        with connected(worker.address) as connection:
            connection.sendall(scene.trigger("WAIT", b"Prefer: wait=20"))
            gate.await_entry()
            wait_for_a_deadline(worker)
            wait_for_a_deadline(worker)
            gate.open()
            found = raw.listen(connection)
        assert found.outline == [200]
        assert found.answers[0].json["state"] == "succeeded"

    @pytest.mark.parametrize("half", [HALF_A_HEAD, HALF_A_BODY], ids=["a head", "a body"])
    def test_half_a_request_behind_one_that_waits(self, scene: Scene, worker: Worker, gate: Gate, half: bytes) -> None:
        """The refusal of the second does not overtake the answer to the first."""
        with connected(worker.address) as connection:
            connection.sendall(scene.trigger("WAIT", b"Prefer: wait=20") + half)
            gate.await_entry()
            wait_for_a_deadline(worker)
            wait_for_a_deadline(worker)
            gate.open()
            check_late(raw.listen(connection, answers=2), 200)

    def test_a_connection_that_is_used_again(self, scene: Scene, worker: Worker) -> None:
        """Every request has its own deadline."""
        with connected(worker.address) as connection:
            for _ in range(3):
                connection.sendall(HALF_A_HEAD)
                connection.sendall(request()[-2:])
                assert raw.listen(connection).outline == [(415, "unsupported-media-type")]
                wait_for_a_deadline(worker)
            connection.sendall(scene.trigger())
            assert raw.listen(connection).outline == [202]
