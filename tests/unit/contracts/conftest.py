"""What the tests of the protocol share: the document, and a way to hold a value against a schema of it."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from outboxkit_contracts import document as protocol


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """The OpenAPI document, parsed."""
    parsed: dict[str, Any] = yaml.safe_load(protocol.text())
    return parsed


@pytest.fixture(scope="session")
def flaws(document: dict[str, Any]) -> Callable[[Any, dict[str, Any]], list[str]]:
    """What is wrong with a value by a schema of the document; formats are checked too."""

    def check(value: Any, schema: dict[str, Any]) -> list[str]:
        rooted = {**schema, "components": document["components"]}
        validator = Draft202012Validator(rooted, format_checker=Draft202012Validator.FORMAT_CHECKER)
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    return check
