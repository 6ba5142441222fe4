"""A worker that cases are sent to, whichever way it is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from litestar import Litestar
from schemathesis import Case
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from contract.counting import count
from contract.worker import raw
from contract.worker.fuzzing import (
    DEADLINE,
    PROCESS_JOB,
    answers_as,
    conforms,
    is_trigger,
    is_valid,
    operation_of,
    state_for,
)
from contract.worker.jobs import State, Stock


class Renewed:
    """An ASGI application that `make` makes anew whenever it is started.

    Schemathesis ends the lifespan after each test, and a worker that has shut down takes no jobs any more.
    """

    make: Callable[[], Litestar]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand over to the application that was started last."""
        if scope["type"] == "lifespan":
            self._app = self.make()
        await self._app(scope, receive, send)


@dataclass(frozen=True)
class Reached:
    """`way` says how it is reached, `call` is what schemathesis needs for that, `stock` are the jobs it can find."""

    way: str
    call: dict[str, Any]
    stock: Stock

    def try_out(self, case: Case, state: State | None = None) -> None:
        """Send the case with credentials, and demand everything of the answer.

        A valid trigger is about a job in the given state; in one by chance when none is given.
        """
        checks: list[Any] = [conforms]
        if is_trigger(case) and is_valid(case):
            state = state or state_for(case)
            case.body = {**case.body, "jobId": str(self.stock.take(state))}
            checks.append(answers_as(state))
        count(f"worker, {self.way}: {case.operation.label}")
        case.call_and_validate(headers=self.headers, additional_checks=checks, timeout=DEADLINE, **self.call)

    def try_out_without_credentials(self, case: Case) -> None:
        """Send the case with whatever credentials schemathesis made up, where some are due: nobody learns about a job."""
        if operation_of(case) != PROCESS_JOB:
            return
        count(f"worker, {self.way}, without credentials: {case.operation.label}")
        response = case.call(timeout=DEADLINE, **self.call)
        case.validate_response(
            response,
            additional_checks=[conforms],
            excluded_checks=[positive_data_acceptance, negative_data_rejection],
            transport_kwargs=self.call,
        )
        if is_trigger(case):
            assert response.status_code == 403, response.text

    @property
    def headers(self) -> dict[str, str]:
        """The worker's secret."""
        return {"x-worker-trigger": raw.SECRET}
