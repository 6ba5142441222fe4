"""How openapi/process-job.yaml is turned into requests, and what is demanded of every answer.

Every check of schemathesis is on, for valid and invalid data alike. The statuses with which each operation may answer
are narrower than the defaults; what `POST /process-job` answers is narrowed further by the state of the job.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any
from zlib import crc32

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, Response
from schemathesis.schemas import BaseSchema

from contract.profile import EXAMPLES
from contract.worker.jobs import ANSWERS, State
from contract.worker.scene import CONTRACT
from outboxkit_contracts import document

DEADLINE = 15.0
"""Seconds. Not a measure of speed: it turns a request that hangs into a failure."""

PROCESS_JOB = "processJob"

# The statuses with which an operation may answer valid, and invalid, data. 404, 409 and 422 are what becomes of a good
# trigger whose job is unknown, not due, or of an unknown kind. Invalid is either the body, 400, or its media type, 415.
STATUSES = {
    PROCESS_JOB: (["200", "202", "404", "409", "422"], ["400", "415"]),
    "health": (["200"], ["400"]),
    "root": (["200"], ["400"]),
    "ready": (["200"], ["400"]),
    "document": (["200"], ["400"]),
}


def schema(*, app: Any = None) -> BaseSchema:
    """The document with our settings and hooks, for an ASGI application if one is given; the same cases in every run."""
    config = schemathesis.Config.from_dict(
        {
            "generation": {"mode": "all", "max-examples": EXAMPLES, "deterministic": True},
            "checks": {"max_response_time": DEADLINE},
            "operations": [_operation(name, *statuses) for name, statuses in STATUSES.items()],
        }
    )
    loaded = schemathesis.openapi.from_path(document.find(), config=config)
    loaded.app = app
    loaded.hook(before_generate_query)
    return loaded


@schemathesis.deserializer("text/yaml", "application/yaml")  # the first stands for the whole family
def as_text(_: Any, response: Response) -> str:
    """YAML is text to the document's schema; schemathesis would parse it, slowly, and hold an object against it."""
    return response.content.decode()


def _operation(name: str, valid: list[str], invalid: list[str]) -> dict[str, Any]:
    return {
        "include-operation-id": name,
        "checks": {
            "positive_data_acceptance": {"expected-statuses": valid},
            "negative_data_rejection": {"expected-statuses": invalid},
        },
    }


def before_generate_query(context: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An operation without any input gets a query that it does not know; it would be tried with one request else."""
    if context.operation.body:
        return strategy
    return st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=5)


def is_trigger(case: Case) -> bool:
    """Whether the case is one of `POST /process-job`, method and all."""
    return operation_of(case) == PROCESS_JOB and case.method.upper() == "POST"


def operation_of(case: Case) -> str:
    """The operationId."""
    return str(case.operation.definition.raw["operationId"])


def is_valid(case: Case) -> bool:
    """Whether the case is good data."""
    return case.meta is None or case.meta.generation.mode.is_positive


def state_for(case: Case) -> State:
    """The state that the job of a case is to be in: by chance, and the same in every run."""
    states = list(State)
    return states[crc32(f"{case.body} {case.headers}".encode(errors="replace")) % len(states)]


def conforms(_: CheckContext, response: Response, case: Case) -> None:
    """The contract's own judge has nothing to say either, so that both judges are held against one another."""
    headers = [(name, value) for name, values in response.headers.items() for value in values]
    if case.method.upper() != "OPTIONS":
        method = response.request.method or case.method
        flaws = CONTRACT.flaws_of_answer(method, case.path, response.status_code, headers, response.content)
        assert not flaws, flaws


@cache
def answers_as(state: State) -> Callable[[CheckContext, Response, Case], None]:
    """A check: the answer is one that is due to a job in this state, and about the job that was asked for."""

    def answers_as_its_state_demands(_: CheckContext, response: Response, case: Case) -> None:
        answer = response.json()
        if response.status_code in (200, 202):
            found = (response.status_code, answer["state"], answer["duplicate"])
        else:
            found = (response.status_code, answer["type"].rpartition(":")[2])
        assert found in ANSWERS[state], (state, answer)
        assert answer["jobId"].lower() == case.body["jobId"].lower()

    return answers_as_its_state_demands
