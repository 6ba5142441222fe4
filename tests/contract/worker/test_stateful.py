"""One trigger after another: links of the document lead from an answer to the next trigger for the same job."""

from __future__ import annotations

from typing import Any

from schemathesis import Case, Response

from contract.counting import count
from contract.profile import STATEFUL
from contract.worker import fuzzing
from contract.worker.jobs import State, Stock
from contract.worker.reached import Reached

schema = fuzzing.schema()
FIRST = [State.QUEUED, State.WILL_RETRY, State.WILL_FAIL, State.RUNNING, State.SUCCEEDED]


def test_a_second_trigger_is_a_duplicate(live: Reached, stock: Stock) -> None:
    """Whatever the first was answered, the second finds the job running, settled or not due: it runs nothing."""

    class Triggers(schema.as_state_machine()):  # type: ignore[misc]
        """Begins with a trigger for a job in a state by chance, and follows the links."""

        def setup(self) -> None:
            self.asked: set[str] = set()

        def before_call(self, case: Case) -> None:
            if fuzzing.is_trigger(case) and fuzzing.is_valid(case) and case.body.get("jobId") not in self.asked:
                state = FIRST[len(self.asked) % len(FIRST)]
                case.body = {**case.body, "jobId": str(stock.take(state))}

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:  # noqa: ARG002 (the same for every case)
            return {"headers": live.headers, "timeout": fuzzing.DEADLINE, **live.call}

        def validate_response(self, response: Response, case: Case, **kwargs: Any) -> None:
            super().validate_response(response, case, additional_checks=[fuzzing.conforms], **kwargs)
            if not fuzzing.is_trigger(case) or not fuzzing.is_valid(case):
                return
            job = case.body["jobId"]
            again = job in self.asked
            self.asked.add(job)
            count(f"worker, stateful: {'a second' if again else 'a first'} trigger")
            assert not again or response.status_code == 409 or response.json()["duplicate"], response.text

    Triggers.run(settings=STATEFUL)
