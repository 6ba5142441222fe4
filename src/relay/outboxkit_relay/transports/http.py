"""Posts triggers to a worker over HTTP."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import aiohttp
import msgspec
from yarl import URL

from outboxkit.settings import Secret
from outboxkit.traces import parse as parse_traceparent
from outboxkit_contracts import headers
from outboxkit_contracts.actions import classify, no_answer
from outboxkit_contracts.messages import encode_trigger
from outboxkit_relay.credentials import CredentialsError
from outboxkit_relay.identity import IdTokens
from outboxkit_relay.transports import Outcome
from outboxkit_relay.triggers import Trigger

# An answer of the protocol has a few hundred bytes; of anything longer only this much is read.
LONGEST_ANSWER: Final = 64 * 1024

# Below the five seconds after which uvicorn and others close an idle connection: a request that crosses such a close gets no
# answer, and looks like a fault of the endpoint.
IDLE_SECONDS: Final = 3.0


class QuietConnector(aiohttp.TCPConnector):
    """† Hands out a kept-alive connection only if nothing has come on it since its last answer.

    A proxy may say 408 unasked on an idle connection, a server may answer twice. aiohttp would take that for the answer to
    the next trigger, and a refusal of nothing would bury a job that nobody has refused.
    """

    async def _get(self, key: Any, traces: Any) -> Any:
        connection: Any = await super()._get(key, traces)
        while connection is not None and connection.protocol.should_close:
            connection.close()
            connection = await super()._get(key, traces)
        return connection


class HttpTransport:
    """One endpoint, with connections of its own that are kept alive. Made inside a running event loop.

    Redirects are not followed (the secret would go along), nothing is decompressed, no proxy of the environment is used.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: Secret | None,
        wait: int,
        deadline: float,
        connections: int,
        identity: IdTokens | None = None,
        identity_headers: tuple[str, ...] = (),
    ) -> None:
        """`wait` > 0 asks the worker to answer when the job is done, or after so many seconds. `deadline` in seconds.

        With an `identity`, which is this endpoint's own and closed with it, its token goes along in each of these headers.
        """
        self._url = URL(url)
        self._deadline = deadline
        self._identity = identity
        self._identity_headers = identity_headers
        fixed = {
            headers.CONTENT_TYPE: "application/json",
            "accept-encoding": "identity",
            "user-agent": "outboxkit-relay",
        }
        if secret is not None:
            fixed[headers.WORKER_TRIGGER] = secret.reveal()
        if wait > 0:
            fixed[headers.PREFER] = f"wait={wait}"
        self._session = aiohttp.ClientSession(
            connector=QuietConnector(limit=connections, keepalive_timeout=IDLE_SECONDS),
            headers=fixed,
            timeout=aiohttp.ClientTimeout(total=deadline),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def deliver(self, trigger: Trigger) -> Outcome:
        """Post the trigger and judge the answer; whatever goes wrong below HTTP is a fault of the endpoint."""
        if self._identity is None:
            return await self._post(trigger, None)
        return await self._identified(trigger, self._identity)

    async def _identified(self, trigger: Trigger, identity: IdTokens) -> Outcome:
        """Post the trigger with a token, all within the deadline. Without a token nothing is sent."""
        token = ""
        try:
            async with asyncio.timeout(self._deadline):
                token = await identity.token()
                outcome = await self._post(trigger, dict.fromkeys(self._identity_headers, f"Bearer {token}"))
        except CredentialsError as error:
            return Outcome(no_answer(str(error)))
        except TimeoutError as error:
            return Outcome(no_answer(self._describe(error) if token else f"no ID token within {self._deadline:g} s"))
        return _refused(outcome, identity, token) if outcome.status in {401, 403} else outcome

    async def _post(self, trigger: Trigger, bearer: dict[str, str] | None) -> Outcome:
        traceparent = parse_traceparent(trigger.traceparent)
        extra = {headers.TRACEPARENT: traceparent} if traceparent else None
        try:
            async with self._session.post(
                self._url,
                data=encode_trigger(trigger.job_id, trigger.kind),
                headers=extra if bearer is None else bearer | (extra or {}),
                allow_redirects=False,
            ) as response:
                body = await _read(response)
                verdict = classify(
                    response.status,
                    response.headers.get(headers.CONTENT_TYPE),
                    body,
                    response.headers.get(headers.RETRY_AFTER),
                    job_id=trigger.job_id,
                )
                return Outcome(verdict, response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Outcome(no_answer(self._describe(error)))

    async def close(self) -> None:
        """Close every connection, and fetch no more tokens."""
        await self._session.close()
        if self._identity is not None:
            await self._identity.close()

    def _describe(self, error: Exception) -> str:
        """Why there was no answer. Never the error's own text where that may quote what the other side sent."""
        match error:
            case asyncio.TimeoutError():
                return f"no answer within {self._deadline:g} s"
            case aiohttp.ClientConnectorCertificateError() | ssl.SSLCertVerificationError():
                return f"the TLS certificate of {self._url.host} was not accepted"
            case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
                return f"no TLS connection to {self._url.host}:{self._url.port}"
            case aiohttp.ClientConnectorDNSError():
                return f"the name {self._url.host} could not be resolved"
            case aiohttp.ClientConnectorError():
                return f"no connection to {self._url.host}:{self._url.port}: {error.strerror or 'refused'}"
            case aiohttp.ClientPayloadError() | aiohttp.ClientConnectionError() | ConnectionError():
                return "the connection was closed before the answer was whole"
            case aiohttp.ClientResponseError():
                return "what came is not HTTP"
            case _:
                return f"no answer: {type(error).__name__}"


def _refused(outcome: Outcome, identity: IdTokens, token: str) -> Outcome:
    """What is to be done about a token that was not accepted. A worker's own problem says so itself."""
    if outcome.status == 401:
        identity.refused(token)
    verdict = outcome.verdict
    if verdict.problem is not None:
        return outcome
    reason = f"{verdict.reason}; grant roles/run.invoker to {identity.account or 'the account of the ID token'}"
    return msgspec.structs.replace(
        outcome, verdict=msgspec.structs.replace(verdict, reason=f"{reason} (audience {identity.audience})")
    )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, cut off beyond the longest answer; the rest is not waited for, and the connection is closed then."""
    content = response.content
    body = await content.readany()
    while not content.at_eof():
        if len(body) > LONGEST_ANSWER:
            response.close()
            break
        body += await content.readany()
    return body[:LONGEST_ANSWER]
