import os
import time
from pathlib import Path

from proxy.oci.byterange import ByteRange
from proxy.oci.errors import UpstreamUnavailable
from proxy.oci.reference import Digest
from proxy.pull.blobs.mismatched_digests import SUSPECT_SECONDS, MismatchedDigests

DIGEST, OTHER = Digest.of(b"layer"), Digest.of(b"another layer")
TAIL = ByteRange(9)


async def is_refused(
    known: MismatchedDigests, digest: Digest = DIGEST, wanted: ByteRange | None = TAIL, registry: str = "a.example"
) -> bool:
    try:
        await known.refuse_tail(registry, digest, wanted)
    except UpstreamUnavailable as error:
        return error.retry_after == SUSPECT_SECONDS
    return False


async def test_only_what_does_not_begin_at_the_beginning_is_refused() -> None:
    known = MismatchedDigests()
    assert not await is_refused(known)
    await known.add("a.example", DIGEST)
    assert await is_refused(known)
    assert await is_refused(known, wanted=ByteRange(None, suffix=5))
    assert not await is_refused(known, wanted=ByteRange(0))
    assert not await is_refused(known, wanted=None)
    assert not await is_refused(known, OTHER)


async def test_what_one_worker_has_sent_wrong_every_worker_knows(tmp_path: Path) -> None:
    one, other = MismatchedDigests(tmp_path / "suspects"), MismatchedDigests(tmp_path / "suspects")
    await one.add("a.example", DIGEST)
    assert await is_refused(other)
    assert not await is_refused(other, OTHER)


async def test_a_note_is_of_use_for_a_minute(tmp_path: Path) -> None:
    directory = tmp_path / "suspects"
    await MismatchedDigests(directory).add("a.example", DIGEST)
    (note,) = directory.iterdir()
    old = time.time() - SUSPECT_SECONDS - 1
    os.utime(note, (old, old))
    later = MismatchedDigests(directory)
    assert not await is_refused(later)
    await later.add("a.example", OTHER)
    assert len(list(directory.iterdir())) == 1  # the old one was removed


async def test_no_more_notes_are_left_than_the_limit(tmp_path: Path) -> None:
    known = MismatchedDigests(tmp_path / "suspects", limit=3)
    for number in range(10):
        await known.add("a.example", Digest.of(bytes([number])))
    assert 3 <= len(list((tmp_path / "suspects").iterdir())) <= 4


async def test_a_directory_that_cannot_be_used_leaves_the_memory(tmp_path: Path) -> None:
    (tmp_path / "suspects").write_text("in the way")
    known = MismatchedDigests(tmp_path / "suspects")
    await known.add("a.example", DIGEST)
    assert await is_refused(known)
    assert not await is_refused(known, OTHER)
