"""What the cache makes is for its owner alone, whatever the umask of the process is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from tests.cache.serving import BLOB, cached
from tests.fakes.blobs import MIB, Generated
from tests.fakes.changes import FlipByte
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.unit.store.support import modes

OWNER_ALONE = {"0o40700", "0o100600"}
LARGE = Generated(6 * MIB, seed=61)

pytestmark = pytest.mark.security


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077], ids=lambda umask: f"{umask:04o}", autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


async def test_files_and_directories_of_the_cache_are_for_its_owner_alone(
    plain: ScriptedRegistry, directory: Path, image: Image
) -> None:
    wrong = plain.add_blob(UPSTREAM, LARGE).digest
    async with cached([plain.url], directory) as node:
        for target in (manifest(), *map(blob, image.blobs)):
            assert (await node.get(target)).status == 200
        plain.script(BLOB, FlipByte("middle"))
        assert not (await node.get(blob(wrong))).whole  # which leaves a note for other processes
        assert list((directory / "suspects").iterdir())
        assert modes(directory) == OWNER_ALONE
    assert modes(directory) == OWNER_ALONE


async def test_nobody_else_can_exchange_the_directory_of_the_cache(plain: ScriptedRegistry, tmp_path: Path) -> None:
    made = tmp_path / "var" / "cache"
    async with cached([plain.url], made / "scope-proxy"):
        assert [oct(path.stat().st_mode & 0o022) for path in (made, made.parent)] == ["0o0", "0o0"]
