import os
import time
from pathlib import Path

import pytest

from proxy.oci.reference import Digest
from proxy.store.layout import Layout
from proxy.store.lease import Lease
from proxy.store.maintenance import sweep, tidy
from tests.unit.store.support import descriptors, ended, made, process, put_file, said


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return made(tmp_path)


def test_parts_and_locks_that_nobody_holds_go(layout: Layout) -> None:
    before = descriptors()
    held, left, bare, locked = (Digest.of(text.encode()) for text in ("held", "left", "bare", "locked"))
    lease = Lease.take(layout.lock(held))
    assert lease is not None
    for path in (layout.part(held), layout.part(left), layout.lock(left), layout.part(bare), layout.lock(locked)):
        path.touch()
    assert sweep(layout) == 2
    assert set(layout.ingest.iterdir()) == {layout.part(held), layout.lock(held)}
    lease.release()
    assert sweep(layout) == 1
    assert list(layout.ingest.iterdir()) == []
    assert descriptors() == before


def test_odd_things_do_no_harm(layout: Layout) -> None:
    (layout.ingest / "directory.part").mkdir()
    (layout.ingest / "notes.txt").touch()
    (layout.ingest / "a.part").symlink_to("/nowhere")
    assert sweep(layout) >= 1
    assert {path.name for path in layout.ingest.iterdir()} == {"directory.part", "notes.txt"}


def test_a_download_of_another_process_is_not_swept(layout: Layout) -> None:
    code = """
digest = Digest.of(b"data")
async def run():
    ingest = await FilesystemStore(layout, Index(layout)).begin(digest)
    await ingest.write(b"data")
    print("begun", flush=True)
    await asyncio.to_thread(input)
    await asyncio.to_thread(ingest._commit, None)
    print(layout.blob(digest).read_bytes().decode(), flush=True)
asyncio.run(run())
os._exit(0)
"""
    other = process(code, layout.root)
    assert said(other) == "begun"
    assert sweep(layout) == 0
    assert other.stdin is not None
    other.stdin.write("\n")
    other.stdin.flush()
    assert said(other) == "data"
    assert ended(other) == 0


def test_what_repositories_need_no_more_goes(layout: Layout) -> None:
    stored, evicted = put_file(layout, b"a manifest"), Digest.of(b"an evicted manifest")
    repository = layout.repository("key")
    names = {
        "key.json": True,
        ".tmp": False,
        "tags/latest": True,
        "tags/old": False,
        "tags/.tmp": False,
        "tags/.new": True,
        f"manifests/{str(stored).replace(':', '-')}": True,
        f"manifests/{str(evicted).replace(':', '-')}": False,
    }
    (repository / "tags").mkdir(parents=True)
    (repository / "manifests").mkdir()
    now = time.time()
    for name, stays in names.items():
        (repository / name).touch()
        os.utime(repository / name, (now, now - (3000 if stays or name == "tags/old" else 4000)))
    os.utime(repository / "tags" / "old", (now, now - 91 * 86400))
    compared: list[tuple[str, str]] = []
    for _ in tidy(layout, lambda *directory: compared.append(directory)):
        pass
    assert {name for name in names if (repository / name).exists()} == {name for name, stays in names.items() if stays}
    assert compared[0] == ("sha256", "00")
    assert compared[-1] == ("sha512", "ff")
    assert len(compared) == 512
