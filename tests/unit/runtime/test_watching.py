"""When the configuration is read again: once for each change of its files."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import pytest
import trustme

from proxy.config.load import Loaded, parse_config
from proxy.runtime.generation import build_generation, stamps
from proxy.runtime.reload import ConfigSource, Reloader
from proxy.transport.singleflight import Background
from tests.cache.serving import eventually
from tests.fakes.proxy import settings

LOOKS = 5
"""Looks at the files after which a change has surely been noticed."""


class WatchedFiles(Sequence[Path]):
    """The files of a configuration, and how often they were looked at."""

    def __init__(self, *files: Path) -> None:
        self._files = files
        self.looks = 0

    def __iter__(self) -> Iterator[Path]:
        self.looks += 1
        return iter(self._files)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | Sequence[Path]:
        return self._files[index]

    def __len__(self) -> int:
        return len(self._files)


class Watched:
    """A configuration that is watched."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "config.yaml"
        self.document: dict[str, Any] = settings(["http://127.0.0.1:9"])
        self.files = WatchedFiles(self.file)
        self.loads = 0

    def write(self) -> None:
        """Put the document into the file."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(self.document))
        fresh.rename(self.file)

    def load(self) -> Loaded:
        """Read the file."""
        self.loads += 1
        return parse_config(self.file.read_text(), str(self.file))

    async def looked(self) -> None:
        """Wait until the files have been looked at several times."""
        until = self.files.looks + LOOKS
        await eventually(lambda: self.files.looks >= until)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path)
    await asyncio.to_thread(made.write)
    seen = await asyncio.to_thread(stamps, [made.file])
    loaded = await asyncio.to_thread(made.load)
    made.loads = 0
    source = ConfigSource(made.load, made.files, seen, look_seconds=0.01, settle_seconds=0.0)
    reloader = Reloader(await build_generation(loaded, loaded.config), loaded.config, source)
    watchers = Background()
    watchers.start(reloader.watch())
    yield made
    await watchers.close()
    await reloader.close()


def add_certificate(watched: Watched, directory: Path) -> Path:
    """Have the configuration name a file of certificates."""
    file = directory / "ca.crt"
    trustme.CA().cert_pem.write_to_path(str(file))
    watched.document["hosts"] = {"127.0.0.1:9": {"tls": {"caFile": str(file)}}}
    watched.write()
    return file


async def test_a_change_that_adds_tls_files_is_read_once(watched: Watched, tmp_path: Path) -> None:
    await asyncio.to_thread(add_certificate, watched, tmp_path)
    await eventually(lambda: watched.loads > 0)
    await watched.looked()
    assert watched.loads == 1


async def test_a_change_that_takes_tls_files_away_is_read_once(watched: Watched, tmp_path: Path) -> None:
    await asyncio.to_thread(add_certificate, watched, tmp_path)
    await eventually(lambda: watched.loads > 0)
    await watched.looked()
    before = watched.loads
    watched.document["hosts"] = {}
    await asyncio.to_thread(watched.write)
    await eventually(lambda: watched.loads > before)
    await watched.looked()
    assert watched.loads == before + 1


async def test_a_change_of_an_added_tls_file_is_noticed(watched: Watched, tmp_path: Path) -> None:
    file = await asyncio.to_thread(add_certificate, watched, tmp_path)
    await eventually(lambda: watched.loads > 0)
    await watched.looked()
    before = watched.loads
    trustme.CA().cert_pem.write_to_path(str(file.with_suffix(".new")))
    file.with_suffix(".new").rename(file)
    await eventually(lambda: watched.loads > before)
    await watched.looked()
    assert watched.loads == before + 1
