"""The image is really built, and its files really run: as an ordinary user, on a read-only root, without a shell."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Account, Rules
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob, manifest, settings
from tests.fakes.registry import ScriptedRegistry
from tests.real.image import USER, Built, Container, built
from tests.real.processes import Process, answers, free_port, scratch
from tests.real.programs import require, require_tools
from tests.tools.catalogue import BASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MIB = 1 << 20
MOST_ADDED = 150 * MIB
STOP_SECONDS = 30.0
LOGIN = {"username": "robot", "password": "canary-image"}
"""What the container's registry wants."""
WAIT = "import os, sys; os.chdir('/var/cache/scope-proxy'); open('waits', 'w').close(); open('start').close(); "
WAIT_FOR_START = ("/opt/scope-proxy/bin/python3", "-c", f"{WAIT}os.execvp(sys.argv[1], sys.argv[1:])")
"""Runs a command after `start` was written in the cache; by then the threads of the container runtime have ended."""


@pytest.fixture(scope="module")
def image() -> Iterator[Built]:
    """The image, built once."""
    require("buildah", "runc", root=True)
    require_tools(BASE)
    with built() as made:
        yield made


def test_it_is_small(image: Built) -> None:
    sys.stderr.write(f"\nthe image adds {image.added / MIB:.1f} MiB to its base\n")
    assert 0 < image.added <= MOST_ADDED


def test_it_says_what_it_is_and_how_it_is_run(image: Built) -> None:
    assert image.settings["User"] == f"{USER}:{USER}"
    assert (image.settings["Entrypoint"], image.settings["Cmd"]) == (["scope-proxy"], ["serve"])
    assert image.settings["Healthcheck"]["Test"] == ["CMD", "scope-proxy", "healthcheck"]
    labels = image.settings["Labels"]
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.revision"] == "abc"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_its_user_may_read_its_configuration_whatever_the_umask_of_the_checkout(image: Built) -> None:
    directory = image.root / "etc/scope-proxy"
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (directory, *directory.iterdir())}
    assert modes == {"scope-proxy": "0o755", "config.yaml": "0o644"}


def test_it_holds_no_tool_that_builds_or_installs(image: Built) -> None:
    packages = {
        path.name.partition("-")[0] for path in image.root.glob("opt/scope-proxy/lib/*/site-packages/*.dist-info")
    }
    assert "aiohttp" in packages
    assert packages & {"pip", "setuptools", "hatchling", "editables", "wheel"} == set()
    for program in ("pip", "pip3", "gcc", "cc", "make"):
        assert not list(image.root.glob(f"**/bin/{program}"))


def test_its_user_owns_nothing_but_the_cache(image: Built) -> None:
    owned = [path for path in image.root.glob("**/*") if path.lstat().st_uid == USER]
    assert owned == [image.root / "var/cache/scope-proxy"]


@pytest.fixture
def content() -> Image:
    """What the registry holds."""
    return make_image(UPSTREAM, "1")


@pytest.fixture
async def registry(content: Image) -> AsyncIterator[ScriptedRegistry]:
    """A strict registry."""
    async with ScriptedRegistry([content], Rules(accounts=(Account(LOGIN["username"], LOGIN["password"]),))) as server:
        yield server


@pytest.mark.parametrize(("workers", "volume"), [(1, "owned"), (2, "owned"), (1, "shared")])
async def test_it_serves_a_pull_and_stops(
    image: Built, registry: ScriptedRegistry, content: Image, workers: int, volume: str
) -> None:
    """A volume of Kubernetes belongs to root, and with fsGroup or as an emptyDir is open to others (`shared`)."""
    with scene(image, registry.url, workers) as here:
        if volume == "shared":
            os.chown(here.cache, 0, USER)
            here.cache.chmod(0o2777)
        process = await asyncio.to_thread(start, here)
        await pull(NodeClient(here.address), content)
        healthy = await asyncio.to_thread(here.container.execute, "scope-proxy", "healthcheck")
        shell = await asyncio.to_thread(here.container.execute, "/bin/sh", "-c", "true")
        process.send(signal.SIGTERM)
        status = await asyncio.to_thread(process.wait, STOP_SECONDS)
        assert (healthy.status, status) == (0, 0), (healthy.errors, process.log())
        assert shell.status != 0
        assert {path.stat().st_uid for path in here.cache.glob("**/*")} == {USER}
        assert any(path.is_file() for path in here.cache.glob("store/blobs/**/*"))
        assert (here.cache / "store").stat().st_mode & 0o777 == 0o700


