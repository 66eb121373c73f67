"""Users of an htpasswd file: passwords are checked off the event loop, few at a time, and verdicts are remembered."""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import bcrypt
from cachetools import TTLCache

from proxy.auth.htpasswd_file import Users, read_users
from proxy.config.file_state import FileState, state_of

CHECKS_AT_ONCE = 2
"""Threads that hash passwords at one time: a flood of wrong ones leaves the others to the rest of the program."""
WAIT_SECONDS = 5.0
"""How long a check waits for its turn."""
MAX_WAITING = 256
"""Checks that wait for their turn; further ones are refused at once."""
RIGHT_SECONDS = 300.0
"""How long a password that was right is known to be right."""
WRONG_SECONDS = 30.0
"""How long a password that was wrong is known to be wrong."""
MAX_VERDICTS = 4096
"""Right verdicts that are remembered, and as many wrong ones: a flood of these drives none of those out."""
LOOK_SECONDS = 1.0
"""How often the file is looked at, at the most."""
LOOK_WAIT_SECONDS = 2.0
"""How long a check waits for that; on a disk that hangs it goes on with the users that are known."""
PASSWORD_LIMIT = 72
"""Bytes of a password that bcrypt sees."""

_logger = logging.getLogger(__name__)


class TooManyChecks(Exception):
    """The password was not checked: too many others are waiting. The client is to come again."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A state of the file that is new: its users, or what is wrong with it."""

    stamp: FileState | None
    users: Users | None
    problem: str = ""


class Htpasswd:
    """The users of one file as they are now; a new file that is broken leaves those that were."""

    def __init__(self, path: Path, users: Users, stamp: FileState, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._users = users
        self._stamp: FileState | None = stamp
        self._clock = clock
        self._next_look = 0.0
        self._looking: asyncio.Future[_Look | None] | None = None
        self._key = secrets.token_bytes(32)
        self._decoy = bcrypt.gensalt(4)[7:] + b"." * 31  # salt and hash of nobody
        self._right: TTLCache[bytes, bool] = TTLCache(MAX_VERDICTS, RIGHT_SECONDS, clock)
        self._wrong: TTLCache[bytes, bool] = TTLCache(MAX_VERDICTS, WRONG_SECONDS, clock)
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)
        self._waiting = 0

    @classmethod
    def open(cls, path: str | Path, clock: Callable[[], float] = time.monotonic) -> Self:
        """Read the file for the first time; blocks. Raises ValueError: what is wrong, where, what to do."""
        users, stamp = read_users(Path(path))
        return cls(Path(path), users, stamp, clock)

    async def check(self, username: str, password: str) -> bool:
        """Whether the file has the user with this password; raises TooManyChecks.

        A password of more than 72 bytes is wrong: bcrypt sees no more of it, so that two long ones (tokens with the
        same head) could be taken for each other. A user that is not there takes as long as one that is.
        """
        await self._refresh()
        digest = self._digest(username, password)
        verdict = self._verdict(digest)
        return await self._ask(digest, username, password) if verdict is None else verdict

    async def _ask(self, digest: bytes, username: str, password: str) -> bool:
        await self._take_turn()
        verdict = self._verdict(digest)  # the same password may have been checked meanwhile
        if verdict is not None:
            self._turns.release()
            return verdict
        users = self._users
        work = asyncio.get_running_loop().run_in_executor(None, self._fits, users, username, password)
        # A client that leaves does not stop the thread: the turn ends with the work, not with the wait for it.
        work.add_done_callback(partial(self._judged, users, digest))
        return await asyncio.shield(work)

    def _judged(self, users: Users, digest: bytes, work: asyncio.Future[bool]) -> None:
        """Remember the verdict, unless the users are others by now, and let the next check have its turn."""
        self._turns.release()
        if not work.cancelled() and work.exception() is None and users is self._users:
            (self._right if work.result() else self._wrong)[digest] = work.result()

    async def _take_turn(self) -> None:
        if self._waiting >= MAX_WAITING:
            raise TooManyChecks("too many passwords wait to be checked")
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise TooManyChecks(f"the password was not checked within {WAIT_SECONDS:g} s") from None
        finally:
            self._waiting -= 1

    def _fits(self, users: Users, username: str, password: str) -> bool:
        """Hash the password and compare, in constant time; for nobody's hash where there is no such user. Blocks."""
        secret = _encoded(password)
        known = users.hashes.get(username)
        fits = bcrypt.checkpw(secret[:PASSWORD_LIMIT], known or self._nobody(users, username))
        return fits and known is not None and len(secret) <= PASSWORD_LIMIT

    def _nobody(self, users: Users, username: str) -> bytes:
        """A hash whose cost is that of some user, always the same one for a name: costs tell nobody who is there."""
        number = int.from_bytes(hmac.digest(self._key, _encoded(username), "sha256")[:8], "big")
        return b"$2b$%02d$" % users.costs[number % len(users.costs)] + self._decoy

    def _digest(self, username: str, password: str) -> bytes:
        """What a verdict is remembered by: no password stays in memory."""
        name = _encoded(username)
        return hmac.digest(self._key, len(name).to_bytes(8, "big") + name + _encoded(password), "sha256")

    def _verdict(self, digest: bytes) -> bool | None:
        if digest in self._right:
            return True
        return False if digest in self._wrong else None

    async def _refresh(self) -> None:
        """Take up the file if it has changed; at most once a second, and in a thread."""
        now = self._clock()
        if self._looking is not None or now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        self._looking = asyncio.get_running_loop().run_in_executor(None, _look, self._path, self._stamp)
        self._looking.add_done_callback(self._looked)
        try:
            async with asyncio.timeout(LOOK_WAIT_SECONDS):
                await asyncio.shield(self._looking)
        except TimeoutError:
            _logger.warning("htpasswdFile %s: the disk does not answer, the users are those of before", self._path)

    def _looked(self, looking: asyncio.Future[_Look | None]) -> None:
        self._looking = None
        found = None if looking.cancelled() else looking.result()
        if found is None:
            return
        self._stamp = found.stamp
        if found.users is None:
            _logger.error("the users stay as they were: htpasswdFile: %s", found.problem)
            return
        self._users = found.users
        self._right.clear()
        self._wrong.clear()
        _logger.info("htpasswdFile %s was read again: users: %d", self._path, len(found.users.hashes))


def _look(path: Path, stamp: FileState | None) -> _Look | None:
    """The file, if it is not as it was; blocks."""
    now = state_of(path)
    if now == stamp:
        return None
    try:
        users, read = read_users(path)
    except ValueError as error:
        return _Look(now, None, str(error))
    return _Look(read, users)


def _encoded(text: str) -> bytes:
    """The text as bytes; whatever a client sends is some text, if not a good one."""
    return text.encode("utf-8", "surrogatepass")
