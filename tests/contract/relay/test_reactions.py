"""What the relay does about each answer is what the document says.

CONTRACT_BATCHES=1000 tries more generated answers; the seed is then a new one each time.
"""

import json
import os
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from contract.relay import cases, strangers
from contract.relay.cases import CONTRACT, Case
from contract.relay.reactions import EARLIER, REACTIONS, SLOW, hold, pace, see
from contract.relay.scene import Scene
from outboxkit_contracts import Action, encode_trigger
from outboxkit_contracts.validation import PROCESS_JOB
from outboxkit_relay.relay import Relay
from relaying import eventually, running
from sink import Reply, Request

EXAMPLES = list(cases.examples())
WAITS = [waiting for case in EXAMPLES if case.wait != (0, 0) for waiting in cases.retry_after(case)]
UNKNOWN_JOB = next(case for case in EXAMPLES if case.slug == "unknown-job")
# An unknown-job is believed only if the job is really absent: that is how the document describes dead-letter.
ABSENT = replace(UNKNOWN_JOB, name="404 unknownJob and the job is gone", job_gone=True)
PRESENT = Case(
    "404 unknownJob and the job is there", UNKNOWN_JOB.answer, status=404, says="the worker uses another database"
)
DOCUMENTED = [case for case in EXAMPLES if case is not UNKNOWN_JOB] + [ABSENT, PRESENT]
# What a wrapping does to an answer does not depend on which of its kind it is.
KINDS = {(case.action, case.slug is None): case for case in DOCUMENTED}.values()
WRAPPED = [wrapped for case in KINDS for wrapped in strangers.wrapped(case)]
STRANGERS = list(strangers.strangers())

NEARLY = [pytest.param(case, id=case.name) for case in strangers.nearly()]

ALONE = {"RELAY_CONCURRENCY": "1", "RELAY_BREAKER_FAULTS": "1"}


def named(case: Case) -> str:
    """For pytest."""
    return case.name


async def one_answer(scene: Scene, case: Case) -> None:
    """One job gets the answer, and one behind it is accepted if the relay still sends: after a fault its breaker is open."""
    await scene.clear()
    [job] = await scene.enqueue_many(1, attempts=EARLIER)
    witness = await scene.enqueue()
    if case.job_gone:
        await scene.db.rows("delete from outboxkit.jobs where id = %s", job)
    scene.provider.answers[job] = case.answer
    [before] = await see(scene.db, job)
    deadline = {"RELAY_DELIVERY_TIMEOUT_SECONDS": "0.2", "RELAY_LEASE_SECONDS": "30"} if case.endless else {}
    await Relay(settings=scene.settings(**ALONE, **pace(case).environ(), **deadline)).once()
    [after] = await see(scene.db, job)
    hold(case, before, after, pace=pace(case))
    blamed = case.action == "endpoint-fault"
    assert scene.provider.job_ids == ([job] if blamed else [job, witness])
    assert await scene.db.outbox() == (case.action not in {"ack", "dead-letter"}) + blamed


@pytest.mark.parametrize("case", DOCUMENTED + WAITS, ids=named)
def test_a_documented_answer(scene: Scene, case: Case) -> None:
    """Each example of the document, and each with every Retry-After: the row, the job and the letters, and the breaker."""
    scene.run(one_answer(scene, case))


@pytest.mark.parametrize("case", WRAPPED, ids=named)
def test_a_documented_answer_in_another_wrapping(scene: Scene, case: Case) -> None:
    """Interim answers, chunks, HTTP/1.0, other spellings: what the answer means stays."""
    scene.run(one_answer(scene, case))


@pytest.mark.parametrize("case", STRANGERS, ids=named)
def test_an_answer_that_the_document_does_not_have(scene: Scene, case: Case) -> None:
    """Neither acknowledged nor buried, nothing counted, and one fault on the breaker's count."""
    scene.run(one_answer(scene, case))


@pytest.mark.parametrize("case", NEARLY)
def test_an_answer_that_is_nearly_a_workers(scene: Scene, case: Case) -> None:
    """The same for a body that differs from the document in one member."""
    scene.run(one_answer(scene, case))


