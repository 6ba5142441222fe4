"""The addresses that need no credentials."""

from __future__ import annotations

import yaml

from outboxkit_contracts.conformance.outcomes import Failed, Skipped
from outboxkit_contracts.conformance.probe import Probe, described
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.conformance.target import Level
from outboxkit_contracts.headers import AUTHORIZATION


@check("health.alive", "#/paths/~1health/get/responses/200")
def alive(probe: Probe) -> None:
    """/health and / say that the process is alive, to anybody."""
    for path in ("/health", "/"):
        answer = probe.get(path)
        if answer.status != 200:
            raise Failed(f"200 is due from GET {path}; the answer is {described(answer)}", answer)


@check("health.ready", "#/paths/~1health~1ready/get/responses/200")
def ready(probe: Probe) -> None:
    """/health/ready says that the worker can take work, to anybody."""
    answer = probe.get("/health/ready")
    if answer.status != 200:
        raise Failed(f"the worker is not ready: {' '.join(answer.document.get('problems', []))}", answer)


@check("health.authentication", "#/components/schemas/Readiness/properties/authentication")
def authentication(probe: Probe) -> None:
    """/health/ready says whether a secret or a token is expected."""
    answer = probe.get("/health/ready")
    said = answer.document.get("authentication", "")
    if probe.target.secret is not None and "secret" not in said:
        raise Failed(f"the worker says `authentication: {said}`, but was given to us with a secret", answer)
    if probe.target.secret is None and said in ("secret", "secret+oidc"):
        raise Failed("the worker expects a secret: give --secret", answer)
    token = any(name.lower() == AUTHORIZATION for name, _ in probe.target.headers)
    if not token and said in ("oidc", "secret+oidc"):
        raise Failed("the worker expects a token: give --header 'Authorization: Bearer …'", answer)


@check("health.methods", "#/components/responses/MethodNotAllowed")
def methods(probe: Probe) -> None:
    """Another method than GET is answered 405 with Allow."""
    answer = probe.request("DELETE", "/health")
    if answer.status != 405:
        raise Failed(f"405 is due for DELETE /health; the answer is {described(answer)}", answer)


@check("health.document", "#/paths/~1openapi.yaml/get", level=Level.FULL)
def document(probe: Probe) -> None:
    """/openapi.yaml serves an OpenAPI document that has POST /process-job."""
    answer = probe.get("/openapi.yaml")
    if answer.status == 404:
        raise Skipped("the worker does not serve its document, and need not")
    try:
        paths = yaml.safe_load(answer.body)["paths"]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise Failed(f"what is served is no OpenAPI document: {error}", answer) from None
    if "post" not in paths.get("/process-job", {}):
        raise Failed("the document that is served has no POST /process-job", answer)
