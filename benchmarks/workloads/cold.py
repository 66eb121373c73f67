"""Cold blobs: not stored by any peer; every measurement has a blob of its own, and the disk at rest before it."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bench import GIB, MIB, ORIGIN, Bench, Figures, Sample, touch_memory, turns
from benchmarks.clients import check, read
from benchmarks.content import LIMITED_REPOSITORY, REPOSITORY, Blob
from benchmarks.peers import Peer

LEAST_PAIRS = 10
"""Rounds of the cold 1 GiB blob in a full run: its spread is the largest."""
CASE_SECONDS = 200.0
"""After which no further round begins, once there are the least rounds ..."""
COLD_SECONDS = 300.0
"""... and of the cold 1 GiB blob: room for ten, unless the machine is busy."""
SPARE = 512 * MIB
"""Memory besides the blob's own that is touched before each measurement."""


@dataclass(frozen=True, slots=True)
class Case:
    """A blob of `size` bytes, read by so many clients at once."""

    workload: str
    name: str
    size: int
    clients: int = 1
    repository: str = REPOSITORY
    with_direct: bool = True
    """Whether the origin itself is measured too, where the listeners are plain as it is."""
    seconds: float = CASE_SECONDS


COLD = Case("cold blob", "1 GiB, 1 client", GIB, seconds=COLD_SECONDS)
STAMPEDE = Case("stampede", "256 MiB, 32 clients", 256 * MIB, clients=32, with_direct=False)
LIMITED = Case("limited origin", "128 MiB at 64 MiB/s", 128 * MIB, repository=LIMITED_REPOSITORY)


def cold(bench: Bench) -> Iterator[Sample]:
    """One client, one cold blob of 1 GiB."""
    yield from _rounds(bench, COLD, bench.rounds if bench.quick else max(bench.rounds, LEAST_PAIRS))


def stampede(bench: Bench) -> Iterator[Sample]:
    """32 clients at once on one cold blob of 256 MiB."""
    yield from _rounds(bench, STAMPEDE, bench.rounds)


def limited(bench: Bench) -> Iterator[Sample]:
    """One client, one cold blob, from an origin that sends 64 MiB/s: a peer must not slow it down."""
    yield from _rounds(bench, LIMITED, bench.rounds)


def _rounds(bench: Bench, case: Case, rounds: int) -> Iterator[Sample]:
    with bench.peers() as peers:
        _warm_up(bench, peers)
        measured = [*peers, bench.origin.peer] if case.with_direct and not bench.tls else peers
        for number, peer in turns(measured, rounds, case.seconds, bench.least_rounds):
            yield _sample(bench, case, peer, number)


def _sample(bench: Bench, case: Case, peer: Peer, number: int) -> Sample:
    blob = bench.content.blob(case.size)
    try:
        touch_memory(case.size + SPARE)
        figures = bench.measured(peer, lambda peer: _read(peer, case, blob))
        figures["origin_times"] = figures["origin_bytes"] / case.size
    finally:
        bench.content.remove(blob)
        if peer.name != ORIGIN:
            peer.forget()
    return Sample(bench.named(case.workload), case.name, peer.name, number, figures)


def _read(peer: Peer, case: Case, blob: Blob) -> Figures:
    """Every client counts its bytes, the first one compares them."""
    path = blob.path(case.repository)
    done = read(peer, path, blob.size, clients=case.clients, expect=blob.file)
    return {
        "bytes": done.bytes,
        "seconds": done.seconds,
        "gib_s": done.bytes / GIB / done.seconds,
        "first_byte_ms": max(done.first_bytes) * 1e3,
    }


def _warm_up(bench: Bench, peers: list[Peer]) -> None:
    """A first small blob: connections and code paths are not what is measured."""
    blob = bench.content.blob(2 * MIB)
    for peer in peers:
        check(peer, blob.path(), blob)
        check(peer, blob.path(LIMITED_REPOSITORY), blob)
