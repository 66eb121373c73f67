"""Reading an htpasswd file: its users and their bcrypt hashes."""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from proxy.config.file_state import FileState, state_in
from proxy.routing.caller import ANONYMOUS_NAME

FILE_LIMIT = 1024 * 1024
"""Bytes of the file."""
LINE_LIMIT = 10_000
"""Lines of the file."""
NAME_LIMIT = 255
"""Characters of a user name, as `htpasswd` has it."""
MAX_COST = 14
"""Highest cost of a hash: about a second for each check; one more doubles it."""

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


def read_users(path: Path) -> tuple[Users, FileState]:
    """The users of the file and the state that it was read in; blocks. Raises ValueError without any hash in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is no regular file: name the file that htpasswd -B writes")
            content = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from None
    if len(content) > FILE_LIMIT:
        raise ValueError(f"{path} is larger than {FILE_LIMIT >> 20} MiB: this is no htpasswd file")
    return parse_users(content, str(path)), state_in(status)


def parse_users(content: bytes, file: str) -> Users:
    """The users of a file's content; raises ValueError with `file:line`, never with a name or a hash."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text") from None
    if len(lines) > LINE_LIMIT:
        raise ValueError(f"{file} has more than {LINE_LIMIT} lines")
    hashes: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        text = line.rstrip()
        if text and not text.startswith("#"):
            name, value = _entry(text, f"{file}:{number}")
            if name in hashes:
                raise ValueError(f"{file}:{number}: the user of this line stands in an earlier one: remove one of them")
            hashes[name] = value
    if not hashes:
        raise ValueError(f"{file} names no user: add one with htpasswd -B {file} USER")
    return Users(hashes, tuple(int(value[4:6]) for value in hashes.values()))


def _entry(text: str, place: str) -> tuple[str, bytes]:
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
