"""Holds a request or an answer against the OpenAPI document, whoever sent it.

Needs the extra `contracts`. Nothing here is on a hot path: workers and relays of ours do not import it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any, Final

import jsonschema_rs
import yaml

from outboxkit_contracts import document, headers

PROCESS_JOB: Final = "/process-job"

Headers = Iterable[tuple[str, str]]
"""Header lines: names in any case, a name more than once if it was sent so."""


@cache
def shipped() -> Contract:
    """The document that this package ships, parsed once: YAML takes its time, and nothing changes it."""
    return Contract()


class Contract:
    """The document, parsed. `Contract()` is the one this package ships."""

    def __init__(self, text: str | None = None) -> None:
        self.document: Mapping[str, Any] = yaml.safe_load(document.text() if text is None else text)

    def operation(self, method: str, path: str) -> Mapping[str, Any]:
        """The operation that a request is judged by.

        A path or method that the document does not have gets the answers of the operation that is there: 404 and 405
        are written down in `POST /process-job`.
        """
        item = self.document["paths"].get(path.partition("?")[0], self.document["paths"][PROCESS_JOB])
        found: Mapping[str, Any] = item.get(method.lower()) or next(iter(item.values()))
        return found

    def responses(self, method: str, path: str) -> Mapping[str, Mapping[str, Any]]:
        """Status to response of one operation, references followed; `default` is left as it is."""
        return {status: self._followed(r) for status, r in self.operation(method, path)["responses"].items()}

    def flaws_of_answer(self, method: str, path: str, status: int, headers: Headers, body: bytes) -> list[str]:
        """What in an answer is not as the document has it, in words; nothing when it conforms.

        The `default` response stands for what is not the protocol, so no status is documented by it. The answer to
        HEAD has no body to be judged.
        """
        response = self.responses(method, path).get(str(status))
        if response is None:
            return [f"status {status} is not documented"]
        lines = [(name.lower(), value) for name, value in headers]
        flaws = [*self._flaws_of_headers(response.get("headers", {}), lines)]
        content = response.get("content")
        if content is None or method.upper() == "HEAD":
            return flaws
        return [*flaws, *self._flaws_of_content(content, lines, body)]

    def flaws_of_trigger(self, headers: Headers, body: bytes) -> list[str]:
        """What in a request to `POST /process-job` is not as the document has it; nothing when it conforms.

        Credentials are judged too: a header that the document names as a credential, and is empty, is a flaw.
        """
        operation = self.document["paths"][PROCESS_JOB]["post"]
        lines = [(name.lower(), value) for name, value in headers]
        described = {p["name"]: p for p in operation["parameters"] if p["in"] == "header"}
        scheme = self.document["components"]["securitySchemes"]["triggerSecret"]
        empty = [name for name, value in lines if name in (scheme["name"], "authorization") and not value.strip()]
        return [
            *self._flaws_of_headers(described, lines),
            *self._flaws_of_content(operation["requestBody"]["content"], lines, body),
            *(f"the header {name} is empty" for name in empty),
        ]

    def action(self, status: int, slug: str | None = None) -> str:
        """What a relay does about this answer of `POST /process-job`, by the document.

        `slug` names the problem type; a status or a type that is not documented gets the action of `default`.
        """
        responses = self.responses("post", PROCESS_JOB)
        action = responses.get(str(status), responses["default"])["x-relay-action"]
        if isinstance(action, str):
            return action
        return str(action.get(slug, responses["default"]["x-relay-action"]))

    def flaws(self, value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
        """What in a JSON value does not match a schema of the document; formats are checked too."""
        rooted = {**schema, "components": self._components}
        for error in jsonschema_rs.Draft202012Validator(rooted, validate_formats=True).iter_errors(value):
            where = "".join(f"/{step}" for step in error.instance_path)
            yield f"{where}: {error.message}" if where else error.message

    def _flaws_of_headers(self, described: Mapping[str, Any], lines: list[tuple[str, str]]) -> Iterator[str]:
        for name, reference in described.items():
            header = self._followed(reference)
            values = [value for key, value in lines if key == name.lower()]
            if header.get("required") and not values:
                yield f"the header {name} is missing"
            for value in values:
                schema = header["schema"]
                whole = schema["type"] == "integer" and value.isascii() and value.isdigit()
                for flaw in self.flaws(int(value) if whole else value, schema):
                    yield f"the header {name}: {flaw}"

    def _flaws_of_content(self, content: Mapping[str, Any], lines: list[tuple[str, str]], body: bytes) -> Iterator[str]:
        sent = [value for name, value in lines if name == "content-type"]
        media_type = headers.media_type(sent[0]) if len(sent) == 1 else ""
        if media_type not in content:
            shown = " and ".join(map(repr, sent)) or "missing"
            yield f"the content type is {shown}, not {' or '.join(content)}"
            return
        try:
            text = body.decode()
            value = json.loads(text) if media_type.endswith("json") else text
        except (ValueError, RecursionError) as error:
            yield f"the body is not {media_type}: {error}"
            return
        yield from self.flaws(value, content[media_type]["schema"])

    @cached_property
    def _components(self) -> Mapping[str, Any]:
        return {"schemas": self.document["components"]["schemas"]}

    def _followed(self, reference: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference refers to; anything else as it is."""
        if "$ref" not in reference:
            return reference
        found: Any = self.document
        for step in reference["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        followed: Mapping[str, Any] = found
        return followed
