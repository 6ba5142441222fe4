"""`outboxkit dev cloud-tasks`: the local server as a process of its own, until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import sys

import click

from outboxkit import logs
from outboxkit_cli.cloud_tasks.environment import environment
from outboxkit_cli.cloud_tasks.server import CloudTasksServer, ServerOptions
from outboxkit_cli.interruption import cancelled_by_signals, raise_keyboard_interrupt


def run(options: ServerOptions, *, quiet: bool = False) -> None:
    """Serve until a signal stops it, which is a success; every dispatch is a line on stderr.

    Prints where it is once calls are answered, unless it is to be quiet. Raises CommandFailed when a port is taken.
    Its tasks end with it.
    """
    raise_keyboard_interrupt()
    logs.configure(format="pretty", stream=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options, quiet=quiet))
    if not quiet:
        click.echo("Stopped.")


async def _serve(options: ServerOptions, *, quiet: bool) -> None:
    with cancelled_by_signals():
        try:
            async with CloudTasksServer(options) as server:
                if not quiet:
                    click.echo(announcement(server))
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass  # the signal that is meant to end this


def announcement(server: CloudTasksServer) -> str:
    """Return what to print once the server is ready: where it is, and lines to paste."""
    project, location, queue = server.options.project, server.options.location, server.options.queues[0]
    variables = environment(tasks=server.address, issuer=server.issuer, project=project, location=location, queue=queue)
    return "\n".join(
        [
            "",
            "A local Cloud Tasks is running, in memory: its tasks are gone when it stops. Ctrl-C stops it.",
            "",
            f"  gRPC      {server.address}",
            f"  HTTP      {server.issuer}",
            "",
            "For the relay and the worker:",
            *(f"  export {name}={value}" for name, value in variables.items()),
            "",
            "Make every third task get lost, and look at what is set:",
            f"  curl {server.issuer}/faults --json '{{\"lost\": 0.33}}'",
            f"  curl {server.issuer}/faults",
            "",
        ]
    )
