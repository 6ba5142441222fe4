"""The web role over ASGI on real Postgres: transactions, idempotency keys, problems, health."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromQuery, HeaderParameter, JSONBody
from sqlalchemy import text

from databases import Database
from outboxkit import Handlers, enqueue
from outboxkit.application import Application
from outboxkit.http import json_body
from outboxkit.settings import Secret
from outboxkit_web.app import create_app
from outboxkit_web.idempotency import Answer, IdempotencyKey, once
from outboxkit_web.sessions import RequestSession
from outboxkit_web.settings import WebSettings

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Order(msgspec.Struct):
    """What the test application takes."""

    name: str
    fail: bool = False


@post("/orders", guards=[json_body])
async def order(
    data: JSONBody[Order],
    request: Request[Any, Any, Any],
    session: RequestSession,
    key: Annotated[str | None, HeaderParameter(name="Idempotency-Key")] = None,
) -> Response[Any]:
    """Enqueues one job; fails after that when told to."""

    async def write() -> Answer:
        job_id = await enqueue(session, "ORDER", {"name": data.name})
        if data.fail:
            raise RuntimeError("password=hunter2")
        return Answer(201, {"jobId": str(job_id)}, {"Location": f"/orders/{job_id}"})

    answer = await once(session, scope="orders", key=key, request=await request.body(), answer=write)
    return Response(answer.body, status_code=answer.status, headers=dict(answer.headers))


@post("/late")
async def late(session: RequestSession) -> dict[str, str]:
    """Returns a success, and breaks at the commit."""
    await enqueue(session, "LATE")
    await session.execute(text("create temporary table t (n int unique deferrable initially deferred)"))
    await session.execute(text("insert into t values (1), (1)"))
    return {"all": "well"}


@get("/seen")
async def seen(session: RequestSession) -> int:
    """How many jobs there are."""
    return int((await session.execute(text("select count(*) from outboxkit.jobs"))).scalar_one())


@get("/impatient")
async def impatient() -> None:
    """An application's own refusal."""
    raise HTTPException("once a minute", status_code=429, headers={"Retry-After": "60"})


@get("/sql")
async def sql(session: RequestSession, statement: FromQuery[str]) -> None:
    """Runs a statement."""
    await session.execute(text(statement))


@post("/keyed")
async def keyed(idempotency_key: IdempotencyKey) -> dict[str, str | None]:
    """The key."""
    return {"key": idempotency_key}


class _Module:
    routes = (order, late, seen, impatient, sql, keyed)


def app_for(url: str) -> Litestar:
    """The web role round the test application."""
    settings = WebSettings(database_url=Secret(url), max_body_bytes=100_000)
    return create_app(settings=settings, application=Application(name="test", handlers=Handlers(), module=_Module))


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the web role, started up and shut down."""
    app = app_for(database.url)
    started, stop = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # A task of its own: pytest runs a fixture's halves in different ones, and a lifespan wants to end where it began.
        async with app.lifespan():
            started.set()
            await stop.wait()

    living = asyncio.create_task(live())
    await started.wait()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client:
        yield client
    stop.set()
    await living


async def jobs(client: httpx.AsyncClient) -> int:
    """How many jobs are committed."""
    return int((await client.get("/seen")).text)


async def test_success_means_committed(client: httpx.AsyncClient, database: Database) -> None:
    """When the answer arrives, the job, its trigger and the caller's trace context are there for everyone to see."""
    answer = await client.post("/orders", json={"name": "a"}, headers={"traceparent": TRACEPARENT})
    assert answer.status_code == 201
    async with await database.connect() as connection:
        rows = await (
            await connection.execute(
                "select j.id::text, j.traceparent, o.traceparent from outboxkit.jobs j"
                " join outboxkit.outbox o on o.job_id = j.id"
            )
        ).fetchall()
    assert rows == [(answer.json()["jobId"], TRACEPARENT, TRACEPARENT)]


async def test_an_exception_rolls_everything_back_and_leaks_nothing(client: httpx.AsyncClient) -> None:
    """A route that raises after enqueueing leaves no job, and its error's text stays in the log."""
    answer = await client.post("/orders", json={"name": "a", "fail": True})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text
    assert await jobs(client) == 0


async def test_a_failed_commit_is_not_a_success(client: httpx.AsyncClient) -> None:
    """The transaction commits before the answer is sent: a constraint that breaks then turns the answer into a 500."""
    assert (await client.post("/late")).status_code == 500
    assert await jobs(client) == 0


async def test_the_same_key_gives_the_same_answer_once(client: httpx.AsyncClient) -> None:
    """Sent twice with one Idempotency-Key, a request has one effect; the second answer is the first one again."""
    headers = {"Idempotency-Key": "k1"}
    first = await client.post("/orders", json={"name": "a"}, headers=headers)
    second = await client.post("/orders", json={"name": "a"}, headers=headers)
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert first.headers["location"] == second.headers["location"]
    assert second.headers["idempotency-replayed"] == "true"
    assert await jobs(client) == 1


async def test_ten_at_once_with_one_key_have_one_effect(client: httpx.AsyncClient) -> None:
    """Concurrent requests with one key wait for the first one's transaction and all get its answer."""
    sent = [client.post("/orders", json={"name": "a"}, headers={"Idempotency-Key": "k"}) for _ in range(10)]
    answers = await asyncio.gather(*sent)
    assert {(a.status_code, a.text) for a in answers} == {(201, answers[0].text)}
    assert await jobs(client) == 1


