from typing import Any

import pytest
from litestar.testing import AsyncTestClient
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from outboxkit.tables import jobs, outbox
from outboxkit.testing import run_jobs
from outboxkit_reports import handlers
from outboxkit_reports.tables import Report

PROBLEM = "application/problem+json"
GOOD = "date,symbol,price\n2000-01-01,A,1\n2000-02-01,A,2\n"
BAD = "date,symbol,price\n2000-01-01,A,1\n2000-02-01,A,-2\n2000-03-99,A,2\n"


async def post(client: AsyncTestClient, *, title: str = "Two prices", csv: str = GOOD, **headers: str) -> Any:
    """Create a report; headers with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/api/reports", json={"title": title, "csv": csv}, headers=named)


async def counts(engine: AsyncEngine) -> tuple[int, int, int]:
    """How many reports, jobs and triggers there are."""
    async with AsyncSession(engine) as session:
        found = [await session.scalar(select(func.count()).select_from(table)) for table in (Report, jobs, outbox)]
    return found[0] or 0, found[1] or 0, found[2] or 0


async def run_all(engine: AsyncEngine) -> None:
    """Run every job to its end, and commit."""
    async with AsyncSession(engine) as session, session.begin():
        await run_jobs(session, handlers)


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    """The problem document of an answer, which must be of this status and type."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:outboxkit:problem:{slug}"
    assert document["status"] == status
    return document


async def test_posting_creates_a_report_and_its_job(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """201, where to look, and one report, one job and one trigger, written together."""
    answer = await post(client, title="  Two prices ")
    report = answer.json()
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/reports/{report['id']}"
    assert (report["title"], report["state"]) == ("Two prices", "queued")
    assert [job["kind"] for job in report["jobs"]] == ["START_RUN"]
    assert await counts(engine) == (1, 1, 1)
    assert (await client.get(answer.headers["location"])).json() == report


async def test_posting_a_form_does_the_same(client: AsyncTestClient, engine: AsyncEngine, stocks: bytes) -> None:
    """A multipart upload with a title and a file."""
    files = {"file": ("stocks.csv", stocks, "text/csv")}
    answer = await client.post("/api/reports", data={"title": "Five companies"}, files=files)
    assert answer.status_code == 201, answer.text
    await run_all(engine)
    report = (await client.get(answer.headers["location"])).json()
    assert (report["state"], report["sectionsDone"]) == ("succeeded", 4)


async def test_a_finished_report_is_served_as_a_harmless_page(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """HTML under a policy that lets in nothing but styles, and no script in it for a symbol named <script>."""
    evil = "<script>alert(1)</script>"
    csv = f"date,symbol,price\n2000-01-01,{evil},1\n2000-02-01,{evil},2\n"
    location = (await post(client, title=evil, csv=csv)).headers["location"]
    await run_all(engine)
    answer = await client.get(f"{location}/document")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text


async def test_a_document_that_is_not_ready_says_the_state(client: AsyncTestClient) -> None:
    """409 with the report's state, not an empty page."""
    location = (await post(client)).headers["location"]
    assert problem(await client.get(f"{location}/document"), 409, "conflict")["state"] == "queued"


async def test_bad_rows_are_named_and_nothing_is_written(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """422 with row and column of each flaw; neither report nor job nor key."""
    found = problem(await post(client, csv=BAD, Idempotency_Key="k"), 422, "invalid-input")
    assert found["errors"] == [
        {"row": 3, "column": "price", "detail": '"-2" is not a positive price'},
        {"row": 4, "column": "date", "detail": '"2000-03-99" is not a day of the calendar'},
    ]
    assert "2 things are wrong" in found["detail"]
    assert await counts(engine) == (0, 0, 0)
    assert (await post(client, Idempotency_Key="k")).status_code == 201


@pytest.mark.parametrize(
    "file",
    [b"", b"\x00\x01\x02", b"\xff\xfe\x00", b"caf\xe9", b"PK\x03\x04", b"a,b\n1,2\n", b"date,symbol,price\n" * 2],
)
async def test_what_is_not_a_price_file_is_refused(client: AsyncTestClient, engine: AsyncEngine, file: bytes) -> None:
    """Whatever the bytes: 422, at least one flaw, nothing written."""
    answer = await client.post("/api/reports", data={"title": "x"}, files={"file": ("x.csv", file, "text/csv")})
    assert problem(answer, 422, "invalid-input")["errors"]
    assert await counts(engine) == (0, 0, 0)


async def test_twenty_megabytes_are_refused(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """413 from the web role's limit; a file under it and over the parser's gets 422 with both sizes."""
    problem(await post(client, csv="x" * 20_000_000), 413, "payload-too-large")
    found = problem(await post(client, csv="x" * 5_000_000), 422, "invalid-input")
    assert found["errors"] == [{"detail": "the file has 5,000,000 bytes; at most 4,194,304 are allowed"}]
    assert await counts(engine) == (0, 0, 0)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"title": "x"}, None),
        ({"title": 1, "csv": GOOD}, "/title"),
        ({"title": " ", "csv": GOOD}, "/title"),
        ({"title": "x" * 201, "csv": GOOD}, "/title"),
        ({"title": "x" + " " * 200, "csv": GOOD}, "/title"),
        ({"title": "a line\n", "csv": GOOD}, "/title"),
        ({"title": "a\x00b", "csv": GOOD}, "/title"),
        ([], None),
    ],
)
async def test_a_json_body_of_another_shape_is_refused(client: AsyncTestClient, body: Any, pointer: str | None) -> None:
    """422 that points to the member."""
    found = problem(await client.post("/api/reports", json=body), 422, "invalid-input")
    assert found["errors"][0].get("pointer") == pointer


