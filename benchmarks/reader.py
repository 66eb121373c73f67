"""Clients of large blobs: `python -m benchmarks.reader HOST:PORT PATH SIZE` reads a blob and prints JSON.

A program of its own, so that its interpreter lock and its CPU time are nobody else's. Every client counts its bytes;
the first one also compares them with a file, or hashes them, with --expect or --hash.
"""

import argparse
import hashlib
import json
import mmap
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

BUFFER = 1024 * 1024
TIMEOUT_SECONDS = 120
HEADER_LIMIT = 65536


Check = Callable[[bytes | memoryview, int], None]
"""Looks at bytes that were read, and at which offset; raises WrongAnswer."""


class WrongAnswer(Exception):
    """A peer sent something else than the blob."""


@dataclass(slots=True)
class Client:
    """One client: reads the blob some times over one connection."""

    address: tuple[str, int]
    path: str
    size: int
    tls: ssl.SSLContext | None = None
    first_bytes: list[float] = field(default_factory=list)
    got: int = 0
    error: str = ""
    _memory: memoryview = field(default_factory=lambda: memoryview(mmap.mmap(-1, BUFFER)), repr=False)
    """Begins with a page."""

    def run(self, repeats: int, check: Check) -> None:
        """Read it; what goes wrong is kept in `error`."""
        try:
            with self._connected() as connection:
                for _ in range(repeats):
                    self._read(connection, check)
        except (OSError, WrongAnswer, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def _connected(self) -> socket.socket:
        connection = socket.create_connection(self.address)
        # Blocking reads that fill the buffer: a timeout of Python's own would make them non-blocking.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", TIMEOUT_SECONDS, 0))
        if self.tls is None:
            return connection
        return self.tls.wrap_socket(connection, server_hostname=self.address[0])

    def _read(self, connection: socket.socket, check: Check) -> None:
        started = time.monotonic()
        connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n".encode())
        body = self._skip_head(connection) or connection.recv(1)
        self.first_bytes.append(time.monotonic() - started)
        self._take(body, 0, check)
        offset = len(body)
        while offset < self.size:
            # Each byte goes to the place in a page that it has in the blob: were it shifted, by the one byte that
            # came with the head of one peer and not of another, the kernel would copy up to three times as long.
            place = offset % BUFFER
            view = self._memory[place : place + min(BUFFER - place, self.size - offset)]
            count = _fill(connection, view)
            if count == 0:
                raise WrongAnswer(f"the body ended at byte {offset} of {self.size}")
            self._take(view[:count], offset, check)
            offset += count

    def _take(self, data: bytes | memoryview, offset: int, check: Check) -> None:
        self.got += len(data)
        check(data, offset)

    def _skip_head(self, connection: socket.socket) -> bytes:
        """Read the head of the answer; what came of the body with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = connection.recv(4096)
            if not chunk or len(data) > HEADER_LIMIT:
                raise WrongAnswer(f"no answer, but {data[:80]!r}")
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        if " 200 " not in f"{lines[0]} " or f"content-length: {self.size}" not in lines:
            raise WrongAnswer(f"answered {lines[0]!r} without the length {self.size}")
        return body


def _fill(connection: socket.socket, view: memoryview) -> int:
    """Read until the memory is full or the connection ends; TLS gives one record at a time."""
    if not isinstance(connection, ssl.SSLSocket):
        return connection.recv_into(view, len(view), socket.MSG_WAITALL)
    filled = 0
    while filled < len(view) and (count := connection.recv_into(view[filled:])):
        filled += count
    return filled


def read(clients: list[Client], repeats: int, check: Check) -> float:
    """Let all clients read at once, the first one with a check; seconds for all."""
    checks = [check, *([_trust] * (len(clients) - 1))]
    threads = [
        threading.Thread(target=client.run, args=(repeats, own)) for client, own in zip(clients, checks, strict=True)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def compare_with(file: Path) -> Check:
    """A check that the bytes are those of a file."""
    with file.open("rb") as opened:
        expected = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    def check(data: bytes | memoryview, offset: int) -> None:
        # Both as bytes: views would be compared one byte after the other, which takes longer than the whole download.
        if bytes(data) != expected[offset : offset + len(data)]:
            raise WrongAnswer(f"wrong bytes behind byte {offset}")

    return check


def _trust(data: bytes | memoryview, offset: int) -> None:
    """No check: the bytes are counted all the same."""


def main() -> None:
    """Read, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("path")
    parser.add_argument("size", type=int)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--expect", type=Path, help="file that the first client compares with")
    parser.add_argument("--authority", type=Path, help="read over TLS, and trust the certificates of this file alone")
    parser.add_argument("--hash", action="store_true", help="the first client hashes instead")
    arguments = parser.parse_args()
    host, _, port = arguments.address.rpartition(":")
    tls = ssl.create_default_context(cafile=arguments.authority) if arguments.authority else None  # noqa: TID251 - our own
    clients = [Client((host, int(port)), arguments.path, arguments.size, tls) for _ in range(arguments.clients)]
    hasher = hashlib.sha256()
    check = compare_with(arguments.expect) if arguments.expect else _trust
    seconds = read(clients, arguments.repeats, (lambda data, _: hasher.update(data)) if arguments.hash else check)
    json.dump(
        {
            "seconds": seconds,
            "bytes": sum(client.got for client in clients),
            "first_bytes": [first for client in clients for first in client.first_bytes],
            "errors": [client.error for client in clients if client.error],
            "sha256": hasher.hexdigest() if arguments.hash else "",
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
