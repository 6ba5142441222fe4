"""The benchmarks' sink speaks HTTP well enough for a relay to believe it."""

from uuid import uuid4

import msgspec

from benchmarks.sink import answer, split_request
from outboxkit_contracts.actions import Action, classify
from outboxkit_contracts.messages import encode_trigger


def request(body: bytes) -> bytes:
    """One POST."""
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_a_request_is_found_wherever_the_network_cuts_it() -> None:
    """Until the last byte is there, there is no request; what comes after it is kept."""
    whole = request(b"{}")
    assert all(split_request(whole[:cut]) is None for cut in range(len(whole)))
    assert split_request(whole) == (b"{}", b"")
    assert split_request(whole + b"POST") == (b"{}", b"POST")


def test_its_answer_is_one_that_acknowledges_the_job() -> None:
    """A relay takes the answer for a worker's: status 202, the job's own id."""
    job_id = uuid4()
    assert msgspec.json.decode(encode_trigger(job_id, "KIND"))["jobId"] == str(job_id)
    head, _, body = answer(str(job_id).encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202 ")
    verdict = classify(202, "application/json", body, None, job_id=job_id)
    assert verdict.action is Action.ACK
