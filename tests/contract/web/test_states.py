from __future__ import annotations

import json
from typing import Any, ClassVar
from zlib import crc32

import pytest
from schemathesis import Case, Response
from schemathesis.generation.stateful.state_machine import APIStateMachine

from contract.counting import count
from contract.profile import STATEFUL
from contract.web import fuzzing
from contract.web.webs import Web

machine: type[APIStateMachine] = fuzzing.linked().as_state_machine()


class Links(machine):  # type: ignore[misc,valid-type]
    """Follows the document's links: it creates, lists, reads, downloads and cancels, while the jobs run now and then."""

    web: ClassVar[Web]

    def setup(self) -> None:
        """Begin with nothing, as a scenario must go the same way when it is tried again."""
        self.web.reports.wipe()
        self._cancelled: set[str] = set()

    def get_call_kwargs(self, case: Case) -> dict[str, Any]:
        """Reach this web role; every second upload is a sound file."""
        if case.method == "POST":
            fuzzing.aimed(case)
        return {**self.web.call, "timeout": fuzzing.DEADLINE}

    def after_call(self, response: Response, case: Case) -> None:
        """Let the jobs of every second report run to their end, so that all states are met."""
        super().after_call(response, case)
        count(f"web, {self.web.way}, linked: {case.operation.label}")
        if response.status_code == 201 and crc32(f"{case.body}".encode()) % 2:
            self.web.reports.run_jobs()

    def validate_response(self, response: Response, case: Case, **options: Any) -> None:
        """Every check, and what cancelling promises: from then on the report says so and never gets a document."""
        super().validate_response(response, case, additional_checks=fuzzing.CHECKS, **options)
        report = case.path_parameters.get("report_id")
        operation = case.operation.definition.raw["operationId"]
        if report in self._cancelled:
            assert response.status_code == (409 if operation == "readDocument" else 200)
            assert json.loads(response.content)["state"] == "cancelled"
        if operation == "cancelReport" and response.status_code == 200:
            self._cancelled.add(report)


@pytest.mark.parametrize("way", ["asgi", "live"])
def test_links_lead_to_what_they_promise(way: str, request: pytest.FixtureRequest) -> None:
    """Whatever is created, listed, read and cancelled, in whatever order, every answer is the document's."""
    Links.web = request.getfixturevalue(way)
    Links.run(settings=STATEFUL)
