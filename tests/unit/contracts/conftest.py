"""What the tests of the protocol share: the document, and a way to hold a value against a schema of it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from outboxkit_contracts.validation import Contract


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The document, ready to judge."""
    return Contract()


@pytest.fixture(scope="session")
def document(contract: Contract) -> dict[str, Any]:
    """The OpenAPI document, parsed, with every response written out where it is referred to."""
    found = deepcopy(dict(contract.document))
    for path, item in found["paths"].items():
        for method, operation in item.items():
            operation["responses"] = dict(contract.responses(method, path))
    return found


@pytest.fixture(scope="session")
def flaws(contract: Contract) -> Callable[[Any, dict[str, Any]], list[str]]:
    """What is wrong with a value by a schema of the document; formats are checked too."""
    return lambda value, schema: list(contract.flaws(value, schema))
