"""The document is sound in itself, found where it should be, and says what the Structs say."""

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from openapi_spec_validator import validate

from outboxkit_contracts import (
    MAX_HEADER_BYTES,
    MAX_REQUEST_SECONDS,
    MAX_TRIGGER_BYTES,
    PROBLEM_JSON,
    Answer,
    Flaw,
    Health,
    Problem,
    ProblemType,
    Trigger,
    WorkerReadiness,
    headers,
    parse_trigger,
)
from outboxkit_contracts import document as protocol

ANSWERED: dict[str, type[Answer | Health | WorkerReadiness]] = {
    "Answer": Answer,
    "Health": Health,
    "Readiness": WorkerReadiness,
}
STRUCTS: dict[str, type[msgspec.Struct]] = {**ANSWERED, "Trigger": Trigger, "Problem": Problem}


def responses(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every response of every operation: path, status, response."""
    for path, item in document["paths"].items():
        for operation in item.values():
            for status, response in operation["responses"].items():
                yield path, status, response


def bodies(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any], Any]]:
    """Every example of a response: path, status, media type, schema, value."""
    for path, status, response in responses(document):
        for media_type, media in response.get("content", {}).items():
            for example in media["examples"].values():
                yield path, status, media_type, media["schema"], example["value"]


def problem_types(response: dict[str, Any]) -> list[str]:
    """The URIs a response's problem schema allows."""
    media = response.get("content", {}).get(PROBLEM_JSON)
    return media["schema"]["allOf"][1]["properties"]["type"]["enum"] if media else []


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """The document passes the validator for OpenAPI 3.1."""
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_every_response_says_what_the_relay_does(document: dict[str, Any]) -> None:
    """No response lacks `x-relay-action`; a problem response maps exactly the types its schema allows."""
    for path, status, response in responses(document):
        action = response["x-relay-action"]
        prefix = "urn:outboxkit:problem:"
        slugs = {uri.removeprefix(prefix) for uri in problem_types(response)}
        assert (set(action) if isinstance(action, dict) else set()) == slugs, (path, status)


def test_every_problem_type_stands_under_its_own_status(document: dict[str, Any]) -> None:
    """A problem type of the document is one of ours, under the status our enum gives it."""
    seen = [(int(status), uri) for _, status, r in responses(document) for uri in problem_types(r)]
    assert len(seen) >= 15
    for status, uri in seen:
        problem_type = ProblemType.of(uri)
        assert problem_type is not None, uri
        assert problem_type.status == status, uri


def test_examples_of_answers_match_their_schemas(
    document: dict[str, Any], flaws: Callable[[Any, dict[str, Any]], list[str]]
) -> None:
    """Every example is valid by its schema, and every response with a body has at least one."""
    for path, status, response in responses(document):
        for media in response.get("content", {}).values():
            assert media["examples"], (path, status)
    for path, status, _, schema, value in bodies(document):
        assert flaws(value, schema) == [], (path, status)


def test_examples_of_answers_are_what_the_structs_write(document: dict[str, Any]) -> None:
    """An example read by its Struct and written again is the same JSON: no member is lost or renamed."""
    for path, status, media_type, _, value in bodies(document):
        if not media_type.endswith("json"):
            continue
        struct = Problem if media_type == PROBLEM_JSON else ANSWERED[struct_name(path)]
        decoded: Any = msgspec.json.decode(json.dumps(value), type=struct)
        assert json.loads(decoded.encode()) == value, (path, status)


def struct_name(path: str) -> str:
    """The schema of what a path answers when it reports no problem."""
    return {"/process-job": "Answer", "/health/ready": "Readiness"}.get(path, "Health")


def test_examples_of_problems_carry_the_title_of_their_type(document: dict[str, Any]) -> None:
    """Title and status of a problem in an example are those of its type."""
    for path, status, media_type, _, value in bodies(document):
        if media_type == PROBLEM_JSON:
            problem_type = ProblemType.of(value["type"])
            assert problem_type is not None
            assert value["title"] == problem_type.title, (path, status)
            assert value["status"] == problem_type.status == int(status)


def test_examples_of_triggers_match_their_schema_and_are_read(
    document: dict[str, Any], flaws: Callable[[Any, dict[str, Any]], list[str]]
) -> None:
    """Every example of a request is valid by its schema and read as a trigger."""
    media = document["paths"]["/process-job"]["post"]["requestBody"]["content"]["application/json"]
    for example in media["examples"].values():
        assert flaws(example["value"], media["schema"]) == []
        assert str(parse_trigger(json.dumps(example["value"]).encode()).job_id) == example["value"]["jobId"]


@pytest.mark.parametrize("name", STRUCTS)
def test_schemas_and_structs_have_the_same_members(document: dict[str, Any], name: str) -> None:
    """A schema's properties are the Struct's members; a member the Struct needs is required by the schema."""
    schema = document["components"]["schemas"][name]
    members = {field.encode_name: field for field in msgspec.structs.fields(STRUCTS[name])}
    assert set(schema["properties"]) == set(members)
    assert {name for name, field in members.items() if field.required} <= set(schema["required"])


def test_what_the_structs_write_matches_the_schemas(
    flaws: Callable[[Any, dict[str, Any]], list[str]],
) -> None:
    """Documents built in Python, with every member set, are valid by the schema."""
    problem = Problem.of(
        ProblemType.INVALID_INPUT,
        "Two rows are not usable.",
        instance="/api/reports",
        state="queued",
        kind="RUN_SECTION",
        retry_after=3,
        errors=(Flaw(detail="not a date", row=3, column="date"), Flaw(detail="empty", pointer="/title")),
    )
    now = datetime.datetime.now(datetime.UTC)
    health = Health(status="ok", service="relay", uptime=0.0, timestamp=now)
    for value, name in ((problem, "Problem"), (health, "Health")):
        assert flaws(json.loads(value.encode()), {"$ref": f"#/components/schemas/{name}"}) == []


def test_the_document_names_the_headers_and_limits_of_the_code(document: dict[str, Any]) -> None:
    """The secret's header and every limit are the same in the document and in Python."""
    assert document["components"]["securitySchemes"]["triggerSecret"]["name"] == headers.WORKER_TRIGGER
    operation = document["paths"]["/process-job"]["post"]
    said = operation["requestBody"]["description"] + operation["responses"]["413"]["description"]
    assert said.count(f"{MAX_TRIGGER_BYTES:,}") == 2
    for limit, status in ((f"{MAX_HEADER_BYTES:,} bytes", "431"), (f"{MAX_REQUEST_SECONDS} seconds", "408")):
        assert limit in operation["responses"][status]["description"]
        assert limit in document["info"]["description"]


def test_answers_that_say_try_later_say_when(document: dict[str, Any]) -> None:
    """409, 429 and 503 require Retry-After, 401 WWW-Authenticate and 405 Allow."""
    answers = document["paths"]["/process-job"]["post"]["responses"]
    for status, header in (
        ("409", "Retry-After"),
        ("429", "Retry-After"),
        ("503", "Retry-After"),
        ("401", "WWW-Authenticate"),
        ("405", "Allow"),
    ):
        described = answers[status]["headers"][header]
        if "$ref" in described:
            described = document["components"]["headers"][described["$ref"].rpartition("/")[2]]
        assert described["required"] is True, (status, header)


def test_the_wheel_s_own_copy_wins_over_the_checkout(tmp_path: Path) -> None:
    """Beside the package when it is there, else in openapi/ at the top of the checkout."""
    package = tmp_path / "src" / "contracts" / "outboxkit_contracts"
    package.mkdir(parents=True)
    checkout = tmp_path / "openapi" / "process-job.yaml"
    checkout.parent.mkdir()
    checkout.write_text("from: checkout\n")
    assert yaml.safe_load(protocol.text(package)) == {"from": "checkout"}
    (package / "process-job.yaml").write_text("from: wheel\n")
    assert yaml.safe_load(protocol.text(package)) == {"from": "wheel"}


def test_a_missing_document_is_said_plainly(tmp_path: Path) -> None:
    """The error names both places that were looked at."""
    with pytest.raises(FileNotFoundError, match="a wheel") as missing:
        protocol.find(tmp_path / "a" / "b" / "c")
    assert str(tmp_path / "openapi" / "process-job.yaml") in str(missing.value)
