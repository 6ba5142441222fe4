"""The roles as processes: each is composed here, from the environment, and run until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from outboxkit import logs
from outboxkit.application import Application, load
from outboxkit_cli.extras import needs_extra
from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.settings import ProcessSettings, ServingSettings, read_both

if TYPE_CHECKING:
    from outboxkit_relay.relay import Relay

logger = logging.getLogger("outboxkit.start")


def run_web(*, app: str | None, descriptor: int | None) -> None:
    """Run the web role until SIGTERM or SIGINT."""
    heed_sigterm()
    # Imported here, like every role: each needs an extra of its own.
    with needs_extra("web"):
        from outboxkit_web.app import create_app
        from outboxkit_web.settings import WebSettings
    run_http(create_app, WebSettings, app=app, descriptor=descriptor, uploads=True)


def run_worker(*, app: str | None, descriptor: int | None) -> None:
    """Run the worker role until SIGTERM or SIGINT."""
    heed_sigterm()
    with needs_extra("worker"):
        from outboxkit_worker.app import create_app
        from outboxkit_worker.settings import WorkerSettings
    run_http(create_app, WorkerSettings, app=app, descriptor=descriptor, uploads=False)


def heed_sigterm() -> None:
    """Let SIGTERM end the process while it starts, as it does later: the kernel keeps it from a PID 1 without a handler.

    A container that is stopped in its first second would otherwise be killed ten seconds later.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def run_http(create_app: Any, role: type[Any], *, app: str | None, descriptor: int | None, uploads: bool) -> None:
    """Run a role that listens: read all settings, load the application, and only then bind the port.

    `uploads` says that a request may take minutes to arrive.
    """
    with needs_extra("web"):
        from outboxkit_cli.http_protocol import HttpProtocol, UploadProtocol
        from outboxkit_cli.serve import open_listener, serve
    process, settings = read_both(ServingSettings, role, os.environ)
    application = prepare(process, app=app)
    listener = open_listener(host=process.host, port=process.port, descriptor=descriptor)
    litestar = create_app(settings=settings, application=application)
    protocol = UploadProtocol if uploads else HttpProtocol
    serve(litestar, listener=listener, grace=process.grace, protocol=protocol)


def run_relay(*, once: bool, max_seconds: float | None) -> None:
    """Run the relay until SIGTERM or SIGINT; with `once`, until nothing due is left, or for so many seconds.

    Exits with 1 when `once` could not deliver something that was due.
    """
    heed_sigterm()
    with needs_extra("relay"):
        from outboxkit_relay.relay import Relay
        from outboxkit_relay.settings import RelaySettings
    process, settings = read_both(ProcessSettings, RelaySettings, os.environ)
    prepare(process, app="")
    relay = Relay(settings=settings)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(drain(relay, max_seconds=max_seconds) if once else relay_for_ever(relay)))


async def drain(relay: "Relay", *, max_seconds: float | None) -> int:
    """Drain the outbox once; 1 when something due could not be delivered."""
    import psycopg  # of the extra cli

    try:
        drained = await relay.once(max_seconds=max_seconds)
    except psycopg.Error as error:
        raise CommandFailed(f"the outbox could not be drained: {str(error).strip()}") from error
    level = logging.INFO if drained.complete else logging.ERROR
    why = f": {'; '.join(drained.problems)}" if drained.problems else ""
    if drained.failed_due:
        why += f": {drained.failed_due} due triggers were not delivered; outboxkit.outbox.last_error says why"
    logger.log(level, "drained the outbox once%s", why, extra=msgspec.structs.asdict(drained))
    return 0 if drained.complete else 1


async def relay_for_ever(relay: "Relay") -> int:
    """Run the relay until a signal stops it. Raises CommandFailed when its port is taken."""
    try:
        await relay.run(stop_event())
    except OSError as error:
        raise CommandFailed(f"the relay cannot listen (PORT): {error.strerror or error}") from error
    return 0


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def prepare(process: ProcessSettings, *, app: str | None) -> Application:
    """Set up logging and load the application: `app`, else OUTBOXKIT_APP's, else one without handlers."""
    logs.configure(format=process.log_format, level=process.log_level, stream=sys.stdout)
    name = process.app if app is None else app
    if not name:
        return Application()
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script does not look in the current folder, where it may be
    return load(name)


def loop_factory() -> Any:
    """Return uvloop's loop factory where it is installed (not on Windows), else None for asyncio's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
