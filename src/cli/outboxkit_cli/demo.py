"""`outboxkit demo`: the sample application from a request to a finished report, each job shown on the way."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from outboxkit.database import conninfo
from outboxkit_cli.board import ENDED, Board, JobRow
from outboxkit_cli.extras import needs_extra
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.interruption import cancelled_by_signals, raise_keyboard_interrupt
from outboxkit_cli.migrate import migrate
from outboxkit_cli.stack import Stack, database, running
from outboxkit_cli.supervisor import ChildDied, Supervisor
from outboxkit_cli.terminal import discard, is_terminal

APP = "outboxkit_reports"
BRANCHES = ("reports",)
TITLE = "Five companies, 2000-2010"
REPORT = Path("report.html")
LONGEST_SECONDS = 60.0
POLL_SECONDS = 0.02
INTERRUPTED_STATUS = 130

JOBS = """
select id::text, kind, coalesce(payload ->> 'section', ''), state, created_at, started_at, finished_at
from outboxkit.jobs order by created_at, id
"""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The report's page, and how many seconds after the request it was there."""

    page: bytes
    seconds: float


def demo(csv: Path, *, mode: str) -> None:
    """Post the prices, show every job, write report.html to the current folder, stop everything.

    Raises CommandFailed, with the last lines of the logs, when anything goes wrong on the way.
    """
    raise_keyboard_interrupt()
    began = time.monotonic()
    prices = read(csv)
    finished = None
    try:
        with database(None, data=None) as url:
            migrate(url, branches=BRANCHES)
            finished = asyncio.run(run_stack(prices, mode=mode, url=url, began=began))
    except KeyboardInterrupt:
        pass
    if finished is None:
        click.echo("Interrupted; everything is stopped.", err=True)
        raise SystemExit(INTERRUPTED_STATUS)
    write(finished.page)
    size = len(finished.page) / 1000
    click.echo(f"\n{REPORT} ({size:.0f} kB) was finished {finished.seconds:.2f} s after the request.")


def read(csv: Path) -> str:
    """Return the file's text."""
    try:
        return csv.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{csv} cannot be read as UTF-8 text: {error}") from error


def write(page: bytes) -> None:
    """Write the report to the current folder."""
    try:
        REPORT.write_bytes(page)
    except OSError as error:
        raise CommandFailed(f"the report is finished but cannot be written to {REPORT.absolute()}: {error}") from error


async def run_stack(prices: str, *, mode: str, url: str, began: float) -> Finished | None:
    """Run the stack for as long as the report takes; None when a signal cut it short."""
    with cancelled_by_signals() as hurry:
        try:
            async with Supervisor(write=discard, hurry=hurry) as supervisor:
                try:
                    async with running(supervisor, app=APP, mode=mode, database_url=url) as stack:
                        click.echo(ready_line(stack, time.monotonic() - began))
                        return await supervisor.alongside(make_report(stack, prices))
                except CommandFailed as error:
                    raise with_logs(error, supervisor) from error
        except asyncio.CancelledError:
            return None


def ready_line(stack: Stack, seconds: float) -> str:
    """Return what to print once everything runs."""
    google = "" if stack.google is None else ", a local Cloud Tasks"
    return f"Postgres{google}, web, relay and worker are ready after {seconds:.1f} s, trigger mode {stack.mode}."


def with_logs(error: CommandFailed, supervisor: Supervisor) -> CommandFailed:
    """Return the error with the last lines of the logs, which a ChildDied has already."""
    if isinstance(error, ChildDied):
        return error
    return CommandFailed(f"{error}\nThe last lines of the logs:\n{supervisor.tails()}")


async def make_report(stack: Stack, prices: str) -> Finished:
    """Ask for the report as any client would, and follow it until its page is there."""
    with needs_extra("dev"):
        import httpx
    async with httpx.AsyncClient(base_url=stack.web, trust_env=False, timeout=LONGEST_SECONDS) as client:
        try:
            start = time.monotonic()
            url = await post(client, prices)
            async with asyncio.timeout(LONGEST_SECONDS):
                await follow(client, url, database_url=stack.database_url)
            page = await client.get(f"{url}/document")
            page.raise_for_status()
            return Finished(page=page.content, seconds=time.monotonic() - start)
        except httpx.HTTPError as error:
            raise CommandFailed(f"the web did not answer as it should: {error!r}") from error
        except TimeoutError:
            raise CommandFailed(f"the report was not finished after {LONGEST_SECONDS:g} s") from None


async def post(client: Any, prices: str) -> str:
    """Post the prices; return the path of the report they are made into."""
    click.echo(f"POST {client.base_url}/api/reports with {len(prices.splitlines()) - 1} prices.")
    answer = await client.post("/api/reports", json={"title": TITLE, "csv": prices})
    if answer.is_error:
        raise CommandFailed(f"POST /api/reports was answered with {answer.status_code}: {answer.text}")
    return str(answer.headers["location"])


async def follow(client: Any, url: str, *, database_url: str) -> None:
    """Show the jobs until the report has succeeded; raise CommandFailed when it will not."""
    import psycopg  # of the extra cli

    board = Board(live=is_terminal(), write=click.echo)
    board.open()
    async with await psycopg.AsyncConnection.connect(conninfo(database_url), autocommit=True) as connection:
        while True:
            # Asked for before the jobs are read, so that the last update shows every job of a finished report.
            state = (await client.get(url)).raise_for_status().json()["state"]
            board.update(await jobs(connection))
            if state == "succeeded":
                return
            if state in ENDED:
                raise CommandFailed(f"the report is {state}")
            await asyncio.sleep(POLL_SECONDS)


async def jobs(connection: Any) -> Sequence[JobRow]:
    """Read every job there is; this database has no others."""
    names = ("id", "kind", "section", "state", "created_at", "started_at", "finished_at")
    rows = await (await connection.execute(JOBS)).fetchall()
    return [JobRow(**dict(zip(names, row, strict=True))) for row in rows]
