"""The identity tokens, read as a worker reads them."""

import time
from typing import Any

import httpx
import jwt
import pytest
from jwt import PyJWK

from integration.cloud_tasks.server.targets import Target, Worker
from outboxkit_cli.cloud_tasks.server import CloudTasksServer

ACCOUNT = "tasks@local.iam.gserviceaccount.com"


async def keys(server: CloudTasksServer) -> dict[str, Any]:
    """The issuer's keys by their names, found by discovery."""
    async with httpx.AsyncClient() as http:
        document = (await http.get(f"{server.issuer}/.well-known/openid-configuration")).json()
        assert document["issuer"] == server.issuer
        published = (await http.get(document["jwks_uri"])).json()["keys"]
    return {key["kid"]: PyJWK(key).key for key in published}


async def verified(server: CloudTasksServer, token: str, audience: str) -> dict[str, Any]:
    """What a token says, once everything about it has been checked."""
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"]) == ("RS256", "JWT")
    found: dict[str, Any] = jwt.decode(
        token,
        (await keys(server))[header["kid"]],
        algorithms=["RS256"],
        audience=audience,
        issuer=server.issuer,
        options={"require": ["exp", "iat", "aud", "iss", "sub"]},
    )
    return found


async def sent(tasks: Target, queue: str, worker: Worker, **oidc: str) -> str:
    """Make a task and return the token that its dispatch carries."""
    count = len(worker.requests)
    await tasks.create(queue, worker, http={"oidc_token": {"service_account_email": ACCOUNT, **oidc}})
    return (await worker.asked(count + 1)).headers["authorization"].removeprefix("Bearer ")


async def test_a_token_says_who_calls_whom(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Google's claims; the audience is the whole URL unless the task names one, and an hour is all it is good for."""
    claims = await verified(server, await sent(tasks, server.queue_path(), worker), worker.url)
    assert (claims["email"], claims["email_verified"]) == (ACCOUNT, True)
    assert claims["sub"] == claims["azp"]
    assert (len(claims["sub"]), claims["sub"].isdigit()) == (21, True)
    assert claims["exp"] - claims["iat"] == 3600
    other = await sent(tasks, server.queue_path(), worker, audience="https://worker")
    assert (await verified(server, other, "https://worker"))["sub"] == claims["sub"]
    with pytest.raises(jwt.InvalidAudienceError):
        await verified(server, other, worker.url)


async def test_a_token_is_made_at_the_dispatch(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """A task that waited, or is tried again, carries a fresh one; the machine's clock counts, not the queue's."""
    server.queue().paused = True
    oidc = {"service_account_email": ACCOUNT}
    await tasks.create(server.queue_path(), worker, http={"oidc_token": oidc})
    server.rotate_key(retire=True)
    server.advance(7200)
    await tasks.client.resume_queue(name=server.queue_path())
    token = (await worker.asked()).headers["authorization"].removeprefix("Bearer ")
    assert (await verified(server, token, worker.url))["iat"] <= time.time()


async def test_after_a_rotation_both_keys_stand(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """Tokens of before still check, until the key is withdrawn."""
    before = await sent(tasks, server.queue_path(), worker)
    server.rotate_key()
    after = await sent(tasks, server.queue_path(), worker)
    assert jwt.get_unverified_header(before)["kid"] != jwt.get_unverified_header(after)["kid"]
    for token in (before, after):
        await verified(server, token, worker.url)
    server.rotate_key(retire=True)
    assert not {jwt.get_unverified_header(token)["kid"] for token in (before, after)} & set(await keys(server))


async def test_an_expired_token(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """It is right in everything but its time."""
    server.faults.expired_tokens = True
    token = await sent(tasks, server.queue_path(), worker)
    with pytest.raises(jwt.ExpiredSignatureError):
        await verified(server, token, worker.url)


async def test_a_token_without_its_signature(server: CloudTasksServer, tasks: Target, worker: Worker) -> None:
    """What a container on Cloud Run sees: the claims can be read, and nobody can check them."""
    server.faults.strip_signatures = True
    token = await sent(tasks, server.queue_path(), worker)
    assert token.endswith(".SIGNATURE_REMOVED_BY_GOOGLE")
    assert jwt.decode(token, options={"verify_signature": False})["email"] == ACCOUNT
    with pytest.raises(jwt.InvalidTokenError):
        await verified(server, token, worker.url)