@pytest.mark.parametrize(
    ("body", "media_type", "status", "slug"),
    [
        (b"{", "application/json", 400, "malformed-request"),
        (b'{"title": "\xff"}', "application/json", 400, "malformed-request"),
        (b'{"title": "\\ud800", "csv": ""}', "application/json", 400, "malformed-request"),
        (b"[" * 5000, "application/json", 400, "malformed-request"),
        (b"x", "text/csv", 415, "unsupported-media-type"),
        (b"x", "multipart/form-data", 400, "malformed-request"),
        (b"x", "multipart/form-data; boundary=b", 400, "malformed-request"),
        (b"--b\r\n\r\n--b--\r\n", "multipart/form-data; boundary=b", 400, "malformed-request"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422, "invalid-input"),
    ],
)
async def test_a_broken_body_is_refused(
    client: AsyncTestClient, body: bytes, media_type: str, status: int, slug: str
) -> None:
    """A problem document, never a 500."""
    answer = await client.post("/api/reports", content=body, headers={"content-type": media_type})
    problem(answer, status, slug)


async def test_a_form_without_file_or_title_is_refused(client: AsyncTestClient) -> None:
    """422 that says which is missing."""
    no_file = await client.post("/api/reports", files={"title": (None, "x")})
    assert problem(no_file, 422, "invalid-input")["errors"][0]["pointer"] == "/file"
    no_title = await client.post("/api/reports", files={"file": ("x.csv", GOOD.encode(), "text/csv")})
    assert problem(no_title, 422, "invalid-input")["errors"][0]["pointer"] == "/title"


@pytest.mark.parametrize("charset", ["nope", "hex", "undefined", "idna"])
async def test_a_charset_that_cannot_be_read_is_refused(client: AsyncTestClient, charset: str) -> None:
    """400, whether the part names no charset that there is, or one that its bytes are not in."""
    title = (None, b"\xff", f"text/plain; charset={charset}")
    answer = await client.post("/api/reports", files={"title": title, "file": ("x.csv", GOOD.encode(), "text/csv")})
    problem(answer, 400, "malformed-request")


@pytest.mark.parametrize("name", ["title", "file"])
async def test_a_field_that_comes_twice_is_refused(client: AsyncTestClient, engine: AsyncEngine, name: str) -> None:
    """422: neither of the two is dropped without a word."""
    form = [("title", (None, "x")), ("file", ("x.csv", GOOD.encode(), "text/csv"))]
    answer = await client.post("/api/reports", files=[*form, *[field for field in form if field[0] == name]])
    assert problem(answer, 422, "invalid-input")["errors"][0]["pointer"] == f"/{name}"
    assert await counts(engine) == (0, 0, 0)


