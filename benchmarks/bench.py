"""What every workload uses: the content, the origin, the peers, and rounds in which the peers take turns."""

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.certificate import Certificate
from benchmarks.content import Content
from benchmarks.peers import Peer, Starter
from benchmarks.process import CLIENT_CORE, Started, pinned

MIB = 1024 * 1024
GIB = 1024 * MIB
ORIGIN = "origin"
"""The name under which the origin itself is measured."""
SETTLE_SECONDS = 60.0
CASE_SECONDS = 45.0
"""After which no further round of a case begins, once it has its least rounds."""

T = TypeVar("T")
Figures = dict[str, float]
Measure = Callable[[Peer], Figures]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one peer did in one round of one case of a workload."""

    workload: str
    case: str
    peer: str
    round: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin's process, seen as a peer where a workload compares with it."""

    peer: Peer

    @classmethod
    @contextmanager
    def running(cls, directory: Path) -> "Iterator[Origin]":
        """Start it on the clients' core, until the end of the block."""
        command = pinned([sys.executable, "-m", "benchmarks.origin", str(directory)], CLIENT_CORE)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            address = f"127.0.0.1:{int(process.stdout.readline())}"
            try:
                yield cls(Peer(ORIGIN, address, directory, Started(process)))
            finally:
                process.terminate()

    def counts(self) -> dict[str, int]:
        """What it counted since its start."""
        with contextlib.closing(http.client.HTTPConnection(self.peer.address, timeout=SETTLE_SECONDS)) as connection:
            connection.request("GET", "/counts")
            counts: dict[str, int] = json.load(connection.getresponse())
            return counts

    def settle(self) -> dict[str, int]:
        """Wait until nothing is being sent; the counts then."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (counts := self.counts())["active"] and time.monotonic() < deadline:
            time.sleep(0.02)
        return counts


@dataclass(frozen=True, slots=True)
class Bench:
    """One run of all benchmarks."""

    content: Content
    origin: Origin
    directory: Path
    rounds: int
    quick: bool
    starters: Mapping[str, Starter]
    """What is measured, by name."""
    certificate: Certificate
    tls: bool = False
    """Whether the peers listen with TLS; the origin never does."""
    least_rounds: int = 1
    """Rounds that every case gets, however long they take."""

    def over_tls(self) -> "Bench":
        """The same on TLS listeners."""
        return replace(self, tls=True)

    def named(self, workload: str) -> str:
        """What a workload is called here."""
        return over_tls(workload) if self.tls else workload

    @contextmanager
    def peers(self) -> Iterator[list[Peer]]:
        """All peers, new and empty, until the end of the block."""
        with contextlib.ExitStack() as stack:
            peers = []
            for name, start in self.starters.items():
                directory = self.directory / name
                directory.mkdir()
                peer = start(self.origin.peer.address, directory, self.certificate if self.tls else None)
                stack.callback(peer.stop)
                peers.append(peer)
            yield peers

    def rounds_of(self, workload: str, case: str, peers: Sequence[Peer], measure: Measure) -> Iterator[Sample]:
        """Measure the peers in turn, round by round."""
        for number, peer in turns(peers, self.rounds, CASE_SECONDS, self.least_rounds):
            yield Sample(self.named(workload), case, peer.name, number, self.measured(peer, measure))

    def measured(self, peer: Peer, measure: Measure) -> Figures:
        """The figures of a measurement, with the CPU time of the peer and the counts of the origin added."""
        before, cpu = self.origin.settle(), peer.server.cpu_seconds()
        figures = measure(peer)
        self.origin.settle()
        if peer.name != ORIGIN:
            peer.server.settle()
        after = self.origin.settle()
        spent = peer.server.cpu_seconds() - cpu
        if "requests" in figures:
            figures["cpu_us"] = spent / figures["requests"] * 1e6
        if "bytes" in figures:
            figures["cpu_s_gib"] = spent / (figures["bytes"] / GIB)
        figures["origin_gets"] = after["gets"] - before["gets"]
        figures["origin_heads"] = after["heads"] - before["heads"]
        figures["origin_bytes"] = after["bytes"] - before["bytes"]
        figures["rss_mib"] = peer.server.resident_mib()
        return figures


def over_tls(workload: str) -> str:
    """The name of a workload on TLS listeners."""
    return f"{workload}, TLS"


def turns(peers: Sequence[T], rounds: int, seconds: float, least: int = 1) -> Iterator[tuple[int, T]]:
    """Every round each peer once; after the least rounds, none begins later than so many seconds."""
    started = time.monotonic()
    for number in range(rounds):
        if number >= least and time.monotonic() - started > seconds:
            return
        for peer in order(peers, number):
            yield number, peer


def order(peers: Sequence[T], number: int) -> Sequence[T]:
    """The order of the peers in a round: back and forth, and every second round from another one on.

    So no peer is always measured after the same other one, and each has early and late places alike: what drifts on the
    machine, or what one peer leaves behind, changes the figures of all.
    """
    start = number // 2 % len(peers)
    forth = [*peers[start:], *peers[:start]]
    return forth[::-1] if number % 2 else forth


def touch_memory(size: int) -> None:
    """Use so many bytes of free memory for a moment, so that the next one to need them finds them at hand.

    A virtual machine may have given its free pages back to the host. To get them again costs whoever writes a file
    2 s a GiB on such a machine: ten times the write itself.
    """
    ballast = b"x" * size
    del ballast
