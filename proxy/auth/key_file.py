"""The file with the keys that seal tokens, read again when it changes."""

import asyncio
import contextlib
import logging
import os
import stat
import time
from pathlib import Path
from typing import Self

from proxy.auth.sealed import SealingKeys
from proxy.config.file_state import FileState, state_in, state_of

LOOK_SECONDS = 1.0
"""How often the file is looked at, at the most."""
LOOK_WAIT_SECONDS = 2.0
"""How long a client waits for that."""
FILE_LIMIT = 64 * 1024
"""Bytes of the file."""

_logger = logging.getLogger(__name__)


class KeyFile:
    """The keys of a `tokenKeyFile` as they are now; a file that is broken leaves those that were."""

    def __init__(self, path: Path, keys: SealingKeys, stamp: FileState) -> None:
        self._path = path
        self._keys = keys
        self._stamp: FileState | None = stamp
        self._next_look = 0.0

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read the file for the first time; blocks. Raises ValueError, which says what is wrong and what to do."""
        path = Path(path)
        keys, stamp = _read(path)
        return cls(path, keys, stamp)

    async def current(self) -> SealingKeys:
        """The keys in use; looks at the file at most once a second, in a thread."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            with contextlib.suppress(TimeoutError):  # a disk that hangs: the keys that are known go on
                async with asyncio.timeout(LOOK_WAIT_SECONDS):
                    await asyncio.to_thread(self.look)
        return self._keys

    def look(self) -> None:
        """Take up the file if it has changed; blocks."""
        stamp = state_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys, self._stamp = _read(self._path)
        except ValueError as error:
            _logger.error("the keys that seal tokens stay as they were: tokenKeyFile: %s", error)  # noqa: TRY400
        else:
            _logger.info("tokenKeyFile %s was read again: keys: %d", self._path, self._keys.count)


def _read(path: Path) -> tuple[SealingKeys, FileState]:
    try:
        content, stamp = _content(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    if len(content) > FILE_LIMIT:
        raise ValueError(f"{path} is larger than {FILE_LIMIT >> 10} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: one key a line, as `openssl rand -hex 32` prints them") from None
    return SealingKeys.parse(text, str(path)), stamp


def _content(path: Path) -> tuple[bytes, FileState]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(FILE_LIMIT + 1), state_in(status)
    finally:
        os.close(descriptor)
