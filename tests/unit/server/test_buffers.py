"""Little waits in the system for clients on the same machine, and what Linux finds right for all others."""

import socket
from collections.abc import Iterator

import pytest

from proxy.server.listener.accept import LOCAL_BUFFER, bound_send_buffer

DOUBLED = 2
"""Linux doubles the requested size, and keeps half for its own use."""


def send_buffer(connection: socket.socket) -> int:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


@pytest.fixture
def accepted() -> Iterator[socket.socket]:
    """The server's end of a connection on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        connection, _ = server.accept()
        with connection:
            yield connection


def test_little_waits_for_a_client_on_this_machine(accepted: socket.socket) -> None:
    before = send_buffer(accepted)
    bound_send_buffer(accepted, "127.0.0.1")
    assert send_buffer(accepted) <= LOCAL_BUFFER * DOUBLED < before


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.7", False),
        ("::ffff:10.0.0.7", False),
        ("fe80::1%eth0", False),
    ],
)
def test_others_keep_what_the_system_finds_right(accepted: socket.socket, host: str, is_local: bool) -> None:
    before = send_buffer(accepted)
    bound_send_buffer(accepted, host)
    assert (send_buffer(accepted) != before) is is_local


def test_a_connection_that_is_closed_is_no_trouble() -> None:
    closed = socket.socket()
    closed.close()
    bound_send_buffer(closed, "127.0.0.1")
    assert closed.fileno() == -1
