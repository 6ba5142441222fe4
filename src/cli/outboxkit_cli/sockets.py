"""Free ports without a race: the socket is opened first, and the process that serves it inherits it."""

import os
import socket

from outboxkit_cli.failures import CommandFailed


def listening_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Open a listening TCP socket; port 0 takes a free one.

    Hand its descriptor to a child and close it here, so that connections are refused once the child has gone.
    Raises CommandFailed when the port is taken or the address is not this machine's.
    """
    try:
        listener = socket.create_server((host, port), backlog=128)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
    listener.set_inheritable(True)
    return listener


def address(listener: socket.socket) -> str:
    """Return the http URL at which the socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
