"""Large hot blobs: stored by every peer, read by 1, 4 and 16 clients at once."""

from collections.abc import Iterator
from functools import partial

from benchmarks.bench import GIB, MIB, Bench, Figures, Sample
from benchmarks.clients import check, read
from benchmarks.content import Blob
from benchmarks.peers import Peer

CLIENTS = (1, 4, 16)
LEAST = 2 * GIB
"""Bytes that are read in one measurement at the least ..."""
LEAST_TLS = GIB
"""... and on TLS listeners, where a byte takes longer."""


def hot(bench: Bench) -> Iterator[Sample]:
    """A blob of 64 MiB and one of 1 GiB."""
    with bench.peers() as peers:
        for size in (64 * MIB,) if bench.quick else (64 * MIB, GIB):
            blob = bench.content.blob(size)
            for peer in peers:
                warm(bench, peer, blob)
            for clients in _clients(bench, size):
                measure = partial(_read, blob, clients, LEAST_TLS if bench.tls else LEAST)
                yield from bench.rounds_of("hot blob", f"{size // MIB} MiB, {clients} clients", peers, measure)
            bench.content.remove(blob)


def _clients(bench: Bench, size: int) -> tuple[int, ...]:
    if bench.quick:
        return (4,)
    return CLIENTS[:2] if bench.tls and size == GIB else CLIENTS


def warm(bench: Bench, peer: Peer, blob: Blob) -> None:
    """Have a peer store a blob, and see that it serves the right bytes from its store."""
    for _ in range(2):
        check(peer, blob.path(), blob)
        bench.origin.settle()
        peer.server.settle()
    before = bench.origin.counts()["bytes"]
    check(peer, blob.path(), blob)
    if bench.origin.settle()["bytes"] != before:
        raise RuntimeError(f"{peer.name} does not keep {blob.digest}")


def _read(blob: Blob, clients: int, least: int, peer: Peer) -> Figures:
    repeats = max(1, least // (blob.size * clients))
    done = read(peer, blob.path(), blob.size, clients=clients, repeats=repeats)
    return {"bytes": done.bytes, "gib_s": done.bytes / GIB / done.seconds, "first_byte_ms": max(done.first_bytes) * 1e3}
