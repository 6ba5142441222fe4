"""Runs an ASGI application under uvicorn, with our logging and our exit status."""

import logging
import math
import signal
import socket
import sys
from typing import Any, NoReturn

import uvicorn

from outboxkit_cli.http_protocol import HttpProtocol, UploadProtocol
from outboxkit_cli.sockets import address, listening_socket

logger = logging.getLogger("outboxkit.serve")


def serve(app: Any, *, listener: socket.socket, grace: float, protocol: type[HttpProtocol]) -> None:
    """Serve until SIGTERM or SIGINT; then accept nothing more and let open requests finish.

    They have `grace` seconds; then the application's lifespan ends, in its own time. Exits with 0 then, and with 3 when
    the lifespan could not start. A second SIGINT does not wait for open requests. `protocol` sets the deadlines for
    what a client sends.
    """
    # Uvicorn raises the signal again when it is done; that an orderly stop is a success is for us to say.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    # What it has to say at this level is said by the roles; its warnings and errors are kept.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logger.info("Listening on %s", address(listener))
    uvicorn.Server(configuration(app, grace=grace, protocol=protocol)).run(sockets=[listener])


def configuration(app: Any, *, grace: float, protocol: type[HttpProtocol] = UploadProtocol) -> uvicorn.Config:
    """How every role that listens is served."""
    return uvicorn.Config(
        app,
        loop="auto",  # uvloop, except on Windows, which it does not support
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # nobody here asks for the client's address
        timeout_graceful_shutdown=math.ceil(grace),
    )


def leave(_number: int, _frame: Any) -> NoReturn:
    """End the process as an orderly stop ends it."""
    sys.exit(0)


def open_listener(*, host: str, port: int, descriptor: int | None) -> socket.socket:
    """Return the socket to serve on: the inherited one, else a new one."""
    if descriptor is not None:
        return socket.socket(fileno=descriptor)
    return listening_socket(host, port)
