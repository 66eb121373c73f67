"""200 slow readers of one warm blob: by how much the resident memory of a peer grows."""

import contextlib
import socket
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.bench import MIB, Bench, Figures, Sample, order
from benchmarks.clients import WrongBytes
from benchmarks.content import Blob
from benchmarks.peers import Peer
from benchmarks.workloads.large import warm

READERS = 200
ROUNDS = 3
"""The most rounds: memory varies little, and new servers take their time."""
SIZE = 64 * MIB
SECONDS = 3.0
PAUSE = 0.1
STEP = 8192
RECEIVE_BUFFER = 32768
CONNECT_SECONDS = 30.0


def slow(bench: Bench) -> Iterator[Sample]:
    """Each reader takes 8 KiB, ten times a second; each round has new servers, as memory once used stays resident."""
    blob = bench.content.blob(SIZE)
    for number in range(min(bench.rounds, ROUNDS)):
        with bench.peers() as peers:
            for peer in order(peers, number):
                warm(bench, peer, blob)
                figures = bench.measured(peer, partial(_read, blob))
                yield Sample("slow readers", f"{READERS} readers", peer.name, number, figures)
    bench.content.remove(blob)


def _read(blob: Blob, peer: Peer) -> Figures:
    base = peak = peer.server.resident_mib()
    expected = blob.file.read_bytes()
    with contextlib.ExitStack() as stack:
        readers = {stack.enter_context(_opened(peer, blob)): b"" for _ in range(READERS)}
        started = time.monotonic()
        while time.monotonic() - started < SECONDS:
            for reader in readers:
                readers[reader] += reader.recv(STEP)
            peak = max(peak, peer.server.resident_mib())
            time.sleep(PAUSE)
    for received in readers.values():
        body = received.partition(b"\r\n\r\n")[2]
        if not body or not expected.startswith(body):
            raise WrongBytes(f"{peer.name} sent wrong bytes to a slow reader")
    return {"base_mib": base, "peak_mib": peak, "growth_mib": peak - base}


def _opened(peer: Peer, blob: Blob) -> socket.socket:
    """A connection that has requested the blob and reads little at a time."""
    host, _, port = peer.address.rpartition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    connection.settimeout(CONNECT_SECONDS)
    connection.connect((host, int(port)))
    connection.sendall(f"GET {blob.path()} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return connection
