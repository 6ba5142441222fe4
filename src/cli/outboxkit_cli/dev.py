"""`outboxkit dev`: an embedded Postgres and every role round one module, until Ctrl-C."""

import asyncio
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.interruption import cancelled_by_signals, raise_keyboard_interrupt
from outboxkit_cli.migrate import migrate
from outboxkit_cli.stack import Stack, database, running
from outboxkit_cli.supervisor import Supervisor
from outboxkit_cli.terminal import write_line

SAMPLE = "outboxkit_reports"


@dataclass(frozen=True, kw_only=True)
class DevOptions:
    """What `outboxkit dev` was asked for."""

    app: str
    mode: str
    branches: tuple[str, ...]
    setup: str | None
    database_url: str | None
    data: Path | None
    port: int


def dev(options: DevOptions) -> None:
    """Run the stack until a signal stops it, which is a success.

    Raises ChildDied, with the last lines of its log, when a role ends by itself. Whatever happens, all
    roles are stopped first, and Postgres after them.
    """
    raise_keyboard_interrupt()
    try:
        with database(options.database_url, data=options.data) as url:
            migrate(url, branches=options.branches)
            if options.setup is not None:
                set_up(options.setup, url=url)
            asyncio.run(run_stack(options, url=url))
    except KeyboardInterrupt:
        pass
    click.echo("Everything is stopped.")


async def run_stack(options: DevOptions, *, url: str) -> None:
    """Run the roles until a signal cancels this task."""
    with cancelled_by_signals() as hurry:
        try:
            async with Supervisor(write=write_line, hurry=hurry) as supervisor:
                stack = running(supervisor, app=options.app, mode=options.mode, database_url=url, port=options.port)
                async with stack as addresses:
                    click.echo(announcement(addresses))
                    await supervisor.died()
        except asyncio.CancelledError:
            click.echo("Stopping.")


def set_up(command: str, *, url: str) -> None:
    """Run the user's own command (their migrations, say) with DATABASE_URL set; if it fails, so do we."""
    status = subprocess.run(  # noqa: S602 (the command is the user's own, given to be run by a shell)
        command, shell=True, env={**os.environ, "DATABASE_URL": url}, check=False
    ).returncode
    if status != 0:
        raise CommandFailed(f"--setup: {command!r} ended with status {status}")


def announcement(stack: Stack) -> str:
    """Return what to print once everything is ready: where it is, and lines to try."""
    return "\n".join(
        [
            "",
            f"{stack.app} is running, trigger mode {stack.mode}. Ctrl-C stops everything.",
            "",
            f"  web       {stack.web}",
            f"  worker    {stack.worker}",
            f"  database  {stack.database_url}",
            *(
                []
                if stack.google is None
                else [f"  tasks     {stack.google.tasks}, faults at {stack.google.issuer}/faults"]
            ),
            "",
            *suggestions(stack),
            "",
        ]
    )


def suggestions(stack: Stack) -> list[str]:
    """Return lines that can be pasted into another terminal, each under what it does."""
    enqueue = f"DATABASE_URL={shlex.quote(stack.database_url)} {shlex.quote(sys.executable)} -m outboxkit_cli enqueue"
    trigger = f"curl {stack.worker}/process-job -H 'x-worker-trigger: {stack.secret}' --json '{{\"jobId\": \"ID\"}}'"
    if stack.app == SAMPLE:
        upload = f"curl {stack.web}/api/reports -F title='Five companies' -F file=@examples/stocks.csv"
        return ["Ask for a report:", f"  {upload}"]
    return [
        "Make a job of a kind that the module registers; it prints the job's ID:",
        f"  {enqueue} KIND '{{}}'",
        "Trigger a job by hand:",
        f"  {trigger}",
    ]
