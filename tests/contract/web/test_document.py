from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jsonschema_rs import validate as validate_json
from openapi_spec_validator import validate

from contract.web.fuzzing import ANSWERS, DOCUMENT
from outboxkit_cli.http_protocol import UploadProtocol
from outboxkit_contracts.messages import MAX_UPLOAD_SECONDS
from outboxkit_contracts.problems import PROBLEM_JSON, ProblemType

document = yaml.safe_load(DOCUMENT.read_text())
operations = {operation["operationId"]: operation for path in document["paths"].values() for operation in path.values()}


def contents(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Whatever in the document has a schema and shows an example, and where it is."""
    if isinstance(node, dict) and "schema" in node and node.keys() & {"example", "examples"}:
        yield place, node
    elif isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from contents(value, f"{place}/{key}")


shown = dict(contents(document))


def test_it_is_openapi() -> None:
    """The validator for OpenAPI 3.1 has nothing to say."""
    validate(document)


def test_every_operation_is_fuzzed() -> None:
    """And none that is gone."""
    assert operations.keys() == ANSWERS.keys()


@pytest.mark.parametrize("place", shown)
def test_examples_are_examples(place: str) -> None:
    """What is shown is valid."""
    content = shown[place]
    examples = [content["example"]] if "example" in content else [e["value"] for e in content["examples"].values()]
    schema = {"components": document["components"], "allOf": [content["schema"]]}
    assert examples
    for example in examples:
        validate_json(schema, example, validate_formats=True)


@pytest.mark.parametrize("operation", operations)
def test_statuses_are_said_one_by_one(operation: str) -> None:
    """No `default` stands for errors, and every error is a problem of its status: ready's 503 is an answer."""
    assert "default" not in operations[operation]["responses"]
    for status, found in operations[operation]["responses"].items():
        shared = found.get("$ref", "").rpartition("/")[2]
        response = document["components"]["responses"][shared] if shared else found
        if status >= "400" and (operation, status) != ("ready", "503"):
            problem = response["content"][PROBLEM_JSON]["schema"]["allOf"][1]["properties"]
            assert problem["status"] == {"const": int(status)}
            types = [ProblemType.of(uri) for uri in problem["type"]["enum"]]
            assert {kind and kind.status for kind in types} == {int(status)}


def test_the_deadline_is_the_servers() -> None:
    """What the document promises is what the command line serves with."""
    assert UploadProtocol.request_seconds == MAX_UPLOAD_SECONDS
