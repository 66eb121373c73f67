"""Who was taken out of a file has no access any more, whatever else is wrong with the file."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest

from proxy.auth.inward.watched_file import LookTimes
from proxy.transport.clock import Deadline
from tests.fakes.canaries import OTHER_PASSWORD, PASSWORD, Written, basic
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.proxy import AT_ONCE, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import OWNER, PRIVATE, Header, login, scene
from tests.security.test_clients import SCOPES, bearing, guarded, token_of, with_token

pytestmark = pytest.mark.security

OLD, NEW = "canary-old-key-0123456789abcdef0123", "canary-new-key-0123456789abcdef0123"
ALICE: Header = ("Authorization", f"Basic {basic('alice', PASSWORD)}")
BOB: Header = ("Authorization", f"Basic {basic('bob', OTHER_PASSWORD)}")


def line_of(user: str, password: str) -> bytes:
    return f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n".encode()


FIRST, SECOND = line_of("alice", PASSWORD), line_of("bob", OTHER_PASSWORD)
BAD_LINES: Mapping[str, bytes] = {
    "other-scheme": b"carl:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n",
    "plain-password": b"carl:canary-plain\n",
    "no-colon": b"canary-word\n",
    "damaged": SECOND.replace(b"bob", b"carl")[:-5] + b"\n",
    "too-costly": SECOND.replace(b"bob", b"carl").replace(b"$04$", b"$31$"),
    "user-twice": SECOND,
    "name-of-nobody": SECOND.replace(b"bob", b"anonymous"),
    "control-character": SECOND.replace(b"bob", b"c\x07arl"),
    "not-utf-8": SECOND.replace(b"bob", b"c\xe4rl"),
    "disabled": FIRST.replace(b":", b":!", 1),
}


def put(path: Path, content: bytes) -> None:
    """Replace the file, as secrets are replaced in a cluster."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


def no_file(path: Path) -> None:
    path.unlink()


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


EMPTIED: Mapping[str, Callable[[Path], None]] = {
    "empty": lambda path: put(path, b""),
    "comments": lambda path: put(path, b"# nobody\n\n"),
    "no-good-line": lambda path: put(path, b"canary\n"),
    "not-text": lambda path: put(path, b"\xff\xfe\xfd\n"),
    "removed": no_file,
    "directory": directory,
    "link-to-nothing": link_to_nothing,
}
"""Ways in which a file comes to name nobody."""


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The file of two users."""
    (tmp_path / "htpasswd").write_bytes(FIRST + SECOND)
    return tmp_path / "htpasswd"


OFTEN = replace(AT_ONCE, look_times=LookTimes(interval=0.02, settle=0.02))
"""Files are checked more often than once a second."""


async def becomes(status: int, ask: Callable[[], Awaitable[Got]]) -> None:
    """This is the answer once the file has been looked at."""
    deadline = Deadline.after(WITHIN / 3)
    while (got := await ask()).status != status and deadline.remaining:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.01)
    assert got.status == status


@pytest.mark.parametrize("bad", BAD_LINES)
async def test_a_user_who_was_removed_is_refused_whatever_another_line_is(
    registry: ScriptedRegistry, users: Path, bad: str, logs: Written
) -> None:
    async with guarded(registry, users, tuning=OFTEN) as node:
        for user in (ALICE, BOB):
            assert (await node.get("/v2/", user)).status == 200
        put(users, SECOND + BAD_LINES[bad])
        await becomes(401, lambda: node.get("/v2/", ALICE))
        assert (await node.get("/v2/", BOB)).status == 200
        put(users, FIRST + SECOND)
        await becomes(200, lambda: node.get("/v2/", ALICE))
    warnings = [line for line in logs.lines if "ignored line" in line]
    assert len(warnings) == 1
    assert f"{users}:2: " in warnings[0]


@pytest.mark.parametrize("emptied", EMPTIED)
async def test_a_file_that_names_nobody_lets_nobody_in(registry: ScriptedRegistry, users: Path, emptied: str) -> None:
    async with guarded(registry, users, tuning=OFTEN) as node:
        assert (await node.get("/v2/", ALICE)).status == 200
        await asyncio.to_thread(EMPTIED[emptied], users)
        await becomes(401, lambda: node.get("/v2/", ALICE))
        assert (await node.get("/v2/", BOB)).status == 401


@asynccontextmanager
async def with_keys(directory: Path, keys: Path) -> AsyncIterator[tuple[NodeClient, Header]]:
    """A proxy that gives out tokens, and a token that is good."""
    async with scene(directory, clients=bearing(keys), tuning=OFTEN) as played:
        token = with_token(await token_of(played.node, login(OWNER), *SCOPES))
        assert (await played.node.get(manifest(name=PRIVATE), token)).status == 200
        yield played.node, token


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The file of one key."""
    (tmp_path / "keys").write_text(f"{OLD}\n")
    return tmp_path / "keys"


@pytest.mark.parametrize("emptied", EMPTIED)
async def test_without_a_key_no_token_is_good_and_none_is_given_out(tmp_path: Path, keys: Path, emptied: str) -> None:
    async with with_keys(tmp_path / "cache", keys) as (node, token):
        await asyncio.to_thread(EMPTIED[emptied], keys)
        await becomes(401, lambda: node.get(manifest(name=PRIVATE), token))
        got = await node.get("/token?service=reg.example", login(OWNER))
        assert (got.status, got.code) == (503, "UNAVAILABLE")


BAD_KEYS: Mapping[str, bytes] = {
    "short": b"canary-short\n",
    "not-utf-8": b"\xff" * 40 + b"\n",
    "too-many": "".join(f"{NEW}{number}\n" for number in range(20)).encode(),
    "first": b"",
    "long": f"{NEW}\n# {'x' * 70_000}\n".encode(),
}


@pytest.mark.parametrize("bad", BAD_KEYS)
async def test_a_key_that_was_removed_opens_nothing_whatever_another_line_is(
    tmp_path: Path, keys: Path, bad: str
) -> None:
    async with with_keys(tmp_path / "cache", keys) as (node, token):
        good, other = f"{NEW}\n".encode(), BAD_KEYS[bad]
        put(keys, b"canary-short\n" + good if bad == "first" else good + other)
        await becomes(401, lambda: node.get(manifest(name=PRIVATE), token))
        fresh = with_token(await token_of(node, login(OWNER), *SCOPES))
        assert (await node.get(manifest(name=PRIVATE), fresh)).status == 200
