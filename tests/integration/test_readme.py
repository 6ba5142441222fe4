"""The README's code and commands do what it says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from databases import Database
from outboxkit.testing import assert_enqueued, run_jobs
from outboxkit_contracts.conformance import select
from waiting import until

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


class Base(DeclarativeBase):
    """The README's application has a table."""


class Order(Base):
    """What the invoice is for."""

    __tablename__ = "readme_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    invoiced: Mapped[bool] = mapped_column(default=False)


class Mailer:
    """Sends at the second try."""

    def __init__(self) -> None:
        self.tries = 0

    async def send(self, order: Order) -> bool:
        """Whether it was sent."""
        assert order is not None
        self.tries += 1
        return self.tries > 1


async def test_the_readmes_job_runs(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module under "Your code" is a module, its enqueueing enqueues, and its handler retries and then commits."""
    monkeypatch.setitem(sys.modules, "myapp", SimpleNamespace(Order=Order, Mailer=Mailer))
    module: dict[str, Any] = {}
    exec(blocks("python")[2], module)  # noqa: S102 (the README's own code)
    caller = indent(blocks("python")[3].replace("Order(...)", "Order()"), "    ")
    exec(f"async def place(session):\n{caller}", module)  # noqa: S102
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine, expire_on_commit=False) as session, module["lifespan"](engine) as app:
        await module["place"](session)
        assert [ran.state for ran in await run_jobs(session, module["handlers"], app=app)] == ["queued"]
        await assert_enqueued(session, "SEND_INVOICE")
        await session.execute(text("update outboxkit.jobs set run_at = clock_timestamp()"))
        assert [ran.state for ran in await run_jobs(session, module["handlers"], app=app)] == ["succeeded"]
        assert (await session.execute(text("select invoiced from readme_orders"))).scalar_one()


@contextmanager
def worker_by_hand(tmp_path: Path, port: int, **variables: str) -> Iterator[tuple[dict[str, str], Path]]:
    """`outboxkit start` as it stands there, until the block ends, which it does well; yields its environment and its log."""
    bin_folder = Path(sys.executable).parent
    environment = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PORT": str(port), "HOME": str(tmp_path), **variables}
    log = tmp_path / "log"
    with log.open("wb") as out:
        worker = subprocess.Popen(
            ["bash", "-c", f"exec env {blocks('sh')[0]}"], env=environment, stdout=out, stderr=out
        )
    try:
        until(lambda: "Listening on" in log.read_text(), what="the worker to listen")
        yield environment, log
    finally:
        worker.terminate()
        assert worker.wait(timeout=20) == 0


def test_the_worker_by_hand(tmp_path: Path, free_port: int) -> None:
    """The curl line gets a 400 that says how to make a job, and leaves a line in the log."""
    with worker_by_hand(tmp_path, free_port) as (_, log):
        curl = blocks("sh")[1].replace("8080", str(free_port))
        answer = subprocess.check_output(["bash", "-c", curl], text=True)
        assert answer == blocks("json")[0].strip()
        until(lambda: "Received trigger" in log.read_text(), what="the trigger in the log")
        assert "test-secret" not in log.read_text()


def test_conformance_by_hand(tmp_path: Path, free_port: int, database: Database) -> None:
    """The line under "A worker in another language" finds nothing wrong with that worker; it is as many rules as it says."""
    with worker_by_hand(tmp_path, free_port, DATABASE_URL=database.url) as (environment, _):
        line = blocks("sh")[2].strip().replace("8080", str(free_port))
        done = subprocess.run(
            ["bash", "-c", f"{line} --level basic"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(select())} rules" in README.read_text()


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_links_lead_somewhere() -> None:
    """Every relative link in the README and in docs/ leads to a file that is there."""
    top = README.parent
    pages = [README, *top.glob("*.md"), *top.glob("docs/**/*.md")]
    broken = [
        f"{page.relative_to(top)}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert broken == []