async def test_a_profile_that_refuses_clone3_is_named_at_the_start(image: Built, registry: ScriptedRegistry) -> None:
    with scene(image, registry.url) as here:
        process = here.container.start(here.config, here.cache, seccomp=clone3_fails(errno.EPERM))
        status = await asyncio.to_thread(process.wait, STOP_SECONDS)
        log = process.log()
    assert (status, "Traceback" in log) == (1, False), log
    [line] = spoken(log)
    assert "clone3 with EPERM" in line
    assert "podSecurityContext.seccompProfile.type: Unconfined" in line


async def test_it_serves_under_a_profile_as_that_of_newer_container_runtimes(
    image: Built, registry: ScriptedRegistry, content: Image
) -> None:
    with scene(image, registry.url) as here:
        process = await asyncio.to_thread(start, here, seccomp=clone3_fails(errno.ENOSYS))
        await pull(NodeClient(here.address), content)
        process.send(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, STOP_SECONDS) == 0


@pytest.mark.parametrize(
    ("limit", "workers", "what"), [(1, 1, "a thread"), (2, 1, "another thread"), (1, 2, "a thread"), (2, 2, "a worker")]
)
async def test_a_limit_on_processes_is_named_at_the_start(
    image: Built, registry: ScriptedRegistry, limit: int, workers: int, what: str
) -> None:
    with scene(image, registry.url, workers) as here:
        os.mkfifo(here.cache / "start")
        process = here.container.start(here.config, here.cache, before=WAIT_FOR_START)
        await asyncio.to_thread(process.wait_ready, (here.cache / "waits").exists)
        await asyncio.to_thread(here.container.limit, limit)
        await asyncio.to_thread((here.cache / "start").write_text, "")
        status = await asyncio.to_thread(process.wait, STOP_SECONDS)
        log = process.log()
    assert (status, "Traceback" in log) == (1, False), log
    [line] = spoken(log)
    assert line.startswith(f"scope-proxy: cannot start {what}: a limit on processes and threads is reached"), line
    assert "podPidsLimit" in line
    assert "seccomp" not in line


def spoken(log: str) -> list[str]:
    """What the program says at its end, without the lines of its log."""
    return [line for line in log.splitlines() if line.startswith("scope-proxy: ")]


def clone3_fails(error: int) -> dict[str, Any]:
    """A seccomp profile under which clone3 fails: with EPERM up to containerd 1.4.9, with ENOSYS since then."""
    rule = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": error}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}


@dataclass(frozen=True, slots=True)
class Scene:
    """A container that has not started, what it is started with, and where it will listen."""

    container: Container
    config: Path
    cache: Path
    address: str
    admin: str


@contextlib.contextmanager
def scene(image: Built, registry: str, workers: int = 1) -> Iterator[Scene]:
    """A configuration for one registry, an empty cache, and a container for them that is removed afterwards."""
    with scratch("container") as directory:
        address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        config, cache = directory / "config.yaml", directory / "cache"
        document = settings(
            [registry],
            login=LOGIN,
            listeners=[{"address": address}],
            admin={"address": admin},
            workers=workers,
            cache={"path": "/var/cache/scope-proxy/store", "reserveFree": "1Ki"},
            timeouts={"drainIdle": "100ms"},
        )
        config.write_text(json.dumps(document))
        cache.mkdir()
        for path in (config, cache):  # others may not read them where the umask is 0077
            os.chown(path, USER, USER)
        container = Container(image, directory, directory.name)
        try:
            yield Scene(container, config, cache, address, admin)
        finally:
            container.remove()


def start(here: Scene, seccomp: dict[str, Any] | None = None) -> Process:
    """Start the container and wait until it is ready."""
    began = time.monotonic()
    process = here.container.start(here.config, here.cache, seccomp=seccomp)
    process.wait_ready(lambda: answers(f"http://{here.admin}/readyz", 200))
    sys.stderr.write(f"\nready {time.monotonic() - began:.2f} s after the start of the container\n")
    return process


async def pull(node: NodeClient, content: Image) -> None:
    """Pull the manifest and every blob, byte for byte."""
    got = await node.get(manifest())
    assert (got.status, got.sha256) == (200, content.digest)
    for digest, data in content.blobs.items():
        got = await node.get(blob(digest))
        assert (got.status, got.body) == (200, data)
