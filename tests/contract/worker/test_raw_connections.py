"""What a client does with its connection: pipelining, waiting, half requests, leaving in the middle."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from contract.counting import count
from contract.worker import raw
from contract.worker.bodies import CHUNKED
from contract.worker.case import BODY, FORBIDDEN, MALFORMED, NOT_FOUND, posted
from contract.worker.raw import Conversation, connected, request
from contract.worker.scene import Scene, conforms
from outboxkit_cli.http_protocol import MAX_PIPELINED
from outboxkit_contracts.messages import encode_trigger
from workers import Gate, Worker

HEALTH = request("GET", "/health")


@pytest.fixture(autouse=True)
def the_worker_goes_on(scene: Scene, worker: Worker) -> Iterator[None]:
    """Whatever a connection was used for, the worker runs the next job."""
    yield
    scene.runs_a_job(worker)
    count("worker, raw sockets: connections by hand")


def check(found: Conversation, *expected: int | tuple[int, str]) -> None:
    """These answers in this order, each as the document has it."""
    assert found.outline == list(expected), found.answers
    for answer in found.answers:
        conforms(answer)


def job_ids(found: Conversation) -> list[str]:
    """The jobs that the answers are about."""
    return [answer.json["jobId"] for answer in found.answers]


class TestPipelining:
    """Several requests in one write."""

    def test_answers_come_in_the_order_of_the_requests(self, scene: Scene, worker: Worker) -> None:
        """Also when earlier ones take longer, and between them are some that fail."""
        wanted = [str(scene.jobs.enqueue("NOOP")) for _ in range(20)]
        nowhere = request("POST", "/nowhere")
        slow, quick = (b"Prefer: wait=20",), ()
        requests = [
            request("POST", "/process-job", *(slow if number % 2 else quick), body=encode_trigger(job)) + nowhere
            for number, job in enumerate(wanted)
        ]
        found = raw.converse(worker.address, b"".join(requests), answers=2 * len(wanted))
        check(found, *[expected for number in range(20) for expected in (200 if number % 2 else 202, NOT_FOUND)])
        assert job_ids(Conversation(found.answers[::2], closed=False)) == wanted

    def test_a_connection_holds_so_many_requests_and_no_more(self, worker: Worker) -> None:
        """Those that wait are answered, then it closes; a client sends the rest again (RFC 9112 §9.3.2)."""
        found = raw.converse(worker.address, HEALTH * (MAX_PIPELINED + 50), answers=MAX_PIPELINED + 50)
        assert found.outline == [200] * (MAX_PIPELINED + 1)
        assert found.closed

    @pytest.mark.parametrize(
        "garbage",
        [
            b"garbage\r\n\r\n",
            request("GET", "/", b"no colon"),
            posted(b"xyz\r\n", CHUNKED),
            posted(b"2\r\nabc", CHUNKED),
        ],
        ids=["no request", "no header line", "no chunk", "more than a chunk"],
    )
    def test_garbage_does_not_overtake_an_answer(
        self, scene: Scene, worker: Worker, gate: Gate, garbage: bytes
    ) -> None:
        """The refusal is about the garbage: what was asked before it is answered before it."""
        with connected(worker.address) as connection:
            connection.sendall(scene.trigger("WAIT", b"Prefer: wait=20") + garbage)
            gate.await_entry()
            gate.open()
            found = raw.listen(connection, answers=3)
        check(found, 200, MALFORMED)
        assert found.answers[0].json["state"] == "succeeded"

    def test_nothing_behind_the_last_request_is_run(self, scene: Scene, worker: Worker) -> None:
        """A client that says close gets no second answer, and its second trigger is no trigger."""
        job = scene.jobs.enqueue("NOOP")
        last = request("GET", "/health", b"Connection: close")
        found = raw.converse(worker.address, last + request(body=encode_trigger(job)), answers=2)
        assert (found.outline, found.closed) == ([200], True)
        assert (scene.jobs.state(job), scene.jobs.triggers(job)) == ("queued", 1)

    def test_an_early_answer_does_not_end_the_connection(self, scene: Scene, worker: Worker) -> None:
        """A body that nobody reads is passed over, and the next request is read after it."""
        refused = request(body=BODY.ljust(500_000), secret=False)
        found = raw.converse(worker.address, refused + scene.trigger(), answers=2)
        check(found, FORBIDDEN, 202)

    def test_a_body_behind_an_upgrade_is_no_request(self, scene: Scene, worker: Worker) -> None:
        """However it is cut into writes: a server that ignores Upgrade must read the body all the same."""
        hidden = scene.jobs.enqueue("NOOP")
        lines = b"Connection: Upgrade", b"Upgrade: h2c"
        body = request(body=encode_trigger(hidden))
        for split in (False, True):
            whole = request("POST", "/process-job", *lines, body=body) + HEALTH
            pieces = whole.partition(raw.BLANK) if split else (whole,)
            found = raw.converse(worker.address, *pieces, answers=2)
            assert found.outline[0] == (400, "malformed-request")
            assert found.outline[1] == 200
        assert scene.jobs.state(hidden) == "queued"


class TestInPieces:
    """Requests in many writes."""

    def test_a_byte_at_a_time(self, scene: Scene, worker: Worker) -> None:
        """A request is the same however it is cut."""
        check(raw.converse(worker.address, *(bytes([byte]) for byte in scene.trigger())), 202)

    def test_the_body_is_asked_for(self, scene: Scene, worker: Worker) -> None:
        """Expect: 100-continue is answered by 100, and then by the answer; without credentials by that at once."""
        head, _, body = scene.trigger("NOOP", b"Expect: 100-continue").partition(raw.BLANK)
        with connected(worker.address) as connection:
            connection.sendall(head + raw.BLANK)
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            check(raw.listen(connection), 202)
        with connected(worker.address) as connection:
            connection.sendall(head.replace(b"s3cret", b"guess") + raw.BLANK)
            assert connection.recv(10_000).startswith(b"HTTP/1.1 403 ")

    @pytest.mark.parametrize(
        ("line", "status"),
        [
            (b"Prefer: \xff;;,=", 202),
            (b"Prefer: wait=-1", 202),
            (b'Prefer: "wait=5', 202),
            (b"Prefer: wait=99999999999999999999", 200),
            (b"Prefer: respond-async\r\nPrefer: wait=20", 200),
            (b"traceparent: \xff", 202),
            (b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntraceparent: 00", 202),
            (b"X-CloudTasks-TaskRetryCount: \xff", 202),
        ],
        ids=repr,
    )
    def test_lines_that_decide_nothing(self, scene: Scene, worker: Worker, line: bytes, status: int) -> None:
        """What cannot be understood is ignored, and what is sent in two lines is read as one; the job is run."""
        check(raw.converse(worker.address, scene.trigger("NOOP", line)), status)

    def test_two_job_ids_are_one_job(self, scene: Scene, worker: Worker) -> None:
        """The last of them is run, the other one is left alone."""
        first, last = scene.jobs.enqueue("NOOP"), scene.jobs.enqueue("NOOP")
        body = f'{{"jobId": "{first}", "jobId": "{last}"}}'.encode()
        found = raw.converse(worker.address, request("POST", "/process-job", b"Prefer: wait=20", body=body))
        check(found, 200)
        assert job_ids(found) == [str(last)]
        assert scene.jobs.state(first) == "queued"


class TestLeaving:
    """Clients that do not stay."""

    @pytest.mark.parametrize("reset", [False, True])
    @pytest.mark.parametrize("sent", [0.1, 0.5, 0.99])
    def test_a_client_that_leaves_in_the_middle(self, scene: Scene, worker: Worker, sent: float, reset: bool) -> None:
        """Half a trigger is none: its job stays queued, and so does its outbox row."""
        job = scene.jobs.enqueue("NOOP")
        whole = request(body=encode_trigger(job))
        with connected(worker.address) as connection:
            connection.sendall(whole[: int(len(whole) * sent)])
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        scene.runs_a_job(worker)
        assert (scene.jobs.state(job), scene.jobs.triggers(job)) == ("queued", 1)

    def test_a_client_that_leaves_while_it_waits(self, scene: Scene, worker: Worker, gate: Gate) -> None:
        """Its job runs to the end."""
        job = scene.jobs.enqueue("WAIT")
        with connected(worker.address) as connection:
            connection.sendall(request("POST", "/process-job", b"Prefer: wait=20", body=encode_trigger(job)))
            gate.await_entry()
        gate.open()
        scene.jobs.await_state(job, "succeeded")

    def test_a_client_that_closes_its_half(self, scene: Scene, worker: Worker) -> None:
        """It may get no answer, as after any lost connection; the job is run, or can be triggered again."""
        job = scene.jobs.enqueue("NOOP")
        with connected(worker.address) as connection:
            connection.sendall(request(body=encode_trigger(job)))
            connection.shutdown(socket.SHUT_WR)
            found = raw.listen(connection)
        assert found.outline in ([], [202])
        response = worker.trigger(job, x_worker_trigger=raw.SECRET, prefer="wait=20")
        assert response.status_code in (200, 202)
        scene.jobs.await_state(job, "succeeded")

    def test_many_clients_that_say_half_a_word(self, scene: Scene, worker: Worker) -> None:
        """Two hundred open connections with half a request on each do not keep the worker from its work."""
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connected(worker.address)).sendall(HEALTH[:-3])
            scene.runs_a_job(worker)


def test_an_answer_that_is_not_read_waits(scene: Scene, worker: Worker) -> None:
    """A client that sends and does not read holds up nobody else."""
    options: Any = (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with connected(worker.address) as connection:
        connection.setsockopt(*options)
        connection.sendall(request("GET", "/openapi.yaml") * 50)
        scene.runs_a_job(worker)
