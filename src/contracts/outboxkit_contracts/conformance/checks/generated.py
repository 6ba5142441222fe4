"""Requests that schemathesis generates from the document: well-formed ones, and ones that break its schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from outboxkit_contracts import document
from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.outcomes import Failed
from outboxkit_contracts.conformance.probe import Probe, described, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.conformance.target import Level
from outboxkit_contracts.validation import PROCESS_JOB

if TYPE_CHECKING:
    import requests
    from schemathesis import Case

_REFUSALS: Final = {(400, "malformed-request"), (413, "payload-too-large"), (415, "unsupported-media-type")}
_OF_THE_CLIENT: Final = {
    "user-agent",
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "x-schemathesis-testcaseid",
}


@check("generated.triggers", "#/components/schemas/Trigger", level=Level.FULL)
def triggers(probe: Probe) -> None:
    """Generated triggers, for jobs that do not exist, are read."""

    def judge(answer: Exchange) -> None:
        expect(answer, 404, "unknown-job", "a generated trigger")

    _each(probe, "positive", judge)


@check("generated.rubbish", "#/paths/~1process-job/post/responses/400", level=Level.FULL)
def rubbish(probe: Probe) -> None:
    """Generated requests that break the schema of a trigger are refused."""

    def judge(answer: Exchange) -> None:
        if (answer.status, answer.slug) not in _REFUSALS:
            raise Failed(
                f"a generated request that is no trigger is to be refused; the answer is {described(answer)}", answer
            )

    _each(probe, "negative", judge)


def _each(probe: Probe, mode: Literal["positive", "negative"], judge: Callable[[Exchange], None]) -> None:
    """Send as many requests as the target asks for; the same ones every time."""
    # Imported here: it costs a second, which the other checks need not wait for.
    import requests
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis import GenerationMode
    from schemathesis.config import SchemathesisConfig

    config = SchemathesisConfig.from_dict({"generation": {"with-security-parameters": False}})
    operation = schemathesis.openapi.from_path(document.find(), config=config)[PROCESS_JOB]["POST"]

    @seed(0)
    @settings(
        max_examples=probe.target.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
    def send(case: Case[Any]) -> None:
        judge(_sent(probe, case, session))

    # The session keeps connections, and takes no proxy or credentials from this machine's environment.
    with requests.Session() as session:
        session.trust_env = False
        send()


def _sent(probe: Probe, case: Case[Any], session: requests.Session) -> Exchange:
    """Send one generated request, with the right credentials, and hold its answer against the document."""
    lines = dict((*probe.target.headers, *probe.credentials()))
    try:
        response = case.call(
            base_url=probe.target.base,
            headers=lines,
            timeout=probe.target.deadline,
            session=session,
            allow_redirects=False,
        )
    except OSError as error:  # every exception of requests is one
        raise Failed(
            f"no answer to a generated request: {type(error).__name__}", command=case.as_curl_command()
        ) from None
    request = response.request
    body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
    exchange = probe.record(
        request.method or "",
        PROCESS_JOB,
        tuple((name, str(value)) for name, value in request.headers.items() if name.lower() not in _OF_THE_CLIENT),
        body,
    )
    exchange.status, exchange.body, exchange.seconds = response.status_code, response.content, response.elapsed
    exchange.answered = tuple((name, value) for name, values in response.headers.items() for value in values)
    probe.judge(exchange)
    return exchange
