"""Users of an htpasswd file: passwords are checked off the event loop, few at a time, and each right one once."""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import bcrypt
from cachetools import TTLCache

from proxy.auth.htpasswd_file import NAME_LIMIT, USERS, Users
from proxy.auth.turns import TooManyWaiting, Turns
from proxy.auth.watched_file import WatchedFile

CHECKS_AT_ONCE = 2
"""Threads that hash passwords at one time: a flood of wrong ones leaves the others to the rest of the program."""
WAIT_SECONDS = 10.0
"""How long a check waits for its turn."""
WRONG_SECONDS = 30.0
"""How long a password that was wrong is known to be wrong."""
MAX_WRONG = 4096
"""Wrong passwords that are remembered; of right ones it is one for each user."""
PASSWORD_LIMIT = 72
"""Bytes of a password that bcrypt sees."""


class TooManyChecks(Exception):
    """The password was not checked: too many others are waiting. The client is to come again."""


class Htpasswd:
    """The users of one file as they are now."""

    def __init__(self, file: WatchedFile[Users], clock: Callable[[], float]) -> None:
        self._file = file
        self._users = file.content
        self._key = secrets.token_bytes(32)
        self._decoy = bcrypt.gensalt(4)[7:] + b"." * 31  # salt and hash of nobody
        self._verified: dict[str, bytes] = {}
        self._wrong: TTLCache[bytes, bool] = TTLCache(MAX_WRONG, WRONG_SECONDS, clock)
        self._turns = Turns(CHECKS_AT_ONCE, clock)

    @classmethod
    def open(cls, path: str | Path, clock: Callable[[], float] = time.monotonic) -> Self:
        """Read the file for the first time; blocks. Raises ValueError: what is wrong, where, what to do."""
        return cls(WatchedFile.open(Path(path), USERS, clock), clock)

    @property
    def file(self) -> WatchedFile[Users]:
        """The file."""
        return self._file

    async def check(self, username: str, password: str, address: str) -> bool:
        """Whether the file has the user with this password, which a client at this address sends.

        Raises TooManyChecks. A password that was right once is not hashed again as long as the user's line stays as it
        is, so that it waits for nobody. A password of more than 72 bytes is wrong: bcrypt sees no more of it, so that
        two long ones (tokens with the same head) could be taken for each other. A user that is not there takes as long
        as one that is.
        """
        self._take_up(await self._file.current())
        if len(username) > NAME_LIMIT or not self._users.hashes:
            return False
        verdict = self._verdict(username, self._digest(username, password))
        return await self._ask(username, password, address) if verdict is None else verdict

    async def _ask(self, username: str, password: str, address: str) -> bool:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.take(address, username)
        except TimeoutError:
            raise TooManyChecks(f"the password was not checked within {WAIT_SECONDS:g} s") from None
        except TooManyWaiting as error:
            raise TooManyChecks(str(error)) from None
        # The same password may have been checked meanwhile, and the file may be another one.
        self._take_up(self._file.content)
        digest = self._digest(username, password)
        verdict = self._verdict(username, digest) if self._users.hashes else False
        if verdict is not None:
            self._turns.give_back()
            return verdict
        work = asyncio.get_running_loop().run_in_executor(None, self._fits, self._users, username, password)
        # A client that leaves does not stop the thread: the turn ends with the work, not with the wait for it.
        work.add_done_callback(partial(self._judged, username, digest, address))
        return await asyncio.shield(work)

    def _judged(self, username: str, digest: bytes, address: str, work: asyncio.Future[bool]) -> None:
        """Remember the verdict, and let the next check have its turn."""
        if not work.cancelled() and work.exception() is None:
            if work.result():
                self._verified[username] = digest
            else:
                self._wrong[digest] = True
                self._turns.count_failed(address, username)
        self._turns.give_back()

    def _take_up(self, users: Users) -> None:
        """These are the users now; what was known of others is forgotten."""
        if users is not self._users:
            self._users = users
            self._verified = {name: known for name, known in self._verified.items() if name in users.hashes}

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
        """What a verdict is remembered by: no password stays in memory, and another line of the user is another one."""
        parts = _encoded(username), self._users.hashes.get(username, b"")
        head = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, head + _encoded(password), "sha256")

    def _verdict(self, username: str, digest: bytes) -> bool | None:
        if hmac.compare_digest(self._verified.get(username, b""), digest):
            return True
        return False if digest in self._wrong else None


def _encoded(text: str) -> bytes:
    """The text as bytes; whatever a client sends is some text, if not a good one."""
    return text.encode("utf-8", "surrogatepass")
