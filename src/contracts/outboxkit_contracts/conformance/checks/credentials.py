"""Who may trigger jobs: `x-worker-trigger`.

A worker that asks for a bearer token too gets one by `--header`; it passes these checks as long as the secret matters.
"""

from __future__ import annotations

import secrets
from uuid import uuid4

from outboxkit_contracts.conformance.exchanges import Exchange
from outboxkit_contracts.conformance.outcomes import Failed, Skipped
from outboxkit_contracts.conformance.probe import Probe, described, expect
from outboxkit_contracts.conformance.suite import check
from outboxkit_contracts.headers import AUTHORIZATION

_MALFORMED = b'{"jobId": '


def _refused(answer: Exchange, why: str) -> None:
    """A worker that takes bearer tokens as well answers 401 where neither is right."""
    if (answer.status, answer.slug) not in ((403, "forbidden"), (401, "unauthorized")):
        raise Failed(f"403 forbidden is due for {why}; the answer is {described(answer)}", answer)


def _secret(probe: Probe) -> str:
    """The secret, where it is needed. Raises `Skipped` when the target's token does as well."""
    secret = probe.secret()
    token = any(name.lower() == AUTHORIZATION for name, _ in probe.target.headers)
    if token and probe.get("/health/ready").document.get("authentication") == "secret|oidc":
        raise Skipped("the token of --header lets in without the secret: leave one of them out")
    return secret


def _trigger(probe: Probe, secret: str) -> Exchange:
    return probe.post(f'{{"jobId":"{uuid4()}"}}'.encode(), secret=secret)


@check("credentials.right", "#/components/securitySchemes/triggerSecret")
def right(probe: Probe) -> None:
    """The right secret lets a trigger in."""
    expect(_trigger(probe, probe.secret()), 404, "unknown-job", "an id that no job has, with the right secret")


@check("credentials.missing", "#/paths/~1process-job/post/responses/403")
def missing(probe: Probe) -> None:
    """A trigger without the secret is refused."""
    _secret(probe)
    _refused(_trigger(probe, ""), "a trigger without a secret")


@check("credentials.wrong", "#/paths/~1process-job/post/responses/403")
def wrong(probe: Probe) -> None:
    """A trigger with a wrong secret is refused, however close it comes."""
    secret = _secret(probe)
    guesses = {
        "another secret": secrets.token_urlsafe(24),
        "the secret with a letter more": f"{secret}x",
        "the secret without its last letter": secret[:-1],
        "the secret without its first letter": secret[1:],
        "the secret in other case": secret.swapcase(),
        "the secret after `Bearer`": f"Bearer {secret}",
    }
    for what, guess in guesses.items():
        if guess not in ("", secret):
            _refused(_trigger(probe, guess), what)


@check("credentials.elsewhere", "#/components/securitySchemes/triggerSecret")
def elsewhere(probe: Probe) -> None:
    """The secret counts in its own header only."""
    secret = _secret(probe)
    body = f'{{"jobId":"{uuid4()}"}}'.encode()
    headers = (
        ("content-type", "application/json"),
        ("x-worker-secret", secret),
        ("cookie", f"x-worker-trigger={secret}"),
    )
    exchange = probe.request("POST", f"/process-job?x-worker-trigger={secret}", headers, body)
    _refused(exchange, "the secret in a cookie, another header and the query")


@check("credentials.first", "#/info/description")
def first(probe: Probe) -> None:
    """Credentials are looked at before anything else: without them nobody learns anything."""
    _secret(probe)
    _refused(probe.post(_MALFORMED, secret="wrong"), "a malformed body with a wrong secret")  # noqa: S106
    _refused(probe.post(b"", secret="wrong", media_type=None), "an empty body with a wrong secret")  # noqa: S106