async def test_the_same_key_for_another_body_is_refused(client: httpx.AsyncClient) -> None:
    """A key belongs to one request: with other bytes it gets 422, and nothing is written."""
    await client.post("/orders", json={"name": "a"}, headers={"Idempotency-Key": "k"})
    answer = await client.post("/orders", json={"name": "b"}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:outboxkit:problem:idempotency-mismatch"
    assert await jobs(client) == 1


async def test_a_request_that_failed_does_not_use_up_its_key(client: httpx.AsyncClient) -> None:
    """The key is written in the request's transaction: what was rolled back can be sent again."""
    headers = {"Idempotency-Key": "k"}
    assert (await client.post("/orders", json={"name": "a", "fail": True}, headers=headers)).status_code == 500
    assert (await client.post("/orders", json={"name": "a"}, headers=headers)).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"], ids=["empty", "long", "control"])
async def test_a_bad_key_is_named(client: httpx.AsyncClient, key: str) -> None:
    """An Idempotency-Key that cannot be stored is a 400 that says what one looks like."""
    answer = await client.post("/orders", json={"name": "a"}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "1 to 255" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"name": "a"}', "text/plain", 415),
        (b'{"name": "a"}', "", 415),
        (b'{"name": "a"', "application/json", 400),
        (b'{"name": "\xff"}', "application/json", 400),
        (b"[" * 5000 + b"]" * 5000, "application/json", 400),
        (b'{"name": 1}', "application/json; charset=utf-8", 400),
        (b'{"name": "' + b"x" * 200_000 + b'"}', "application/json", 413),
    ],
    ids=["text", "untyped", "cut", "latin1", "deep", "type", "large"],
)
async def test_bad_bodies_are_problems(
    client: httpx.AsyncClient, content: bytes, content_type: str, status: int
) -> None:
    """Whatever the body, the answer is a problem document with the right status, never a 500, and nothing is written."""
    answer = await client.post("/orders", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert await jobs(client) == 0


async def test_unknown_paths_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    """404 names the path; 405 says, and sends in Allow, what the address does answer."""
    missing = await client.get("/nothing/here")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:outboxkit:problem:not-found")
    wrong = await client.delete("/orders")
    assert wrong.status_code == 405
    assert "POST" in wrong.headers["allow"]


async def test_two_keys_are_refused(client: httpx.AsyncClient) -> None:
    """Two hops could each go by another one; one key, or none, is what the route is given."""
    for headers, found in [([], None), ([("Idempotency-Key", "a")], "a")]:
        assert (await client.post("/keyed", headers=headers)).json() == {"key": found}
    two = await client.post("/keyed", headers=[("Idempotency-Key", "a"), ("idempotency-key", "a")])
    assert (two.status_code, two.json()["type"]) == (400, "urn:outboxkit:problem:malformed-request")


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/orders", "OPTIONS, POST"), ("/seen", "GET, HEAD, OPTIONS"), ("/health", "GET, HEAD, OPTIONS")],
)
async def test_allow_names_every_method(client: httpx.AsyncClient, path: str, methods: str) -> None:
    """The same in OPTIONS and in 405, in one order, and HEAD wherever there is GET."""
    for method, status in (("OPTIONS", 204), ("PATCH", 405)):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (status, methods)


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    """Status and headers are GET's; a path without GET does not answer HEAD."""
    got, head = await client.get("/seen"), await client.head("/seen")
    assert (head.status_code, dict(head.headers), head.content) == (200, dict(got.headers), b"")
    assert (await client.head("/orders")).status_code == 405


async def test_a_status_of_the_applications_own_keeps_its_meaning(client: httpx.AsyncClient) -> None:
    """A status for which the kit has no problem type is a problem without one, with its headers; not a 500."""
    answer = await client.get("/impatient")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "once a minute",
    }


async def test_health_and_readiness(client: httpx.AsyncClient) -> None:
    """Live while the process answers, ready while the migrated database does."""
    for path in ("/", "/health"):
        live = (await client.get(path)).json()
        assert (live["status"], live["service"]) == ("ok", "web")
        assert live["uptime"] >= 0
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["migrations"]) == (200, "current")


async def test_not_ready_without_migrations(empty_database: Database) -> None:
    """On a database that was never migrated the web role is live, not ready, and says what to run."""
    app = app_for(empty_database.url)
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client:
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/health/ready")
    assert ready.status_code == 503
    assert "outboxkit migrate" in ready.json()["problems"][0]


async def test_not_ready_without_a_database() -> None:
    """With no database to be reached the web role starts, is live, is not ready, and says when to try again."""
    app = app_for("postgresql://nobody@127.0.0.1:1/none")
    async with app.lifespan(), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client:
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "down")
        answer = await client.get("/seen")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["type"] == "urn:outboxkit:problem:no-database"


async def test_a_broken_connection_is_no_database(client: httpx.AsyncClient) -> None:
    """A session that Postgres ends in the middle of a request is a 503 with Retry-After; what is broken in SQL a 500."""
    ended = await client.get("/sql", params={"statement": "select pg_terminate_backend(pg_backend_pid())"})
    assert (ended.status_code, ended.headers["retry-after"]) == (503, "5")
    assert (await client.get("/sql", params={"statement": "select nonsense"})).status_code == 500
    assert (await client.get("/sql", params={"statement": "select 1"})).status_code == 200
