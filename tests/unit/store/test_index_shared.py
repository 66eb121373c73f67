"""Several processes at one index."""

import asyncio
from pathlib import Path

import pytest

from proxy.store.index import Totals
from proxy.store.layout import Layout
from tests.unit.store.support import ended, made, opened, process, put_file, said


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


async def totals_of(layout: Layout) -> Totals:
    async with opened(layout) as (_, index):
        return await index.totals()


USER = """
async def run():
    index = Index(layout)
    await index.open()
    store = FilesystemStore(layout, index)
    for number in range(40):
        data = f"{sys.argv[2] if number % 2 else 'shared'} {number:05}".encode()
        ingest = await store.begin(Digest.of(data))
        if ingest is not None:
            await ingest.write(data)
            await ingest.commit()
            ingest.close()
        if number % 4 == 0:
            await store.remove(Digest.of(data))
        await index.link(sys.argv[2], [Link(Digest.of(data), LinkKind.BLOB)])
    await index.close()
asyncio.run(run())
print("done")
"""


def test_processes_share_it(layout: Layout) -> None:
    others = [process(USER, layout.root, f"name{number}") for number in range(3)]
    assert [said(other) for other in others] == ["done"] * 3
    assert [ended(other) for other in others] == [0] * 3
    files = [layout.blob(digest).stat().st_size for digest in layout.blobs()]
    assert asyncio.run(totals_of(layout)) == Totals(sum(files), len(files))


def test_processes_start_at_once_on_a_damaged_one(layout: Layout) -> None:
    for number in range(100):
        put_file(layout, f"{number:04}".encode())
    layout.index.write_bytes(b"nonsense" * 1000)
    others = [process(USER, layout.root, f"name{number}") for number in range(3)]
    assert [said(other) for other in others] == ["done"] * 3
    assert [ended(other) for other in others] == [0] * 3
    files = [layout.blob(digest).stat().st_size for digest in layout.blobs()]
    assert len(files) > 100
    assert asyncio.run(totals_of(layout)) == Totals(sum(files), len(files))
