"""Free ports without a race."""

import socket

import pytest

from outboxkit_cli.failures import CommandFailed
from outboxkit_cli.sockets import address, listening_socket


def test_two_sockets_never_share_a_port() -> None:
    """A port that was handed out is taken from that moment on."""
    with listening_socket() as one, listening_socket() as other:
        assert address(one) != address(other)
        with pytest.raises(CommandFailed, match="in use"):
            listening_socket(port=one.getsockname()[1])


def test_it_listens_before_anyone_serves_it() -> None:
    """A client that comes before the child has started is not refused; it waits."""
    with listening_socket() as listener, socket.create_connection(listener.getsockname(), timeout=5):
        pass


def test_it_refuses_once_it_is_closed() -> None:
    """When nobody holds the socket any more, clients are refused at once."""
    with listening_socket() as listener:
        where = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=5)
