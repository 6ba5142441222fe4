"""Checks the one answer that a worker may give in good faith and be wrong about."""

from __future__ import annotations

import psycopg

from outboxkit_contracts.actions import Action, Verdict, no_answer
from outboxkit_contracts.problems import ProblemType
from outboxkit_relay.transports import Outcome, Transport
from outboxkit_relay.triggers import Pool, Trigger, job_exists


class CheckedTransport:
    """† A transport whose `unknown-job` is believed only if the job's row is really absent here.

    If it is there, the worker looks at another database: that is the endpoint's fault, and every job would be buried for it.
    """

    def __init__(self, transport: Transport, *, pool: Pool) -> None:
        """`pool` leads to the relay's own database."""
        self._transport = transport
        self._pool = pool

    async def deliver(self, trigger: Trigger) -> Outcome:
        """As the transport below; one statement more when the answer is `unknown-job`."""
        outcome = await self._transport.deliver(trigger)
        verdict = outcome.verdict
        if verdict.action is Action.DEAD_LETTER and verdict.problem == ProblemType.UNKNOWN_JOB.slug:
            return Outcome(await self._checked(trigger, verdict), outcome.status)
        return outcome

    async def close(self) -> None:
        """Close the transport below."""
        await self._transport.close()

    async def _checked(self, trigger: Trigger, verdict: Verdict) -> Verdict:
        try:
            async with self._pool.connection() as connection:
                exists = await job_exists(connection, trigger.job_id)
        except psycopg.Error as error:
            reason = f"{verdict.reason}, which could not be checked: {type(error).__name__}"
            return Verdict(Action.RETRY_THEN, reason, verdict.problem)
        if exists:
            return no_answer(f"{verdict.reason}, but the job is there: the worker uses another database")
        return verdict
