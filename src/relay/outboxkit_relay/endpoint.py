"""One endpoint: what is known about it, and what its answers mean for a row."""

from __future__ import annotations

import logging
from typing import Final

from outboxkit.clipping import clip
from outboxkit_contracts.actions import Action, Verdict
from outboxkit_relay.age import ServiceTime
from outboxkit_relay.backoff import Backoff
from outboxkit_relay.breaker import Breaker
from outboxkit_relay.decisions import Ack, Bury, Decision, Retry
from outboxkit_relay.evidence import Evidence
from outboxkit_relay.transports import Outcome, Transport
from outboxkit_relay.triggers import Queues, Trigger
from outboxkit_relay.window import Window

log = logging.getLogger(__name__)

_ACK: Final = Ack()


class Endpoint:
    """A worker's address with the queues that lead there. Every relay has its own opinion of it, kept in memory.

    `judge` is where answers become decisions; it does no I/O.
    """

    def __init__(
        self,
        *,
        name: str,
        queues: Queues,
        transport: Transport,
        breaker: Breaker,
        window: Window,
        backoff: Backoff,
        max_attempts: int,
    ) -> None:
        """`name` is for people. `max_attempts` failures that count are a row's last."""
        self.name = name
        self.queues = queues
        self.transport = transport
        self.breaker = breaker
        self.window = window
        self.service = ServiceTime()
        self._serving = False
        self._backoff = backoff
        self._max_attempts = max_attempts
        self._evidence = Evidence()

    def serve(self, serving: bool) -> None:
        """Tell whether triggers are to be sent here. Service time passes only then, and while the breaker is closed."""
        self._serving = serving
        if serving and not self.breaker.is_open:
            self.service.resume()
        else:
            self.service.pause()

    def judge(self, trigger: Trigger, outcome: Outcome, *, sent_at: float, now: float) -> Decision:
        """What is to become of the row, `sent_at` and `now` on one monotonic clock. Also what the endpoint is held to be."""
        was_open = self.breaker.is_open
        decision = self._decide(trigger, outcome, sent_at, now)
        if self.breaker.is_open is not was_open:
            self._turned(outcome.verdict)
        return decision

    def _decide(self, trigger: Trigger, outcome: Outcome, sent_at: float, now: float) -> Decision:
        verdict = outcome.verdict
        match verdict.action:
            case Action.ACK:
                self.breaker.acked()
                self.window.acked()
                self._evidence.acked()
                return _ACK if outcome.custody is None else Ack(outcome.custody)
            case Action.RETRY:
                self.breaker.answered()
                return self._failed(trigger, outcome, counted=True)
            case Action.RETRY_THEN:
                self.breaker.answered()
                return self._failed(trigger, outcome, counted=False)
            case Action.SLOW_DOWN:
                self.breaker.answered()
                self.window.full(sent_at=sent_at, now=now)
                return self._failed(trigger, outcome, counted=False)
            case Action.DEAD_LETTER:
                if self.breaker.refused():
                    return Bury(reason=verdict.problem or "refused", error=_text(verdict), status=outcome.status)
            case Action.ENDPOINT_FAULT:
                self.breaker.faulted(retry_after=verdict.retry_after)
        # A refusal that was not believed comes here too.
        return self._failed(trigger, outcome, counted=self._evidence.counts(trigger.id), fault=True)

    def _failed(self, trigger: Trigger, outcome: Outcome, *, counted: bool, fault: bool = False) -> Decision:
        verdict = outcome.verdict
        error = _text(verdict)
        if counted and trigger.attempts + 1 >= self._max_attempts:
            return Bury(reason=verdict.problem or "endpoint-fault", error=error, status=outcome.status)
        # After a fault at least the shortest backoff whole: the next probe finds another row first.
        at_least = max(verdict.retry_after or 0.0, self._backoff.ceiling(0) if fault else 0.0)
        return Retry(delay=self._backoff.delay(trigger.attempts, at_least=at_least), counted=counted, error=error)

    def _turned(self, verdict: Verdict) -> None:
        self.serve(self._serving)
        if self.breaker.is_open:
            log.warning("%s: sending stops, first probe in %.1f s: %s", self.name, self.breaker.wait(), _text(verdict))
        else:
            log.info("%s: sending again", self.name)


def _text(verdict: Verdict) -> str:
    return clip(f"{verdict.reason}: {verdict.message}" if verdict.message else verdict.reason)
