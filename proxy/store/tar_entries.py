"""The entries of an untrusted tar: only regular files, each at its own offset in the archive.

Parsed here and not by `tarfile`, which holds extended headers of any size in memory, follows negative sizes, and
accepts links, devices and sparse files. Reads POSIX (ustar and pax) and GNU archives, as Go and Python write them.
Nothing is unpacked: an entry has the offset of its bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
ENTRIES_LIMIT = 200_000
"""Most headers of an archive."""
EXTENDED_LIMIT = 64 * 1024
"""Largest extended header in bytes: the long name of an entry, or its pax records."""

Read = Callable[[int, int], bytes]
"""Gives up to so many bytes from an offset of the archive."""

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
_NO_ARCHIVE = "it is not a tar archive, or it is damaged"


class BundleError(Exception):
    """A bundle that cannot be used: what is wrong with it, and what to do."""


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A regular file in an archive: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    kind: bytes


def tar_entries(read: Read, length: int) -> Iterator[TarEntry]:
    """The regular files of an archive of `length` bytes; raises BundleError for whatever else is in it."""
    _refuse_compressed(read(0, BLOCK))
    offset, headers = 0, 0
    name: str | None = None
    size: int | None = None
    while offset + BLOCK <= length:
        block = read(offset, BLOCK)
        if not block.strip(b"\0"):
            return
        headers += 1
        if headers > ENTRIES_LIMIT:
            raise BundleError(f"it has more than {ENTRIES_LIMIT} entries")
        header = _parse(block)
        start = offset + BLOCK
        if header.kind in (b"x", b"g", b"L"):
            extended = _extended(read, start, header.size)
            if header.kind == b"L":
                name = _text(extended)
            elif header.kind == b"x":
                name, size = _pax(extended, name, size)
            offset = _behind(start, header.size, length)
            continue
        entry = TarEntry(name or header.name, start, header.size if size is None else size)
        offset = _behind(start, entry.size, length)
        name = size = None
        if _is_file(header.kind, entry):
            yield TarEntry(_checked(entry.name), entry.offset, entry.size)
        elif _trimmed(entry.name):
            _checked(entry.name.rstrip("/"))
    raise BundleError("it is cut off: copy it again")


def _refuse_compressed(beginning: bytes) -> None:
    for magic, name in _COMPRESSED.items():
        if beginning.startswith(magic):
            raise BundleError(f"it is compressed with {name}: decompress it first")


def _behind(start: int, size: int, length: int) -> int:
    """Where the next header is."""
    if start + size > length:
        raise BundleError("it is cut off: copy it again")
    return start + -(-size // BLOCK) * BLOCK


def _is_file(kind: bytes, entry: TarEntry) -> bool:
    """Whether the entry is a file, and not a directory; raises BundleError for everything else."""
    if kind == b"5" or (kind in (b"0", b"\0") and entry.name.endswith("/")):
        return False
    if kind in (b"0", b"\0"):
        return True
    raise BundleError(
        f"{entry.name[:200]!r} is {_KINDS.get(kind, 'of an unknown kind')}; a bundle has only regular files"
    )


def _checked(name: str) -> str:
    """The name, without a leading `./`; raises BundleError for one that could lead out of a directory."""
    trimmed = _trimmed(name)
    if name.startswith("/") or any(part in ("", ".", "..") for part in trimmed.split("/")) or not name.isprintable():
        raise BundleError(f"{name[:200]!r} is not a relative path inside the bundle")
    return trimmed


def _trimmed(name: str) -> str:
    return name.removeprefix("./") if name != "." else ""


def _parse(block: bytes) -> _Header:
    """One header; raises BundleError."""
    checksum = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
    if len(block) != BLOCK or _number(block[148:156]) != checksum:
        raise BundleError(_NO_ARCHIVE)
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = f"{prefix}/{name}"
    return _Header(name, _number(block[124:136]), block[156:157])


def _number(field: bytes) -> int:
    """A number: octal digits, or with the highest bit set bytes; raises BundleError."""
    if field[0] == 0x80:  # noqa: PLR2004 - 0xff begins a number below zero
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b"\0 ")
    if digits.strip(b"01234567"):
        raise BundleError(_NO_ARCHIVE)
    return int(digits or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _extended(read: Read, start: int, size: int) -> bytes:
    if size > EXTENDED_LIMIT:
        raise BundleError(f"a name or an attribute in it has more than {EXTENDED_LIMIT} bytes")
    return read(start, size)


def _pax(records: bytes, name: str | None, size: int | None) -> tuple[str | None, int | None]:
    """The name and the size that pax records give the next entry; raises BundleError."""
    while records:
        length, space, rest = records.partition(b" ")
        if not (space and length.isdigit() and len(length) < 8 and len(length) + 1 < int(length) <= len(records)):  # noqa: PLR2004
            raise BundleError(_NO_ARCHIVE)
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key == b"path":
            name = _text(value)
        elif key == b"size":
            size = _size(value)
        elif key.startswith(b"GNU.sparse"):
            raise BundleError("it has a sparse file; a bundle has only regular files")
        records = records[int(length) :]
    return name, size


def _size(value: bytes) -> int:
    if not value.isdigit() or len(value) > 15:  # noqa: PLR2004 - a petabyte
        raise BundleError(_NO_ARCHIVE)
    return int(value)
