"""What `cache prefetch` says of images that the cache cannot hold, and what it prints on a terminal and into a pipe."""

import asyncio
import json
import os
import pty
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main
from proxy.config.load import load_config
from proxy.oci.reference import ImageReference
from proxy.prefetch.images import Prefetcher
from proxy.prefetch.local import LocalPrefetch
from proxy.pull.blobs.service import Blobs
from proxy.pull.manifests.service import Manifests
from proxy.routing.table import RouteTable
from proxy.runtime.assemble import engine
from proxy.store.opened import opened_store
from proxy.testbed.images import Image, make_image
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Rules
from tests.fakes.app_thread import entered

MIB = 1024 * 1024
WITHIN = 60


def held(
    tag: str, size: int, content: str = "", platform: str = "linux/amd64", repository: str = "hmirror/app"
) -> Image:
    chance = random.Random(content or tag)  # noqa: S311 - content that does not compress
    return make_image(repository, tag, {"file": chance.randbytes(size)}, platform=platform)


@pytest.fixture
def registry() -> Iterator[StrictRegistry]:
    images = [held("one", 2 * MIB), held("two", 2 * MIB), held("three", 2 * MIB), held("large", 7 * MIB)]
    shared = [held(tag, 3 * MIB, "shared", f"linux/{tag}") for tag in ("arm64", "s390x")]
    server = StrictRegistry([*images, *shared], Rules(refuse=404))
    with entered(server):
        yield server


@pytest.fixture
def config(registry: StrictRegistry, tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    rewrite = {"pattern": "^(.+)$", "replacement": "hmirror/$1"}
    entry = {"endpoints": [registry.url], "rewrites": [rewrite]}
    cache = {"path": str(tmp_path / "cache"), "reserveFree": "1Ki", "maxSize": "5Mi"}
    file.write_text(json.dumps({"version": 1, "admin": None, "registries": {"r.example": entry}, "cache": cache}))
    return file


def run(config: Path, *tags: str) -> Result:
    names = [f"r.example/app:{tag}" for tag in tags]
    return CliRunner().invoke(main, ["cache", "prefetch", *names, "--config", str(config)])


def test_image_larger_than_the_cache_fails_and_nothing_of_it_is_fetched(config: Path, registry: StrictRegistry) -> None:
    result = run(config, "large", "one")
    assert result.exit_code == 1
    assert "r.example/app:large: failed: does not fit: 7.0 MiB, maxSize is 5.0 MiB\n" in result.output
    assert "1 of 2 images failed" in result.output
    assert len(registry.record.of("blob")) == 2  # of the other image


def test_images_that_evict_one_another_fail(config: Path) -> None:
    result = run(config, "one", "two", "three")
    assert result.exit_code == 1
    need = "the images together need 6.0 MiB, maxSize is 5.0 MiB"
    failed = [line for line in result.output.splitlines() if ": failed: " in line]
    assert failed
    assert all(line.endswith(need) for line in failed)
    assert f"{len(failed)} of 3 images failed" in result.output


async def test_image_that_a_later_one_evicted_is_told_from_one_that_never_fitted(config: Path) -> None:
    loaded = await asyncio.to_thread(load_config, config)
    assert loaded.config.cache is not None
    async with opened_store(loaded.config.cache) as store, engine(loaded.config, store) as built:
        assert isinstance(built.manifests, Manifests)
        assert isinstance(built.blobs, Blobs)
        prefetcher = Prefetcher(RouteTable(loaded.config, loaded.positions), built.manifests, built.blobs)
        prefetch = LocalPrefetch(prefetcher, store, loaded.config.cache)
        names = [ImageReference.parse(f"r.example/app:{tag}") for tag in ("one", "two", "three")]
        images = [await prefetch.fetch(name, frozenset(), lambda _: None) for name in names]
        need = "the images together need 6.0 MiB, maxSize is 5.0 MiB"
        assert await prefetch.problems(images) == [f"was evicted by a later image: {need}", None, None]


def test_pinned_images_that_leave_too_little_room_are_the_reason(config: Path) -> None:
    assert run(config, "one", "two").exit_code == 0
    pins = ["cache", "pin", "r.example/app:one", "r.example/app:two", "--config", str(config)]
    assert CliRunner().invoke(main, pins).exit_code == 0
    result = run(config, "three")
    assert result.exit_code == 1
    reason = "r.example/app:three: failed: does not fit beside the pinned images: they take 4.0 MiB, maxSize is 5.0 MiB"
    assert reason in result.output
    assert "cache unpin" in result.output


def test_what_was_stored_before_makes_room(config: Path) -> None:
    assert run(config, "one", "two").exit_code == 0
    result = run(config, "three")
    assert result.exit_code == 0, result.output


def test_disk_without_room_is_the_reason(config: Path) -> None:
    settings = json.loads(config.read_text())
    settings["cache"]["reserveFree"] = "900000Ti"
    config.write_text(json.dumps(settings))
    result = run(config, "one")
    assert result.exit_code == 1
    assert "less than reserveFree (900000.0 TiB) of the disk is free" in result.output


def on_terminal(*command: str, columns: int = 80) -> str:
    """All that a command writes to a terminal."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    written = bytearray()

    def read() -> None:
        try:
            while piece := os.read(master, 1 << 16):
                written.extend(piece)
        except OSError:  # the last writer has closed it
            pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        process.wait(WITHIN)
        reader.join(WITHIN)
    finally:
        process.kill()
        os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_progress_ends_at_the_whole_and_keeps_a_line_for_each_of_two_images_that_share_a_layer(config: Path) -> None:
    names = [f"r.example/app:{tag}" for tag in ("arm64", "s390x")]
    shown = on_terminal(sys.executable, "-m", "proxy", "cache", "prefetch", *names, "--config", str(config))
    lines = [line.strip() for line in re.split(r"[\r\n]+", shown)]
    for name in names:
        assert any(re.fullmatch(rf"{name}: 3\.0 MiB, \S+ \S+ of it fetched", line) for line in lines), shown
        [*_, last] = [line for line in lines if line.startswith(f"{name} ")]
        assert "100%" in last, shown
        assert "3.0 MiB / 3.0 MiB" in last
    assert set(re.findall(r"\d ([A-Za-z]*B(?:/s)?)\b", shown)) <= {"B", "KiB", "MiB", "B/s", "KiB/s", "MiB/s"}


def test_result_goes_to_standard_output_while_bars_are_on_a_terminal(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'exec "$@" > {out}'
    name = "r.example/app:one"
    command = [sys.executable, "-m", "proxy", "cache", "prefetch", name, "--config", str(config)]
    on_terminal("/bin/sh", "-c", script, "sh", *command)
    assert out.read_text() == f"{name}: 2.0 MiB, 2.0 MiB of it fetched\n"


def test_lines_are_not_wrapped_in_a_pipe(config: Path) -> None:
    name = "r.example/" + "/".join(["long-name"] * 20) + ":1"
    command = [sys.executable, "-m", "proxy", "cache", "prefetch", name, "--config", str(config)]
    environment = {**os.environ, "COLUMNS": "40"}
    ran = subprocess.run(command, env=environment, capture_output=True, timeout=WITHIN, check=False)
    [*_, failed, count] = ran.stderr.decode().splitlines()
    assert failed.startswith(f"{name}: failed: ")
    assert count == "1 of 1 images failed"