async def test_a_file_may_come_without_a_name(client: AsyncTestClient) -> None:
    """A part needs no filename (RFC 7578 §4.2)."""
    answer = await client.post("/api/reports", files={"title": (None, "x"), "file": (None, GOOD)})
    assert answer.status_code == 201, answer.text


async def test_the_same_key_and_body_get_the_first_answer(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """Also after the report has run, and also when the same upload is spelt as a form."""
    first = await post(client, Idempotency_Key="k")
    await run_all(engine)
    before = await counts(engine)
    again = await post(client, Idempotency_Key="k")
    files = {"file": ("x.csv", GOOD.encode(), "text/csv")}
    form = await client.post(
        "/api/reports", data={"title": "Two prices"}, files=files, headers={"Idempotency-Key": "k"}
    )
    for answer in (again, form):
        assert (answer.status_code, answer.json()) == (201, first.json())
        assert answer.headers["location"] == first.headers["location"]
    assert await counts(engine) == before


async def test_the_same_key_with_another_body_is_refused(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """422 idempotency-mismatch, and no second report."""
    await post(client, Idempotency_Key="k")
    problem(await post(client, title="Another", Idempotency_Key="k"), 422, "idempotency-mismatch")
    assert (await counts(engine))[0] == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("report", ["0198c0de-0000-7000-8000-000000000000", "no-uuid", "%00"])
async def test_an_unknown_report_is_not_found(client: AsyncTestClient, method: str, report: str) -> None:
    """404 for an id nobody has and for what is no id at all."""
    problem(await client.request(method, f"/api/reports/{report}"), 404, "not-found")
    if method == "GET":
        problem(await client.get(f"/api/reports/{report}/document"), 404, "not-found")


async def test_lists_reports_newest_first_in_pages(client: AsyncTestClient) -> None:
    """Every report once, in order, also when new ones come between two pages."""
    ids = [(await post(client, title=f"No. {n}")).json()["id"] for n in range(5)]
    first = (await client.get("/api/reports", params={"limit": 2})).json()
    await post(client, title="A later one")
    second = (await client.get("/api/reports", params={"limit": 2, "after": first["next"]})).json()
    third = (await client.get("/api/reports", params={"limit": 2, "after": second["next"]})).json()
    listed = [item["id"] for page in (first, second, third) for item in page["items"]]
    assert listed == ids[::-1]
    assert third["next"] is None


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "after=x", "after=%00", "after=Zm9v", "after=", "after=" + "A" * 46],
)
async def test_bad_paging_is_refused(client: AsyncTestClient, query: str) -> None:
    """400, and what is wrong."""
    problem(await client.get(f"/api/reports?{query}"), 400, "malformed-request")


async def test_deleting_cancels(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """The report and its jobs are cancelled, their triggers gone; a second time changes nothing."""
    location = (await post(client)).headers["location"]
    answer = await client.delete(location)
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert [job["state"] for job in answer.json()["jobs"]] == ["cancelled"]
    assert await counts(engine) == (1, 1, 0)
    assert (await client.delete(location)).json() == answer.json()


async def test_a_finished_report_cannot_be_cancelled(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """409 with the state."""
    location = (await post(client)).headers["location"]
    await run_all(engine)
    assert problem(await client.delete(location), 409, "conflict")["state"] == "succeeded"
    assert (await client.get(location)).json()["state"] == "succeeded"


async def test_a_failed_report_says_why(client: AsyncTestClient, engine: AsyncEngine) -> None:
    """The job that failed carries its reason."""
    location = (await post(client)).headers["location"]
    async with engine.begin() as connection:
        await connection.exec_driver_sql(
            "update outboxkit.jobs set state = 'failed', attempt = 5, errors = '[{\"reason\": \"it broke\"}]'"
        )
    report = (await client.get(location)).json()
    assert (report["state"], report["jobs"][0]["reason"]) == ("failed", "it broke")
