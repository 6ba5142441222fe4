"""How openapi/web.yaml is turned into requests, and what is demanded of every answer.

Every check of schemathesis is on, for valid and for invalid data, and the statuses that each may be answered with are
narrower than its defaults. Two exceptions, each for one operation:

- createReport may refuse valid data with 422: no schema says what makes a price file sound, nor that a key was used
  before. `sound_uploads_are_accepted` holds it to 201 for files that are sound.
- readReport after cancelReport is not a use after free: DELETE cancels, and the report stays. test_states.py demands that
  it says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, Response
from schemathesis.schemas import BaseSchema

from contract.profile import EXAMPLES

DOCUMENT = Path(__file__).parents[3] / "openapi" / "web.yaml"
DEADLINE = 10.0
"""Seconds. Not a measure of speed: it turns a request that hangs into a failure."""

PROBLEM = "application/problem+json"

# The statuses with which an operation may answer valid, and invalid, data. The first three know no invalid data.
ANSWERS = {
    "root": (["200"], ["200"]),
    "health": (["200"], ["200"]),
    "ready": (["200"], ["200"]),
    "listReports": (["200"], ["400"]),
    "createReport": (["201", "422"], ["400", "415", "422"]),
    "readReport": (["200", "404"], ["404"]),
    "readDocument": (["200", "404", "409"], ["404"]),
    "cancelReport": (["200", "404", "409"], ["404"]),
}


def schema(operation: str) -> BaseSchema:
    """One operation of the document, with our settings and hooks; the same cases in every run."""
    return _load(checks=_checks(operation)).include(operation_id=operation)


def linked() -> BaseSchema:
    """The whole document, for what follows its links."""
    operations = [{"include-operation-id": name, "checks": _checks(name)} for name in ANSWERS]
    return _load(operations=operations, checks={"max_response_time": DEADLINE})


def _load(**settings: Any) -> BaseSchema:
    generation = {"mode": "all", "max-examples": EXAMPLES, "deterministic": True}
    phases = {"coverage": {"generate-duplicate-query-parameters": True}}
    config = schemathesis.Config.from_dict({"generation": generation, "phases": phases, **settings})
    loaded = schemathesis.openapi.from_path(DOCUMENT, config=config)
    loaded.hook(before_generate_query)
    return loaded


def _checks(operation: str) -> dict[str, Any]:
    valid, invalid = ANSWERS[operation]
    checks: dict[str, Any] = {
        "positive_data_acceptance": {"expected-statuses": valid},
        "negative_data_rejection": {"expected-statuses": invalid},
        "max_response_time": DEADLINE,
    }
    if operation == "readReport":
        checks["use_after_free"] = {"enabled": False}
    return checks


def before_generate_query(context: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An operation without any input gets a query that it does not know; it would be tried with one request else."""
    operation = context.operation
    if operation.query or operation.path_parameters or operation.headers or operation.body:
        return strategy
    return st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)


def aimed(case: Case, known: Sequence[str] = ()) -> Case:
    """The case, every second one aimed at what is there: an id of a report that exists, a price file that is sound."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    chance = Random(crc32(f"{case.path_parameters} {case.body}".encode(errors="replace")))
    if chance.random() < 0.5:
        return case
    if "report_id" in case.path_parameters:
        case.path_parameters["report_id"] = chance.choice(known)
    if isinstance(case.body, dict):
        file = prices(chance)
        # To the generator, \p{C} in the title's pattern is the control characters; the validator knows better.
        title = "".join(filter(str.isprintable, case.body["title"])).strip(" ") or "x"
        sound = {"csv" if "csv" in case.body else "file": file}
        case.body = {**case.body, "title": title, **sound}
    return case


def prices(chance: Random) -> str:
    """A sound price file."""
    rows = [
        f"{2000 + year}-01-01,S{symbol},{chance.randint(1, 999)}"
        for symbol in range(chance.randint(1, 5))
        for year in range(chance.randint(2, 9))
    ]
    return "\n".join(["date,symbol,price", *rows, ""])


def errors_are_problems(_: CheckContext, response: Response, case: Case) -> None:
    """Whatever was wrong with a request, the answer is a problem document of its status; ready's 503 is an answer."""
    if response.status_code < 400 or case.operation.definition.raw["operationId"] == "ready":
        return
    assert response.headers["content-type"] == [PROBLEM]
    if response.request.method != "HEAD":
        problem = json.loads(response.content)
        assert problem["status"] == response.status_code
        assert problem["type"].startswith("urn:outboxkit:problem:")
        assert problem["detail"]


def sound_uploads_are_accepted(_: CheckContext, response: Response, case: Case) -> None:
    """A valid request with a sound price file is 201, unless its key was used before."""
    if case.operation.definition.raw["operationId"] != "createReport" or not case.meta.generation.mode.is_positive:
        return
    file = case.body.get("csv", case.body.get("file", ""))
    text = file.decode(errors="replace") if isinstance(file, bytes) else file
    if text.startswith("date,symbol,price\n2000-01-01,S0,"):
        used = response.status_code == 422 and b"idempotency-mismatch" in response.content
        assert response.status_code == 201 or used, response.text


CHECKS = [errors_are_problems, sound_uploads_are_accepted]
