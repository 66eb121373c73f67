"""Runs the client programs on the clients' core and takes in what they print; wrong answers raise WrongBytes."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.content import Blob
from benchmarks.peers import NotInstalled, Peer
from benchmarks.process import CLIENT_CORE, pinned
from benchmarks.requester import ACCEPT

CLIENT_SECONDS = 180.0
_SCRIPT = Path(__file__).with_name("wrk.lua")
_ROOT = Path(__file__).parent.parent


class WrongBytes(Exception):
    """A peer sent a wrong response: no figure of this run counts."""


@dataclass(frozen=True, slots=True)
class Requests:
    """Small requests that were answered, all of them right."""

    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bytes:
    """Large bodies that were read; times in seconds."""

    bytes: int
    seconds: float
    first_bytes: Sequence[float]


def get_many(peer: Peer, paths: Sequence[str], body: int, connections: int, seconds: float) -> Requests:
    """GET the paths in turn with wrk, which believes every certificate; `body` is the least size of an answer."""
    if shutil.which("wrk") is None:
        raise NotInstalled("wrk is not installed: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(paths) + "\n")
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(_SCRIPT), peer.url]
        output = _output([*command, "--", file.name, ACCEPT])
    found = json.loads(output.partition("RESULT ")[2])
    return _requests(found, peer, body)


def head_many(peer: Peer, path: str, connections: int, seconds: float) -> Requests:
    """HEAD a path, on a plain listener."""
    command = [sys.executable, "-m", "benchmarks.requester", peer.address, path]
    output = _output([*command, "--connections", str(connections), "--seconds", str(seconds)])
    return _requests(json.loads(output), peer, 0)


def read(peer: Peer, path: str, size: int, *, clients: int = 1, repeats: int = 1, expect: Path | None = None) -> Bytes:
    """Read a blob by so many clients at once, each so many times; the first one compares with a file if given."""
    more = ["--clients", str(clients), "--repeats", str(repeats)]
    found = _read(peer, path, size, [*more, *(["--expect", str(expect)] if expect else [])])
    if found["bytes"] != clients * repeats * size:
        raise WrongBytes(f"{peer.name} sent {found['bytes']} bytes of {path}, not {clients * repeats * size}")
    return Bytes(found["bytes"], found["seconds"], found["first_bytes"])


def check(peer: Peer, path: str, blob: Blob) -> None:
    """Read a blob once and hash it."""
    found = _read(peer, path, blob.size, ["--hash"])
    if f"sha256:{found['sha256']}" != blob.digest:
        raise WrongBytes(f"{peer.name} sent {path} with the digest sha256:{found['sha256']}")


def _read(peer: Peer, path: str, size: int, more: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.reader", peer.address, path, str(size), *more]
    command += ["--authority", str(peer.authority)] if peer.authority else []
    found: dict[str, Any] = json.loads(_output(command))
    if found["errors"]:
        raise WrongBytes(f"{peer.name}: {path}: {found['errors'][0]} ({len(found['errors'])} clients)")
    return found


def _requests(found: dict[str, float], peer: Peer, body: int) -> Requests:
    if found["bad"] or found["requests"] == 0:
        raise WrongBytes(f"{peer.name} failed {found['bad']:.0f} of {found['requests']:.0f} requests")
    if found["bytes"] < found["requests"] * body:
        raise WrongBytes(f"{peer.name} sent {found['bytes']:.0f} bytes for {found['requests']:.0f} bodies of {body}")
    return Requests(int(found["requests"]), found["seconds"])


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(
        pinned(command, CLIENT_CORE), capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False, cwd=_ROOT
    )
    if done.returncode:
        raise WrongBytes(f"{command}: exit status {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout
