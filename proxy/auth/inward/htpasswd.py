"""Users of an htpasswd file: passwords are checked off the event loop, few at a time, and each right one once."""

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import bcrypt
from cachetools import TTLCache

from proxy.auth.inward.turns import TooManyWaiting, Turns
from proxy.auth.inward.watched_file import FileKind, Parsed, WatchedFile
from proxy.oci.login import ANONYMOUS_NAME

FILE_LIMIT = 1024 * 1024
"""Bytes of the file that count."""
LINE_LIMIT = 10_000
"""Lines of the file that count."""
NAME_LIMIT = 255
"""Characters of a user name, as `htpasswd` has it."""
MAX_COST = 14
"""Highest cost of a hash: about a second for each check; one more doubles it."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Salt and hash end in characters whose spare bits are zero: another one would never fit any password.
_BCRYPT = re.compile(r"\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]")
_OTHER_SCHEMES = (
    ("$apr1$", "hashed with MD5 (apr1)"),
    ("{SHA}", "hashed with SHA-1"),
    ("$1$", "hashed with MD5 (crypt)"),
    ("$5$", "hashed with SHA-256 (crypt)"),
    ("$6$", "hashed with SHA-512 (crypt)"),
    ("$argon2", "hashed with Argon2"),
    ("$2x$", "hashed with a broken bcrypt (2x)"),
    ("$2", "hashed with bcrypt, but damaged"),
)


@dataclass(frozen=True, slots=True)
class Users:
    """The users of a file, with their hashes and the costs of those."""

    hashes: Mapping[str, bytes] = field(repr=False)
    costs: tuple[int, ...]


def parse_users(content: bytes, file: str) -> Parsed[Users]:
    """The users of a file's content; each line counts by itself. Problems hold no name and no hash."""
    hashes: dict[str, bytes] = {}
    problems = []
    lines = content.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    for number, line in enumerate(lines[:LINE_LIMIT], start=1):
        try:
            entry = _entry(line, f"{file}:{number}")
        except ValueError as error:
            problems.append(str(error))
            continue
        if entry is not None and entry[0] in hashes:
            problems.append(f"{file}:{number}: the user of this line stands in an earlier one: remove one of them")
        elif entry is not None:
            hashes[entry[0]] = entry[1]
    if any(lines[LINE_LIMIT:]):
        problems.append(f"{file} has more than {LINE_LIMIT} lines: the further ones do not count")
    users = Users(hashes, tuple(int(value[4:6]) for value in hashes.values()))
    return Parsed(users, len(hashes), tuple(problems))


USERS = FileKind(
    "htpasswdFile",
    "users",
    FILE_LIMIT,
    parse_users,
    Users({}, ()),
    "names no user: add one with htpasswd -B {file} USER",
    "nobody is let in by a password",
)
"""How such a file is read."""


def _entry(line: bytes, place: str) -> tuple[str, bytes] | None:
    """User and hash of a line; None for one that is empty or a comment. Raises ValueError."""
    try:
        text = line.decode().rstrip()
    except UnicodeDecodeError:
        raise ValueError(f"{place}: this is not UTF-8 text") from None
    return _user(text, place) if text and not text.startswith("#") else None


def _user(text: str, place: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"{place}: a line is USER:HASH, as htpasswd -B writes it")
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise ValueError(f"{place}: a user name is 1 to {NAME_LIMIT} printable characters")
    if name == ANONYMOUS_NAME:
        raise ValueError(f"{place}: {ANONYMOUS_NAME} stands for clients without a name: give the user another one")
    match = _BCRYPT.fullmatch(value)
    if match is None:
        scheme = next((text for sign, text in _OTHER_SCHEMES if value.startswith(sign)), "no bcrypt hash")
        raise ValueError(f"{place}: the password is {scheme}; only bcrypt is taken: set it again with htpasswd -B")
    if not 4 <= int(match["cost"]) <= MAX_COST:  # noqa: PLR2004 - the least that bcrypt knows
        raise ValueError(
            f"{place}: the cost of the hash is not 4 to {MAX_COST}, more takes seconds for each check: "
            "set the password again with htpasswd -B -C 10"
        )
    return name, value.encode()


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
