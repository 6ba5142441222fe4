"""What no HTTP client would send, byte for byte: each gets the document's answer, and the worker goes on."""

from __future__ import annotations

import pytest

from contract.counting import count
from contract.worker import bodies, heads, raw
from contract.worker.case import Case
from contract.worker.scene import Scene, conforms
from workers import Worker

CASES = [
    *bodies.BODIES,
    *bodies.CHUNKS,
    *bodies.LENGTHS,
    *heads.CREDENTIALS,
    *heads.MEDIA_TYPES,
    *heads.LINES,
    *heads.TARGETS,
    *heads.METHODS,
    *heads.PROTOCOLS,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:60])
def test_each_request_gets_its_answer(case: Case, scene: Scene, worker: Worker) -> None:
    """The answer that is due, as the document has it; the connection closes if it must; and the worker runs a job."""
    with raw.connected(worker.address) as connection:
        raw.send(connection, case.sent)
        found = raw.listen(connection, answers=len(case.expected), methods=[case.method] * len(case.expected))
        assert found.outline == list(case.expected), found.answers
        for answer in found.answers:
            conforms(answer, case.method, case.path)
        if case.closes:
            assert found.answers[-1].says_close
            assert raw.is_closed(connection)
    scene.runs_a_job(worker)
    count("worker, raw sockets: requests by hand")
