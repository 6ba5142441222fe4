"""POST /process-job where no database is needed."""

from typing import Any

import httpx
import pytest

from outboxkit.settings import Secret
from outboxkit_worker.draining import Draining
from outboxkit_worker.trigger import TriggerEndpoint

BODY = b'{"jobId": "0198c5a2-7c3e-7b11-9d5f-3f6a1c2b4d5e"}'


async def post(endpoint: Any, body: bytes = BODY, **headers: str) -> httpx.Response:
    """Post to the endpoint; header names may be written with underscores."""
    named = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    transport = httpx.ASGITransport(endpoint, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        return await client.post("/process-job", content=body, headers=named)


async def test_a_worker_that_is_shutting_down_takes_nothing() -> None:
    """503 draining with Retry-After for a well-formed trigger; credentials and body are looked at first."""
    draining = Draining(grace=1)
    draining.begin()
    endpoint = TriggerEndpoint(secrets=[Secret("s")], wait_max=1, draining=draining)
    assert (await post(endpoint)).status_code == 403
    assert (await post(endpoint, b"{}", x_worker_trigger="s")).status_code == 400
    response = await post(endpoint, x_worker_trigger="s")
    assert (response.status_code, response.json()["type"]) == (503, "urn:outboxkit:problem:draining")
    assert int(response.headers["retry-after"]) == response.json()["retryAfter"] > 0


async def test_every_secret_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after one has matched: the time taken does not tell which."""
    compared: list[str] = []
    original = Secret.matches

    def matches(self: Secret, candidate: bytes) -> bool:
        compared.append(self.reveal())
        return original(self, candidate)

    monkeypatch.setattr(Secret, "matches", matches)
    endpoint = TriggerEndpoint(secrets=[Secret("a"), Secret("b")], wait_max=1, draining=Draining(grace=1))
    for given, status in (("a", 503), ("b", 503), ("c", 403)):
        compared.clear()
        assert (await post(endpoint, x_worker_trigger=given)).status_code == status
        assert compared == ["a", "b"]


async def test_an_unforeseen_error_is_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    """500 internal-error; its text goes to the log and not over the wire."""
    endpoint: Any = TriggerEndpoint(secrets=[], wait_max=1, draining=Draining(grace=1))
    endpoint.service = "not a service: geheim"
    response = await post(endpoint)
    assert (response.status_code, response.json()["type"]) == (500, "urn:outboxkit:problem:internal-error")
    assert response.headers["content-type"] == "application/problem+json"
    assert "AttributeError" in caplog.text
    assert "geheim" not in response.text
