"""Users of an htpasswd file: passwords are hashed in threads, a few at a time; verdicts are cached."""

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

from proxy.auth.inward.turns import MAX_WAITING, TooManyWaiting, Turns
from proxy.auth.inward.watched_file import LOOK_TIMES, FileKind, LookTimes, Parsed, WatchedFile
from proxy.oci.login import ANONYMOUS_NAME

FILE_LIMIT = 1024 * 1024
"""Bytes of the file that are read."""
LINE_LIMIT = 10_000
"""Lines of the file that are read."""
NAME_LIMIT = 255
"""Longest user name in characters, as in `htpasswd`."""
MAX_COST = 14
"""Highest accepted cost of a hash: about a second per check; each increment doubles it."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# The last characters of salt and hash must have zero spare bits: no password matches any other hash.
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
    """The users of a file, with their hashes and the costs of the hashes."""

    hashes: Mapping[str, bytes] = field(repr=False)
    costs: tuple[int, ...]


def parse_users(content: bytes, file: str) -> Parsed[Users]:
    """Parse the content of a file; invalid lines are reported and ignored. Problems hold no name and no hash."""
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
            problems.append(f"{file}:{number}: the user of this line is already in an earlier line: remove one of them")
        elif entry is not None:
            hashes[entry[0]] = entry[1]
    if any(lines[LINE_LIMIT:]):
        problems.append(f"{file} has more than {LINE_LIMIT} lines: the remaining ones are ignored")
    users = Users(hashes, tuple(int(value[4:6]) for value in hashes.values()))
    return Parsed(users, len(hashes), tuple(problems))


USERS = FileKind(
    "htpasswdFile",
    "users",
    FILE_LIMIT,
    parse_users,
    Users({}, ()),
    "names no user: add one with htpasswd -B {file} USER",
    "password authentication fails for all clients",
)
"""How an `htpasswdFile` is parsed and reported."""


def _entry(line: bytes, place: str) -> tuple[str, bytes] | None:
    """User and hash of a line; None for an empty line or a comment. Raises ValueError."""
    try:
        text = line.decode().rstrip()
    except UnicodeDecodeError:
        raise ValueError(f"{place}: the line is not UTF-8 text") from None
    return _user(text, place) if text and not text.startswith("#") else None


def _user(text: str, place: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"{place}: the line is not USER:HASH; htpasswd -B writes such lines")
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise ValueError(f"{place}: a user name must have 1 to {NAME_LIMIT} printable characters")
    if name == ANONYMOUS_NAME:
        raise ValueError(f"{place}: {ANONYMOUS_NAME} is reserved for clients without a name: choose another user name")
    match = _BCRYPT.fullmatch(value)
    if match is None:
        scheme = next((text for prefix, text in _OTHER_SCHEMES if value.startswith(prefix)), "not hashed with bcrypt")
        raise ValueError(f"{place}: the password is {scheme}; only bcrypt is supported: set it again with htpasswd -B")
    if not 4 <= int(match["cost"]) <= MAX_COST:  # noqa: PLR2004 - the minimum of bcrypt
        raise ValueError(
            f"{place}: the cost of the hash is not 4 to {MAX_COST}; with a higher cost each check takes seconds: "
            "set the password again with htpasswd -B -C 10"
        )
    return name, value.encode()


CHECKS_AT_ONCE = 2
"""Most threads that hash passwords at one time: a flood of wrong ones leaves threads for other work."""
WAIT_SECONDS = 10.0
"""How long a check waits for its turn."""
WRONG_SECONDS = 30.0
"""How long a wrong password is cached as wrong."""
MAX_WRONG = 4096
"""Most wrong passwords that are cached; correct ones are cached once per user."""
PASSWORD_LIMIT = 72
"""Bytes of a password that bcrypt uses."""


@dataclass(frozen=True, slots=True)
class Checking:
    """How passwords are checked, with its limits."""

    matches: Callable[[bytes, bytes], bool] = bcrypt.checkpw
    """Whether a password has a hash; blocks."""
    wait_seconds: float = WAIT_SECONDS
    waiting_limit: int = MAX_WAITING
    wrong_limit: int = MAX_WRONG


CHECKING = Checking()


class TooManyChecks(Exception):
    """The password was not checked: too many others are waiting. The client should retry."""


class Htpasswd:
    """Checks passwords against the current content of an htpasswd file."""

    def __init__(self, file: WatchedFile[Users], clock: Callable[[], float], checking: Checking = CHECKING) -> None:
        self._file = file
        self._checking = checking
        self._users = file.content
        self._key = secrets.token_bytes(32)
        self._decoy = bcrypt.gensalt(4)[7:] + b"." * 31  # salt and hash that match no password
        self._verified: dict[str, bytes] = {}
        self._wrong: TTLCache[bytes, bool] = TTLCache(checking.wrong_limit, WRONG_SECONDS, clock)
        self._turns = Turns(CHECKS_AT_ONCE, clock, checking.waiting_limit)

    @classmethod
    def open(
        cls,
        path: str | Path,
        clock: Callable[[], float] = time.monotonic,
        checking: Checking = CHECKING,
        times: LookTimes = LOOK_TIMES,
    ) -> Self:
        """Read the file for the first time; blocks. Raises ValueError: what is wrong, where, what to do."""
        return cls(WatchedFile.open(Path(path), USERS, clock, times), clock, checking)

    @property
    def file(self) -> WatchedFile[Users]:
        """The file."""
        return self._file

    async def check(self, username: str, password: str, address: str) -> bool:
        """Whether the file has this user with this password; `address` is the client's.

        Raises TooManyChecks. A correct password is hashed once until the user's line changes; later checks of it wait
        for no turn. A password of more than 72 bytes is always wrong: bcrypt ignores the rest, so two long passwords
        with the same prefix (such as tokens) would be equal. Unknown users take as long to check as known ones.
        """
        self._update_users(await self._file.current())
        if len(username) > NAME_LIMIT or not self._users.hashes:
            return False
        verdict = self._verdict(username, self._digest(username, password))
        return await self._hash_in_turn(username, password, address) if verdict is None else verdict

    async def _hash_in_turn(self, username: str, password: str, address: str) -> bool:
        try:
            async with asyncio.timeout(self._checking.wait_seconds):
                await self._turns.take(address, username)
        except TimeoutError:
            raise TooManyChecks(f"the password was not checked within {self._checking.wait_seconds:g} s") from None
        except TooManyWaiting as error:
            raise TooManyChecks(str(error)) from None
        # Meanwhile, another check may have cached the verdict, and the file may have changed.
        self._update_users(self._file.content)
        digest = self._digest(username, password)
        verdict = self._verdict(username, digest) if self._users.hashes else False
        if verdict is not None:
            self._turns.give_back()
            return verdict
        work = asyncio.get_running_loop().run_in_executor(None, self._matches, self._users, username, password)
        # A client that disconnects does not stop the thread: the turn ends when the thread is done.
        work.add_done_callback(partial(self._checked, username, digest, address))
        return await asyncio.shield(work)

    def _checked(self, username: str, digest: bytes, address: str, work: asyncio.Future[bool]) -> None:
        """Cache the verdict and give the turn to the next check."""
        if not work.cancelled() and work.exception() is None:
            if work.result():
                self._verified[username] = digest
            else:
                self._wrong[digest] = True
                self._turns.count_failed(address, username)
        self._turns.give_back()

    def _update_users(self, users: Users) -> None:
        """Use these users from now on; drop cached verdicts of removed users."""
        if users is not self._users:
            self._users = users
            self._verified = {name: known for name, known in self._verified.items() if name in users.hashes}

    def _matches(self, users: Users, username: str, password: str) -> bool:
        """Hash the password and compare in constant time; an unknown user is checked against a decoy. Blocks."""
        secret = _encoded(password)
        known = users.hashes.get(username)
        matches = self._checking.matches(secret[:PASSWORD_LIMIT], known or self._decoy_hash(users, username))
        return matches and known is not None and len(secret) <= PASSWORD_LIMIT

    def _decoy_hash(self, users: Users, username: str) -> bytes:
        """A hash with the cost of some user, always the same for a name: the duration reveals no user names."""
        number = int.from_bytes(hmac.digest(self._key, _encoded(username), "sha256")[:8], "big")
        return b"$2b$%02d$" % users.costs[number % len(users.costs)] + self._decoy

    def _digest(self, username: str, password: str) -> bytes:
        """The cache key of a verdict: keeps no password in memory, and changes with the user's line."""
        parts = _encoded(username), self._users.hashes.get(username, b"")
        head = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, head + _encoded(password), "sha256")

    def _verdict(self, username: str, digest: bytes) -> bool | None:
        if hmac.compare_digest(self._verified.get(username, b""), digest):
            return True
        return False if digest in self._wrong else None


def _encoded(text: str) -> bytes:
    """Encode any text that a client sends, even with unpaired surrogates."""
    return text.encode("utf-8", "surrogatepass")