async def many_answers(scene: Scene, answers: list[Case]) -> None:
    """Each of many jobs gets its answer from one running relay, several at once, settled in batches."""
    await scene.clear()
    jobs = await scene.enqueue_many(len(answers), attempts=EARLIER)
    scene.provider.answers.update({job: case.answer for job, case in zip(jobs, answers, strict=True)})
    before = await see(scene.db, *jobs)
    settled = "select not exists (select from outboxkit.outbox where last_error is null)"
    # No breaker: each answer is about its own row.
    async with running(scene.settings(**SLOW.environ(), RELAY_CONCURRENCY="4", RELAY_BREAKER_FAULTS="1000")):
        await eventually(lambda: scene.db.value(settled), what="every answer to be settled")
    assert sorted(scene.provider.job_ids) == sorted(jobs)
    for case, earlier, later in zip(answers, before, await see(scene.db, *jobs), strict=True):
        hold(case, earlier, later, pace=SLOW)


def without_a_bad_release(answers: list[Case]) -> bool:
    """Whether all refusals among the answers are to be believed, in whatever order they come. Here every job exists."""
    assert all(case.slug != "unknown-job" for case in answers)
    return sum(case.action == "dead-letter" for case in answers) <= 4


GENERATED = cases.generated().filter(lambda case: case.slug != "unknown-job") | st.sampled_from(
    [case for case in STRANGERS + WRAPPED if case.slug != "unknown-job" and not case.endless and not case.job_gone]
)


@hypothesis_settings(
    max_examples=int(os.environ.get("CONTRACT_BATCHES", "30")),
    deadline=None,
    derandomize="CONTRACT_BATCHES" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(answers=st.lists(GENERATED, min_size=8, max_size=24).filter(without_a_bad_release))
def test_any_answers_at_once(scene: Scene, answers: list[Case]) -> None:
    """Bodies drawn from the document's schemas, mixed with strangers: each row gets what its own answer says."""
    scene.run(many_answers(scene, answers))


def test_every_status_that_the_document_does_not_have(scene: Scene) -> None:
    """From 200 to 999, each with the body of a perfect answer: all are the endpoint's fault."""
    absent = [
        Case(str(status), lambda r, status=status: Reply(status, strangers.perfect(r)))
        for status in strangers.undocumented_statuses()
    ]
    assert len(absent) > 700
    scene.run(many_answers(scene, absent))


def flaws(case: Case, request: Request) -> list[str]:
    """What in the answer to the request is not as the document has it."""
    reply = case.answer(request)
    found = CONTRACT.flaws_of_answer(
        "post", PROCESS_JOB, reply.status, [("content-type", reply.content_type), *reply.headers.items()], reply.body
    )
    with suppress(ValueError, RecursionError):
        body = json.loads(reply.body)
        if isinstance(body, dict) and body.get("jobId", str(request.job_id)) != str(request.job_id):
            found.append("about another job")
    return found


def test_nothing_is_left_out() -> None:
    """Every status and problem type of the document is among the cases, and every action has its reaction.

    What is added to the document is tried at once, and fails here until it has an example and a known action.
    """
    assert {(case.status, case.slug) for case in DOCUMENTED if case.slug or case.status in (200, 202)} == (
        cases.documented_pairs()
    )
    assert {case.action for case in DOCUMENTED} == set(REACTIONS) == set(Action)
    waits = {(case.status, case.slug) for case in WAITS}
    described = CONTRACT.responses("post", PROCESS_JOB).items()
    assert {str(status) for status, _ in waits} == {s for s, r in described if "Retry-After" in r.get("headers", {})}


def test_every_case_is_what_it_says() -> None:
    """By the document each documented answer conforms, and no stranger's does."""
    request = Request("POST", PROCESS_JOB, {"host": "worker.invalid", "x-worker-trigger": "s"}, encode_trigger(uuid4()))
    for case in EXAMPLES:
        assert flaws(case, request) == [], case.name
    whole = [case for case in [*STRANGERS, *strangers.nearly()] if case.answer(request).raw is None]
    assert len(whole) > 50
    for case in whole:
        assert flaws(case, request) != [], case.name
