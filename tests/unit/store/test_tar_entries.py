"""Tars of others: read as `tarfile` reads them, or refused."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.store.tar_entries import EXTENDED_LIMIT, BundleError, TarEntry, tar_entries

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "blobs/sha512/" + "a" * 128
HUGE = 9 << 30


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, len(content)
    return found, content


def entries(archive: bytes, length: int | None = None) -> list[TarEntry]:
    return list(tar_entries(lambda offset, size: archive[offset : offset + size], length or len(archive)))


def contents(archive: bytes) -> dict[str, bytes]:
    return {entry.name: archive[entry.offset : entry.offset + entry.size] for entry in entries(archive)}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_files_are_found_with_their_bytes(form: int) -> None:
    long = f"blobs/{'d' * 60}/{'a' * 64}" if form == tarfile.USTAR_FORMAT else LONG
    files = {"oci-layout": b"{}", long: b"x" * 513, "empty": b"", "blobs/sha256/b": b"y" * 512}
    assert contents(tar(*(member(name, data) for name, data in files.items()), form=form)) == files


def test_directories_are_passed_over_and_names_begin_with_no_dot() -> None:
    directories = [member(name, kind=tarfile.DIRTYPE) for name in (".", "./blobs", "blobs/sha256/")]
    assert contents(tar(*directories, member("./index.json", b"{}"))) == {"index.json": b"{}"}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_size_of_more_than_eight_gibibytes_is_read(form: int) -> None:
    found = tarfile.TarInfo("blobs/sha256/a")
    found.size = HUGE
    beginning = found.tobuf(form)  # type: ignore[arg-type]
    end = bytes(1024)

    def read(offset: int, size: int) -> bytes:
        behind = offset - len(beginning) - HUGE
        return beginning[offset : offset + size] if behind < 0 else end[behind : behind + size]

    [entry] = tar_entries(read, len(beginning) + HUGE + len(end))
    assert (entry.offset, entry.size) == (len(beginning), HUGE)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("index.json", kind=tarfile.SYMTYPE, link="/etc/shadow"), "'index.json' is a symbolic link"),
        (member("index.json", kind=tarfile.LNKTYPE, link="x"), "is a hard link"),
        (member("null", kind=tarfile.CHRTYPE), "is a device"),
        (member("disk", kind=tarfile.BLKTYPE), "is a device"),
        (member("pipe", kind=tarfile.FIFOTYPE), "is a pipe"),
        (member("file", kind=b"7"), "of an unknown kind"),
        (member("/etc/passwd"), "'/etc/passwd' is not a relative path"),
        (member("../outside"), "'../outside' is not a relative path"),
        (member("blobs/../../x"), "not a relative path"),
        (member("./../x"), "not a relative path"),
        (member("blobs//x"), "not a relative path"),
        (member("/directory", kind=tarfile.DIRTYPE), "not a relative path"),
        (member("a/../..", kind=tarfile.DIRTYPE), "not a relative path"),
        (member("a\nb"), "not a relative path"),
    ],
    ids=lambda case: case[0].name if isinstance(case, tuple) else None,
)
@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_what_is_no_plain_file_inside_is_refused(bad: tuple[tarfile.TarInfo, bytes], words: str, form: int) -> None:
    with pytest.raises(BundleError, match=words):
        entries(tar(member("oci-layout", b"{}"), bad, form=form))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x1f\x8b\x08" + bytes(600), "compressed with gzip: decompress it first"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
        (b"PK\x03\x04" + bytes(600), "not a tar archive"),
        (b"", "cut off"),
        (b"x" * 300, "cut off"),
        (tar(member("a", b"x" * 2000))[:1024], "cut off"),
        (tar(member("a", b"x" * 2000))[: 512 + 2048], "cut off"),
    ],
)
def test_what_is_no_whole_tar_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        entries(data)


def test_an_extended_header_without_bounds_is_not_read() -> None:
    """`tarfile` would hold all of it in memory."""
    wanted: list[int] = []
    found = tarfile.TarInfo("././@PaxHeader")
    found.type, found.size = tarfile.XHDTYPE, 1 << 32

    def read(offset: int, size: int) -> bytes:
        wanted.append(size)
        return found.tobuf(tarfile.GNU_FORMAT)[offset : offset + size]

    with pytest.raises(BundleError, match=f"more than {EXTENDED_LIMIT} bytes"):
        list(tar_entries(read, 1 << 40))
    assert max(wanted) == 512


def test_too_many_entries_are_refused() -> None:
    block = tarfile.TarInfo("a").tobuf()
    with pytest.raises(BundleError, match="more than 200000 entries"):
        list(tar_entries(lambda _, size: block[:size], 1 << 40))


@pytest.mark.parametrize("size", [b"\xff" * 12, b"-0000000001\0", b"\x80" + b"\xff" * 11])
def test_a_size_below_zero_or_beyond_the_end_is_refused(size: bytes) -> None:
    block = bytearray(tarfile.TarInfo("a").tobuf())
    block[124:136] = size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
    with pytest.raises(BundleError):
        entries(bytes(block) + bytes(1024))


@settings(max_examples=300)
@given(st.data())
def test_whatever_is_damaged_is_refused_or_read_within_the_archive(data: st.DataObject) -> None:
    archive = bytearray(tar(member("oci-layout", b"{}"), member(LONG, b"x" * 100), member("b", b"y" * 600)))
    for _ in range(data.draw(st.integers(1, 8))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = entries(bytes(archive))
    except BundleError:
        return
    assert all(0 <= entry.offset <= entry.offset + entry.size <= len(archive) for entry in found)
    assert all(not entry.name.startswith("/") and ".." not in entry.name.split("/") for entry in found)
