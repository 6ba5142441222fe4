"""What the tests of bearer tokens share."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from oidc_issuer import ACCOUNT, AUDIENCE, OidcIssuer


def settings(issuer: OidcIssuer, **changes: Any) -> dict[str, Any]:
    """The settings of a worker that believes this issuer."""
    return {"oidc_accounts": (ACCOUNT,), "oidc_audience": AUDIENCE, "oidc_issuer": issuer.url, **changes}


def send(worker: Any, *tokens: str, **headers: str) -> httpx.Response:
    """A trigger for a job that is nowhere, with each of the tokens in an Authorization of its own."""
    lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
    lines += [("authorization", f"Bearer {token}") for token in tokens]
    return worker.client.post("/process-job", json={"jobId": str(uuid4())}, headers=lines)


def outcome(response: httpx.Response) -> tuple[int, str]:
    """The status and the problem."""
    return response.status_code, response.json()["type"].rpartition(":")[2]


IN = (503, "no-database")
"""The answer of a worker without DATABASE_URL to whoever is let in."""

UNAUTHORIZED = (401, "unauthorized")
FORBIDDEN = (403, "forbidden")
UNVERIFIABLE = (503, "credentials-unverifiable")
