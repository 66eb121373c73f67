"""scope-proxy with many stored blobs: how long it takes to start, and what a hit costs as the store grows."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, Figures, Sample
from benchmarks.clients import check, get_many
from benchmarks.content import Blob
from benchmarks.peers import Peer, scope_proxy
from proxy.oci.reference import Digest
from proxy.store.layout import Layout

COUNTS = (1, 1000, 100_000)
SIZE = 1024
REQUESTED = 64
"""Different blobs that are requested, as far as there are so many."""
SECONDS = 1.0
CONNECTIONS = 16


def stored(bench: Bench) -> Iterator[Sample]:
    """A store of 1, 1000 and 100,000 blobs, made without the proxy."""
    requested = [bench.content.blob(SIZE) for _ in range(REQUESTED)]
    for count in (COUNTS[0], COUNTS[-1]) if bench.quick else COUNTS:
        directory = bench.directory / "scope-proxy"
        directory.mkdir()
        try:
            scope_proxy(bench.origin.peer.address, directory).server.stop()  # makes an empty store
            _fill(directory / "store", requested, count)
            yield from _starts(bench, directory, count)
            yield from _hits(bench, directory, requested[: min(count, REQUESTED)], count)
        finally:
            shutil.rmtree(directory)


def _starts(bench: Bench, directory: Path, count: int) -> Iterator[Sample]:
    """Start on the files alone, then with the index that this has left."""
    for number in range(bench.rounds + 1):
        peer = scope_proxy(bench.origin.peer.address, directory)
        peer.server.stop()
        case = "first start, no index" if number == 0 else "start"
        figures = {"ready_s": peer.ready_seconds}
        yield Sample("stored blobs", f"{count} blobs: {case}", peer.name, max(0, number - 1), figures)


def _hits(bench: Bench, directory: Path, requested: list[Blob], count: int) -> Iterator[Sample]:
    peer = scope_proxy(bench.origin.peer.address, directory)
    paths = [blob.path() for blob in requested]

    def get(peer: Peer) -> Figures:
        done = get_many(peer, paths, SIZE, CONNECTIONS, SECONDS)
        return {"requests": done.requests, "requests_s": done.requests / done.seconds}

    try:
        for blob in requested:
            check(peer, blob.path(), blob)
        yield from bench.rounds_of("stored blobs", f"{count} blobs: hit of 1 KiB", [peer], get)
    finally:
        peer.server.stop()


def _fill(root: Path, requested: list[Blob], count: int) -> None:
    """Write so many blobs into a store, the requested ones among them, and remove its index."""
    layout = Layout(root)
    for part in layout.index.parent.glob(f"{layout.index.name}*"):
        part.unlink()
    for number in range(count):
        body = requested[number].file.read_bytes() if number < len(requested) else f"stored blob {number}".encode() * 50
        file = layout.blob(Digest.parse(f"sha256:{hashlib.sha256(body).hexdigest()}"))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_bytes(body)
        file.chmod(0o600)
