import logging
from pathlib import Path

import pytest

from proxy.config.cache import Cache
from proxy.oci.reference import Digest
from proxy.store.blobs import StoreError
from proxy.store.index_file import IndexTimes
from proxy.store.layout import Layout
from proxy.store.opened import opened_store
from tests.unit.store.support import descriptors, made, put, put_file


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


def settings(path: Path) -> Cache:
    return Cache.model_validate({"path": str(path), "maxSize": "1Gi", "reserveFree": "1Ki"})


async def test_it_opens_sweeps_and_closes(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    digest = put_file(layout, b"blob")
    layout.part(Digest.of(b"x")).touch()
    before = descriptors()
    with caplog.at_level(logging.INFO, "proxy.store.opened"):
        async with opened_store(settings(layout.root)) as store:
            content = await store.blobs.find(digest)
            assert content is not None
            content.close()
            assert await store.evictor.make_room(10)
    assert "removed 1 unfinished downloads" in caplog.text
    assert descriptors() == before


@pytest.mark.parametrize(("version", "name"), [("1", "emptied"), ("9", "set-aside")])
async def test_another_format_is_replaced_with_one_log_line(
    layout: Layout, caplog: pytest.LogCaptureFixture, version: str, name: str
) -> None:
    digest = put_file(layout, b"blob")
    (layout.root / "format").write_text(version)
    async with opened_store(settings(layout.root)) as store:
        assert await store.blobs.find(digest) is None
        await store.index.tidied()
        kept = [path.name for path in layout.root.iterdir() if path.name.startswith(("emptied", "set-aside"))]
        assert kept == (["set-aside-format-9-1"] if name == "set-aside" else [])
    assert [record.levelname for record in caplog.records if "format" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize("name", ["file", "link", "foreign"])
async def test_a_directory_that_cannot_be_used_keeps_nobody_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    before = descriptors()
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign" / "blobs").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path)
    async with opened_store(settings(tmp_path / name)) as store:
        with pytest.raises(StoreError):
            await store.evictor.make_room(10)
        with pytest.raises(StoreError):
            await store.blobs.begin(Digest.of(b"x"))
    assert "nothing is cached: " in caplog.text
    assert str(tmp_path / name) in caplog.text
    assert descriptors() == before


async def test_it_recovers_by_itself(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("in the way")
    async with opened_store(settings(tmp_path / "store"), IndexTimes(retry=0.0)) as store:
        with pytest.raises(StoreError):
            await store.index.totals()
        (tmp_path / "store").unlink()
        digest = await put(store.blobs, b"blob")
        assert [found async for found, _ in store.blobs.list()] == [digest]
        assert (await store.index.totals()).objects == 1
