"""The image is really built, and its files really run: as an ordinary user, on a read-only root, without a shell."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from proxy.demo.images import Image, make_image
from proxy.demo.rules import Account, Rules
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


@pytest.mark.parametrize("workers", [1, 2])
async def test_it_serves_a_pull_and_stops(
    image: Built, registry: ScriptedRegistry, content: Image, workers: int
) -> None:
    with scratch("container") as folder:
        address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        config, cache = folder / "config.yaml", folder / "cache"
        document = settings(
            [registry.url],
            login=LOGIN,
            listeners=[{"address": address}],
            admin={"address": admin},
            workers=workers,
            cache={"path": "/var/cache/scope-proxy", "reserveFree": "1Ki"},
            timeouts={"drainIdle": "100ms"},
        )
        config.write_text(json.dumps(document))
        cache.mkdir()
        os.chown(cache, USER, USER)
        container = Container(image, folder, f"scope-proxy-{os.getpid()}-{workers}")
        try:
            process = await asyncio.to_thread(start, container, config, cache, admin)
            await pull(NodeClient(address), content)
            healthy = await asyncio.to_thread(container.execute, "scope-proxy", "healthcheck")
            shell = await asyncio.to_thread(container.execute, "/bin/sh", "-c", "true")
            process.send(signal.SIGTERM)
            status = await asyncio.to_thread(process.wait, STOP_SECONDS)
        finally:
            await asyncio.to_thread(container.remove)
        assert (healthy.status, status) == (0, 0), (healthy.errors, process.log())
        assert shell.status != 0
        assert {path.stat().st_uid for path in cache.glob("**/*")} == {USER}
        assert any(path.is_file() for path in cache.glob("**/*"))


def start(container: Container, config: Path, cache: Path, admin: str) -> Process:
    """Start the container and wait until it is ready."""
    began = time.monotonic()
    process = container.start(config, cache)
    process.wait_ready(lambda: answers(f"http://{admin}/readyz", 200))
    sys.stderr.write(f"\nready {time.monotonic() - began:.2f} s after the start of the container\n")
    return process


async def pull(node: NodeClient, content: Image) -> None:
    """Pull the manifest and every blob, byte for byte."""
    got = await node.get(manifest())
    assert (got.status, got.sha256) == (200, content.digest)
    for digest, data in content.blobs.items():
        got = await node.get(blob(digest))
        assert (got.status, got.body) == (200, data)
