"""Good requests, damaged at random: whatever arrives is answered as the document has it, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contract.counting import count
from contract.worker import raw
from contract.worker.bodies import chunked
from contract.worker.case import BODY
from contract.worker.raw import connected, request
from contract.worker.scene import CONTRACT, Scene
from outboxkit_cli.http_protocol import HttpProtocol
from outboxkit_contracts.messages import encode_trigger
from workers import Worker

EXAMPLES = 1000
LAST = request("GET", "/health", b"Connection: close")
OPERATIONS = (("POST", "/process-job"), ("GET", "/health"), ("GET", "/health/ready"), ("GET", "/openapi.yaml"))

Damage = Callable[[bytes], bytes]
positions = st.integers(0, 600)


class Impatient(HttpProtocol):
    """The protocol of `outboxkit worker`; what is half a request is known at once."""

    head_seconds = request_seconds = linger_seconds = 0.05


@pytest.fixture(scope="module")
def worker(scene: Scene) -> Worker:
    """A worker that does not wait for the rest of a request."""
    return scene.start(Impatient)


@pytest.fixture(scope="module")
def requests(scene: Scene, worker: Worker) -> list[bytes]:
    """One for each way of reading: a settled job, an unknown one in chunks, no body at all."""
    job = scene.jobs.enqueue("NOOP")
    worker.trigger(job, x_worker_trigger=raw.SECRET, prefer="wait=20")
    lines = b"Prefer: wait=5", b"Expect: 100-continue", b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067-01"
    settled = request("POST", "/process-job", *lines, body=encode_trigger(job))
    return [settled, chunked(BODY[:20], BODY[20:]), request("GET", "/health/ready"), request("OPTIONS", "/health")]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """One bit is wrong."""
    at %= max(1, len(data))
    return data[:at] + bytes(byte ^ 1 << bit for byte in data[at : at + 1]) + data[at + 1 :]


def lines_moved(data: bytes, source: int, target: int, *, kept: bool) -> bytes:
    """A line stands somewhere else, or twice."""
    lines = data.split(b"\r\n")
    line = lines[source % len(lines)]
    if not kept:
        lines.remove(line)
    lines.insert(target % (len(lines) + 1), line)
    return b"\r\n".join(lines)


damages: st.SearchStrategy[Damage] = st.one_of(
    st.builds(lambda at, bit: lambda d: flipped(d, at, bit), positions, st.integers(0, 7)),
    st.builds(lambda at: lambda d: d[: at % (len(d) + 1)], positions),
    st.builds(lambda at, size: lambda d: d[:at] + d[at + size :], positions, st.integers(1, 40)),
    st.builds(lambda at, size: lambda d: d[: at + size] + d[at:], positions, st.integers(1, 200)),
    st.builds(lambda at, new: lambda d: d[:at] + new + d[at:], positions, st.binary(min_size=1, max_size=8)),
    st.builds(lambda a, b, k: lambda d: lines_moved(d, a, b, kept=k), positions, positions, st.booleans()),
)


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(which=st.integers(0, 3), damage=st.lists(damages, min_size=1, max_size=4))
def test_every_answer_is_a_documented_one(
    which: int, damage: list[Damage], requests: list[bytes], worker: Worker
) -> None:
    """None is a 500, and the connection is closed at the end, by the good request or because of the damaged one."""
    data: bytes = reduce(lambda whole, change: change(whole), damage, requests[which])
    with connected(worker.address) as connection:
        raw.send(connection, data + LAST)
        found = raw.listen(connection, answers=1000)
    assert found.closed
    for answer in found.answers:
        assert answer.status < 500 or answer.slug is None, answer
        assert is_documented(answer), answer
    count("worker, raw sockets: requests damaged at random")


def test_the_worker_goes_on(scene: Scene, worker: Worker) -> None:
    """After all of them it runs a job."""
    scene.runs_a_job(worker)


def is_documented(answer: raw.Answer) -> bool:
    """Whether some operation of the document has this answer; OPTIONS has no operation."""
    if answer.status == 204:
        return True
    parts: Any = (answer.status, answer.headers, answer.body)
    return any(not CONTRACT.flaws_of_answer(*operation, *parts) for operation in OPERATIONS)
