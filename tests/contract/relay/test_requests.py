"""How the relay speaks: every request as the document has it, over few connections, and no answer for the wrong one."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from contract.relay.scene import Scene
from contract.relay.strangers import refusal
from outboxkit_contracts import PROBLEM_JSON, ProblemType
from outboxkit_relay.relay import Relay
from relaying import eventually, running
from sink import Reply, accepted, problem

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NO_TRACES = {
    "empty": "",
    "all zeros": "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
    "the forbidden version": "ff" + TRACE[2:],
    "capitals": TRACE.upper(),
    "a header behind it": TRACE + "\r\nx-evil: 1",
    "a word": "trace",
}

# What Postgres stores as a kind, which goes out as the trigger's type.
KINDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)


@hypothesis_settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(kinds=st.lists(KINDS, min_size=1, max_size=20), trace=st.booleans())
def test_any_kind_makes_a_request_that_conforms(scene: Scene, kinds: list[str], trace: bool) -> None:
    """Whatever kind a job has, the trigger is valid by the document and carries the kind and the trace unharmed."""

    async def deliver() -> None:
        await scene.clear()
        jobs = {await scene.enqueue(kind, trace=TRACE if trace else None): kind for kind in kinds}
        assert (await Relay(settings=scene.settings()).once()).delivered == len(kinds)
        assert {request.job_id: request.kind for request in scene.provider.requests} == jobs

    scene.run(deliver())


@pytest.mark.parametrize("trace", NO_TRACES.values(), ids=NO_TRACES)
def test_what_is_no_trace_is_left_out(scene: Scene, trace: str) -> None:
    """A malformed traceparent, which any SQL producer may write, is not sent."""

    async def deliver() -> None:
        await scene.clear()
        await scene.db.enqueue(trace=trace)
        assert (await Relay(settings=scene.settings()).once()).delivered == 1
        assert "traceparent" not in scene.provider.requests[0].headers

    scene.run(deliver())


def test_connections_are_kept(scene: Scene) -> None:
    """400 answers, refusals and retries among them, come over as many connections as there are deliveries at once."""

    async def deliver() -> None:
        await scene.clear()
        jobs = await scene.db.enqueue_many(400)
        for job in jobs[::7]:
            scene.provider.answers[job] = lambda _: problem(ProblemType.NOT_DUE, retry_after=60)
        before = scene.provider.connections
        await Relay(settings=scene.settings(RELAY_CONCURRENCY="4")).once()
        assert len(scene.provider.requests) == 400
        assert scene.provider.connections - before <= 4

    scene.run(deliver())


UNASKED = {
    "a refusal": Reply(400, refusal(), PROBLEM_JSON).encoded(),
    "half a refusal": Reply(400, refusal(), PROBLEM_JSON).encoded()[:60],
    "a 408 of a proxy": Reply(408, b"<h1>Timeout</h1>", "text/html", {"connection": "close"}).encoded(),
    "rubbish": b"\0\1\2",
}


@pytest.mark.parametrize("unasked", UNASKED)
def test_what_comes_unasked_answers_nothing(scene: Scene, unasked: str) -> None:
    """† An answer on an idle connection is not taken for the answer to the next trigger: nobody has refused that job."""

    async def deliver() -> None:
        await scene.clear()
        async with running(scene.settings()):
            await scene.enqueue()
            await eventually(scene.db.empty, what="the first trigger to be settled")
            await scene.provider.say(UNASKED[unasked])
            await scene.enqueue()
            await scene.db.wake()
            await eventually(scene.db.empty, what="the second trigger to be settled")
        assert await scene.db.letters() == []
        assert len(scene.provider.requests) == 2
        outcomes = "select outcome, sum(triggers)::int from outboxkit.trigger_stats group by outcome"
        assert await scene.db.rows(outcomes) == [("ack", 2)]

    scene.run(deliver())


def test_two_answers_to_one_request_answer_one(scene: Scene) -> None:
    """† An acceptance with a refusal behind it accepts its own job, and the refusal buries none of the next hundred."""

    async def deliver() -> None:
        await scene.clear()
        job = await scene.enqueue()
        await scene.db.enqueue_many(100)
        scene.provider.answers[job] = lambda r: Reply(raw=accepted(r).encoded() + UNASKED["a refusal"])
        async with running(scene.settings(RELAY_CONCURRENCY="1")):
            await eventually(scene.db.empty, what="every trigger to be settled")
        assert await scene.db.letters() == []
        assert len(scene.provider.requests) == 101

    scene.run(deliver())


def test_an_answer_at_the_door(scene: Scene) -> None:
    """A 503 that is said before the request was read, and the connection closed, is the endpoint's fault and no more."""

    async def deliver() -> None:
        await scene.clear()
        await scene.enqueue()
        scene.provider.greeting = problem(ProblemType.DRAINING, retry_after=1).encoded()
        try:
            async with running(scene.settings(RELAY_MAX_ATTEMPTS="1")):
                error = "select last_error from outboxkit.outbox"
                await eventually(lambda: scene.db.value(error), what="a fault")
                assert await scene.db.value("select attempts from outboxkit.outbox") == 0
        finally:
            scene.provider.greeting = b""
        assert await scene.db.letters() == []

    scene.run(deliver())
