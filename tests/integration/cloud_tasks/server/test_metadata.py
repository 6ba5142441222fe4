"""The metadata server, asked by google-auth itself."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pytest

from integration.cloud_tasks.server.test_tokens import verified
from outboxkit_cli.cloud_tasks.environment import PROJECT, caller_account
from outboxkit_cli.cloud_tasks.server import CloudTasksServer

# google-auth reads the host once, when it is imported.
ASKING = """
import google.auth
from google.auth import compute_engine
from google.auth.transport.requests import Request

credentials, project = google.auth.default()
assert isinstance(credentials, compute_engine.Credentials), credentials
credentials.refresh(Request())
identity = compute_engine.IDTokenCredentials(Request(), "https://worker", use_metadata_identity_endpoint=True)
identity.refresh(Request())
print(project, credentials.service_account_email, bool(credentials.token), identity.token)
"""


async def test_google_auth_finds_everything_there(server: CloudTasksServer) -> None:
    """Project, account, access token and an identity token that checks."""
    variables = {"GCE_METADATA_HOST": server.metadata_host, "GCE_METADATA_IP": server.metadata_host, "HOME": "/nowhere"}

    def ask() -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "-W", "ignore", "-c", ASKING]
        return subprocess.run(argv, env=variables, capture_output=True, text=True, check=False, timeout=60)

    done = await asyncio.to_thread(ask)
    assert done.returncode == 0, done.stderr
    project, account, access, token = done.stdout.split()
    assert (project, account, access) == (PROJECT, caller_account(PROJECT), "True")
    assert (await verified(server, token, "https://worker"))["email"] == account


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("project/project-id", {}, 403),
        ("instance/service-accounts/default/identity", {"Metadata-Flavor": "Google"}, 400),
        ("instance/service-accounts/else@where/email", {"Metadata-Flavor": "Google"}, 404),
        ("instance/service-accounts/default/email", {"Metadata-Flavor": "Google"}, 200),
    ],
)
async def test_what_the_metadata_server_refuses(
    server: CloudTasksServer, path: str, headers: dict[str, Any], status: int
) -> None:
    """Whoever does not send its header, asks for no audience, or for another account."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{server.issuer}/computeMetadata/v1/{path}", headers=headers)
    assert answer.status_code == status
    assert status == 403 or answer.headers["metadata-flavor"] == "Google"
