"""Sealed tokens: encrypted and authenticated with keys from a file that only the replicas of scope-proxy have."""

import base64
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.auth.inward.watched_file import LOOK_TIMES, FileKind, LookTimes, Parsed, WatchedFile
from proxy.oci.login import ANONYMOUS, ANONYMOUS_NAME, Login, LoginKind


@dataclass(frozen=True, slots=True)
class Binding:
    """A repository that a token is valid for: the registry that the client names, and the upstream repository."""

    registry: str
    repository: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A token's content, including the login so that any worker or replica can use it. Times are Unix seconds."""

    login: Login
    bindings: tuple[Binding, ...]
    issued_at: int
    expires_at: int

    @property
    def name(self) -> str:
        """The client's name for people and access rules."""
        return ANONYMOUS_NAME if self.login.kind is LoginKind.ANONYMOUS else self.login.name


def encode(payload: Sealed) -> bytes:
    """The payload as compact JSON."""
    login = payload.login
    content = {
        "login": [login.kind.value, login.name, login.username, login.secret],
        "for": [[binding.registry, binding.repository] for binding in payload.bindings],
        "times": [payload.issued_at, payload.expires_at],
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def decode(content: bytes) -> Sealed:
    """Parse the JSON of a payload; raises ValueError, whose message holds none of the content."""
    try:
        value = json.loads(content)
        issued_at, expires_at = value["times"]
        bindings = tuple(Binding(_text(registry), _text(repository)) for registry, repository in value["for"])
        return Sealed(_login(value["login"]), bindings, _whole(issued_at), _whole(expires_at))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("the content is not a token payload") from None


def _login(value: list[object]) -> Login:
    kind, name, username, secret = map(_text, value)
    if LoginKind(kind) is LoginKind.ANONYMOUS:
        return ANONYMOUS
    return Login(name, LoginKind(kind), username, secret)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


KEY_MIN_LENGTH = 32
"""Fewest characters of a key; `openssl rand -hex 32` prints 64."""
KEYS_LIMIT = 16
"""Most keys of a file: each of them is tried on an invalid token."""
SEALED_LIMIT = 8000
"""Longest issued token in characters: with `Authorization: Bearer` it fits into the 8,190 bytes that aiohttp accepts
for one header field."""
OPENED_LIMIT = 16 * 1024
"""Longest token in characters that is decrypted."""
LEEWAY_SECONDS = 300
"""Largest tolerated difference between the clocks of replicas."""

_PLAIN_LIMIT = 64 * 1024
_VERSION = b"\x01"
_AS_IS, _DEFLATED = b"\x00", b"\x01"
_CONTEXT = b"scope-proxy sealed token, version 1"
_SHAPE = re.compile(r"[A-Za-z0-9_-]+={0,2}")


class TokenForged(Exception):
    """The token was not sealed with any of the keys or not by this version, or it was modified."""


class TokenExpired(Exception):
    """The token was valid and has expired."""


class LoginTooLong(Exception):
    """A token with this login would not fit into a header."""


class NoSealingKey(Exception):
    """The key file holds no key to seal a token with."""


class SealingKeys:
    """The keys that seal tokens: the first one seals, all of them open; without keys, both fail."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._cipher = MultiFernet(_fernet(key) for key in keys) if keys else None
        self.count = len(keys)

    def seal(self, payload: Sealed) -> str:
        """The token; raises LoginTooLong and NoSealingKey.

        The token's length reveals the length of its content. The content is compressed only if it would not fit
        otherwise: the compression ratio of a secret beside repository names that others choose reveals part of it.
        """
        content = encode(payload)
        token = self._encrypt(_AS_IS + content, payload.issued_at)
        if len(token) > SEALED_LIMIT:
            token = self._encrypt(_DEFLATED + zlib.compress(content, 9), payload.issued_at)
        if len(token) > SEALED_LIMIT:
            raise LoginTooLong(
                "the credential is too long for a token: use `challenge: basic` in the clients of this listener"
            )
        return token

    def open(self, text: str, now: float) -> Sealed:
        """The content of a token that is valid at `now` (Unix seconds); raises TokenForged and TokenExpired."""
        content = self._decrypt(text)
        if content[:1] != _VERSION:
            raise TokenForged("the token is of another version of scope-proxy")
        try:
            payload = decode(_inflated(content[1:2], content[2:]))
        except ValueError as error:
            raise TokenForged(f"the token cannot be read: {error}") from None
        if payload.issued_at > now + LEEWAY_SECONDS:
            raise TokenForged("the token was issued in the future: the clocks of the replicas differ")
        if payload.expires_at <= now:
            raise TokenExpired("the token has expired")
        return payload

    def _encrypt(self, content: bytes, at: int) -> str:
        if self._cipher is None:
            raise NoSealingKey
        return self._cipher.encrypt_at_time(_VERSION + content, at).decode()

    def _decrypt(self, text: str) -> bytes:
        if len(text) > OPENED_LIMIT or not _SHAPE.fullmatch(text) or not _canonical(text):
            raise TokenForged("scope-proxy did not issue the token")
        try:
            if self._cipher is not None:
                return self._cipher.decrypt(text)
        except InvalidToken:
            pass
        raise TokenForged("the token was not sealed with any of the keys in use, or was modified")


def _fernet(key: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_CONTEXT).derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


def _canonical(text: str) -> bool:
    """Whether the text is the only encoding of its bytes: the decoder ignores characters outside the alphabet."""
    try:
        return base64.urlsafe_b64encode(base64.urlsafe_b64decode(text)).decode() == text
    except ValueError:
        return False


def _inflated(packing: bytes, content: bytes) -> bytes:
    if packing == _AS_IS:
        return content
    if packing != _DEFLATED:
        raise ValueError("unknown compression")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(content, _PLAIN_LIMIT)
    except zlib.error:
        raise ValueError("corrupt compressed content") from None
    if not inflater.eof:
        raise ValueError("truncated or too long compressed content")
    return plain


FILE_LIMIT = 64 * 1024
"""Bytes of the file that are read."""
_MAKE_ONE = "write one that `openssl rand -hex 32` prints"


def parse_keys(content: bytes, file: str) -> Parsed[SealingKeys]:
    """Parse the keys of a file, one per line; blank lines and lines that begin with `#` are ignored.

    Problems name the line and what to do, and hold no part of a key.
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
    "no token is accepted, and none is issued",
)
"""How a `tokenKeyFile` is parsed and reported."""


class KeyFile:
    """The current keys of a `tokenKeyFile`."""

    def __init__(self, file: WatchedFile[SealingKeys]) -> None:
        self.file = file

    @classmethod
    def open(cls, path: str | Path, times: LookTimes = LOOK_TIMES) -> Self:
        """Read the file for the first time; blocks. Raises ValueError, which says what is wrong and what to do."""
        return cls(WatchedFile.open(Path(path), KEYS, times=times))

    async def current(self) -> SealingKeys:
        """The keys in use."""
        return await self.file.current()


def _key(line: bytes, place: str) -> str:
    """The key of a line; empty for a comment or a blank line. Raises ValueError."""
    try:
        key = line.decode().strip()
    except UnicodeDecodeError:
        raise ValueError(f"{place}: the line is not UTF-8 text: {_MAKE_ONE}") from None
    if key.startswith("#"):
        return ""
    if key and len(key) < KEY_MIN_LENGTH:
        raise ValueError(f"{place}: a key has at least {KEY_MIN_LENGTH} characters: {_MAKE_ONE}")
    return key
