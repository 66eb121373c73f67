"""The registry behind every peer: serves the files of one directory and counts what it sends.

`python -m benchmarks.origin DIRECTORY` prints its port. No authentication, no TLS, one thread for each connection and
`sendfile`, so that it is not what is measured.
"""

import hashlib
import json
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from benchmarks.content import LIMITED_REPOSITORY, MANIFEST_TYPE

LIMITED_RATE = 64 * 1024 * 1024
"""Bytes a second on each connection that asks for a blob of the limited repository."""
LIMITED_STEP = 128 * 1024
HEADER_LIMIT = 65536
SEND_STEP = 64 * 1024 * 1024
IDLE_SECONDS = 300.0
BACKLOG = 1024
COUNTS_PATH = "/counts"


@dataclass(slots=True)
class Counts:
    """Requests, bytes of bodies that were sent, and answers that are being sent."""

    gets: int = 0
    heads: int = 0
    bytes: int = 0
    active: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """The part of a request that matters here."""

    method: str
    path: str
    range: str


class Origin:
    """Answers each connection in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._counts = Counts()
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Accept until the process ends."""
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(IDLE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            try:
                while (request := _read_request(connection)) is not None:
                    self._answer(connection, request)
            except OSError:
                return  # a peer that has left

    def _answer(self, connection: socket.socket, request: Request) -> None:
        if request.path == COUNTS_PATH:
            _send_small(connection, "200 OK", json.dumps(self._shown()).encode())
        elif request.path == "/v2/":
            _send_small(connection, "200 OK", b"{}")
        elif (file := self._file(request.path)) is None:
            _send_small(connection, "404 Not Found", b'{"errors":[{"code":"NAME_UNKNOWN"}]}')
        else:
            self._count(active=1)
            try:
                self._send_file(connection, request, file)
            finally:
                self._count(active=-1)

    def _file(self, path: str) -> Path | None:
        kind, name = path.split("/")[-2:] if path.count("/") > 1 else ("", "")
        file = self._directory / kind / name
        return file if kind in {"blobs", "manifests"} and file.is_file() else None

    def _send_file(self, connection: socket.socket, request: Request, path: Path) -> None:
        with path.open("rb") as file:
            size = path.stat().st_size
            first, last = _span(request.range, size)
            connection.sendall(_head(path, size, first, last))
            if request.method == "HEAD":
                self._count(heads=1)
                return
            self._count(gets=1)
            limited = f"/{LIMITED_REPOSITORY}/blobs/" in request.path
            self._send_body(connection, file, first, last + 1, LIMITED_RATE if limited else None)

    def _send_body(self, connection: socket.socket, file: BinaryIO, start: int, end: int, rate: int | None) -> None:
        offset, started = start, time.monotonic()
        while offset < end:
            count = min(end - offset, SEND_STEP if rate is None else LIMITED_STEP)
            sent = connection.sendfile(file, offset, count)
            self._count(sent=sent)
            offset += sent
            if rate is not None:
                time.sleep(max(0.0, started + (offset - start) / rate - time.monotonic()))

    def _count(self, *, gets: int = 0, heads: int = 0, sent: int = 0, active: int = 0) -> None:
        with self._lock:
            self._counts.gets += gets
            self._counts.heads += heads
            self._counts.bytes += sent
            self._counts.active += active

    def _shown(self) -> dict[str, int]:
        with self._lock:
            counts = self._counts
            return {"gets": counts.gets, "heads": counts.heads, "bytes": counts.bytes, "active": counts.active}


def _read_request(connection: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(HEADER_LIMIT)
        if not chunk or len(data) > HEADER_LIMIT:
            return None
        data += chunk
    first, *rest = data.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    method, target, _ = first.split(" ")
    return Request(method, target.partition("?")[0], headers.get("range", ""))


def _span(wanted: str, size: int) -> tuple[int, int]:
    """The first and last byte; only `bytes=A-B` and `bytes=A-` are known."""
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    return int(first or 0), min(int(last), size - 1) if last else size - 1


def _head(path: Path, size: int, first: int, last: int) -> bytes:
    is_blob = path.parent.name == "blobs"
    digest = path.name if ":" in path.name else f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    lines = [
        "HTTP/1.1 200 OK" if last - first + 1 == size else "HTTP/1.1 206 Partial Content",
        f"Content-Type: {'application/octet-stream' if is_blob else MANIFEST_TYPE}",
        f"Content-Length: {last - first + 1}",
        f"Docker-Content-Digest: {digest}",
        f'ETag: "{digest}"',
        "Docker-Distribution-Api-Version: registry/2.0",
        "Accept-Ranges: bytes",
    ]
    if last - first + 1 != size:
        lines.append(f"Content-Range: bytes {first}-{last}/{size}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _send_small(connection: socket.socket, status: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(head.encode() + b"Docker-Distribution-Api-Version: registry/2.0\r\n\r\n" + body)


def main() -> None:
    """Listen on a free port of the loopback address until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        print(listener.getsockname()[1], flush=True)
        Origin(Path(sys.argv[1])).serve(listener)


if __name__ == "__main__":
    main()
