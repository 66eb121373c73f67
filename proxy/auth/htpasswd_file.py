"""Reading an htpasswd file: its users and their bcrypt hashes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.auth.watched_file import FileKind, Parsed
from proxy.routing.caller import ANONYMOUS_NAME

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
