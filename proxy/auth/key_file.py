"""The file with the keys that seal tokens, read again when it changes."""

from pathlib import Path
from typing import Self

from proxy.auth.sealed import KEY_MIN_LENGTH, KEYS_LIMIT, SealingKeys
from proxy.auth.watched_file import FileKind, Parsed, WatchedFile

FILE_LIMIT = 64 * 1024
"""Bytes of the file that count."""
_MAKE_ONE = "write one that `openssl rand -hex 32` prints"


def parse_keys(content: bytes, file: str) -> Parsed[SealingKeys]:
    """The keys of a file, one a line; blank lines and those that begin with `#` do not count.

    Problems tell the line and what to do, and hold nothing of a key.
    """
    keys: dict[str, None] = {}
    problems = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            key = _key(line, f"{file}:{number}")
        except ValueError as error:
            problems.append(str(error))
            continue
        if key and key not in keys and len(keys) >= KEYS_LIMIT:
            problems.append(f"{file}:{number}: there are {KEYS_LIMIT} keys before it: remove the oldest, at the end")
            break
        keys.update({key: None} if key else {})
    return Parsed(SealingKeys(tuple(keys)), len(keys), tuple(problems))


KEYS = FileKind(
    "tokenKeyFile",
    "keys",
    FILE_LIMIT,
    parse_keys,
    SealingKeys(()),
    f"holds no key: {_MAKE_ONE}",
    "no token is good, and none is given out",
)
"""How such a file is read."""


class KeyFile:
    """The keys of a `tokenKeyFile` as they are now."""

    def __init__(self, file: WatchedFile[SealingKeys]) -> None:
        self.file = file

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read the file for the first time; blocks. Raises ValueError, which says what is wrong and what to do."""
        return cls(WatchedFile.open(Path(path), KEYS))

    async def current(self) -> SealingKeys:
        """The keys in use."""
        return await self.file.current()


def _key(line: bytes, place: str) -> str:
    """The key of a line; empty where there is none. Raises ValueError."""
    try:
        key = line.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{place}: this is not UTF-8 text: {_MAKE_ONE}") from None
    if key.startswith("#"):
        return ""
    if key and len(key) < KEY_MIN_LENGTH:
        raise ValueError(f"{place}: a key has at least {KEY_MIN_LENGTH} characters: {_MAKE_ONE}")
    return key
