"""Small hot objects: a manifest by tag, GET and HEAD, and blobs of 4 to 64 KiB."""

from collections.abc import Iterator

from benchmarks.bench import Bench, Figures, Measure, Sample
from benchmarks.clients import Requests, check, get_many, head_many
from benchmarks.content import REPOSITORY, TAG
from benchmarks.peers import Peer

KIB = 1024
SECONDS = 1.0
MANIFEST = f"/v2/{REPOSITORY}/manifests/{TAG}"
BLOBS = 16
"""Different blobs that are requested in turn."""


def manifests(bench: Bench) -> Iterator[Sample]:
    """GET and HEAD of one manifest by tag, within the tag's age; on TLS listeners GET alone."""
    size = len(bench.content.image())

    def get(connections: int, seconds: float = SECONDS) -> Measure:
        return lambda peer: _figures(get_many(peer, [MANIFEST], size, connections, seconds))

    with bench.peers() as peers:
        for peer in peers:
            get(1, 1)(peer)
        for connections in (16,) if bench.quick or bench.tls else (16, 64):
            yield from bench.rounds_of("manifest", f"GET, {connections} connections", peers, get(connections))
        if bench.tls:
            return
        yield from bench.rounds_of("manifest", "HEAD, 16 connections", peers, _head)


def blobs(bench: Bench) -> Iterator[Sample]:
    """GET of small blobs."""
    with bench.peers() as peers:
        for size in (4 * KIB,) if bench.quick else (4 * KIB, 64 * KIB):
            made = [bench.content.blob(size) for _ in range(BLOBS)]
            for peer in peers:
                for blob in made:
                    check(peer, blob.path(), blob)
                peer.server.settle()
            paths = [blob.path() for blob in made]

            def get(peer: Peer, paths: list[str] = paths, size: int = size) -> Figures:
                return _figures(get_many(peer, paths, size, 16, SECONDS))

            yield from bench.rounds_of("small blob", f"{size // KIB} KiB, 16 connections", peers, get)


def _head(peer: Peer) -> Figures:
    return _figures(head_many(peer, MANIFEST, 16, SECONDS))


def _figures(done: Requests) -> Figures:
    return {"requests": done.requests, "requests_s": done.requests / done.seconds}
