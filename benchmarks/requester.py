"""Clients that send one small request again and again: `python -m benchmarks.requester HOST:PORT PATH`.

wrk cannot send HEAD (it waits for a body), so HEAD is measured with this. Prints JSON; counts every answer by status.
"""

import argparse
import json
import select
import socket
import sys
import time
from collections.abc import Iterator

ACCEPT = "application/vnd.oci.image.manifest.v1+json"
RECEIVE = 65536
STALL_SECONDS = 5.0


def exchange(sockets: dict[int, socket.socket], request: bytes, seconds: float) -> tuple[int, int, float]:
    """Send a HEAD on each connection as soon as the one before is answered: good answers, bad ones, seconds."""
    poll = select.epoll()
    for descriptor, connection in sockets.items():
        poll.register(descriptor, select.EPOLLIN)
        connection.sendall(request)
    good = bad = 0
    started = now = time.monotonic()
    while now - started < seconds:
        for descriptor, _ in poll.poll(STALL_SECONDS) or _stalled():
            connection = sockets[descriptor]
            answer = connection.recv(RECEIVE)
            while not answer.endswith(b"\r\n\r\n"):
                more = connection.recv(RECEIVE)
                if not more:
                    raise ConnectionError("the connection was closed")
                answer += more
            if answer.startswith(b"HTTP/1.1 200 "):
                good += 1
            else:
                bad += 1
            connection.sendall(request)
        now = time.monotonic()
    return good, bad, now - started


def _stalled() -> Iterator[tuple[int, int]]:
    raise TimeoutError("no answer")


def main() -> None:
    """Send requests for some seconds, and print how many were answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    host, _, port = arguments.address.rpartition(":")
    opened = [socket.create_connection((host, int(port)), STALL_SECONDS) for _ in range(arguments.connections)]
    request = f"HEAD {arguments.path} HTTP/1.1\r\nHost: bench\r\nAccept: {ACCEPT}\r\n\r\n".encode()
    good, bad, seconds = exchange({one.fileno(): one for one in opened}, request, arguments.seconds)
    for connection in opened:
        connection.close()
    json.dump({"requests": good + bad, "bad": bad, "seconds": seconds, "bytes": 0}, sys.stdout)


if __name__ == "__main__":
    main()
