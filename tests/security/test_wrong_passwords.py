"""Floods of wrong passwords, at a proxy that runs as a program: who knows the right one gets in meanwhile."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import pytest

from tests.cache.serving import read_answer
from tests.fakes.canaries import basic
from tests.fakes.client import WITHIN
from tests.fakes.registry import ScriptedRegistry
from tests.security.peak import RecordProperty, program

pytestmark = [pytest.mark.security, pytest.mark.slow, pytest.mark.timeout(120)]

CONNECTIONS = 280
RIGHT = 10
COST = 8
"""Less than what `htpasswd -B -C 10` makes: more of them are checked, and as many wait."""
ALONE, CROWD = "127.0.0.2", "127.0.0.9"
PASSWORD = "canary-right"
USERS = tuple(f"user{number}" for number in range(RIGHT))

Guess = Callable[[int], tuple[str, str]]


def of_a_user(number: int) -> tuple[str, str]:
    return USERS[number % RIGHT], f"canary-wrong-{number}"


def of_one_user(number: int) -> tuple[str, str]:
    return USERS[0], f"canary-wrong-{number}"


def of_nobody(number: int) -> tuple[str, str]:
    return f"nobody{number}", f"canary-wrong-{number}"


def of_one_name(number: int) -> tuple[str, str]:
    return "mallory", f"canary-wrong-{number}"


def too_long(number: int) -> tuple[str, str]:
    return USERS[number % RIGHT], PASSWORD + "x" * 80 + str(number)


@dataclass(frozen=True, slots=True)
class Attack:
    """Who guesses what, from where; and where the others are."""

    guess: Guess
    addresses: tuple[str, ...] = (CROWD,)
    right_from: str = ALONE
    known: bool = False
    """The right passwords have been used before."""
    changed: bool = False
    """Another line of the file is changed meanwhile."""


ATTACKS: Mapping[str, Attack] = {
    "passwords-of-all-users": Attack(of_a_user),
    "passwords-of-one-user": Attack(of_one_user),
    "fresh-names": Attack(of_nobody),
    "long-passwords": Attack(too_long),
    "many-addresses": Attack(of_a_user, tuple(f"127.0.1.{number}" for number in range(1, 15))),
    "same-address-known-passwords": Attack(of_a_user, ("127.0.0.1",), "127.0.0.1", known=True),
    "same-address-fresh-names-known-passwords": Attack(of_nobody, ("127.0.0.1",), "127.0.0.1", known=True),
    "same-address-known-passwords-another-line-changed": Attack(
        of_a_user, ("127.0.0.1",), "127.0.0.1", known=True, changed=True
    ),
    "same-address-another-name": Attack(of_one_name, ("127.0.0.1",), "127.0.0.1"),
}


@asynccontextmanager
async def connected(address: str, source: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection from an address of this machine."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], username: str, password: str) -> int:
    """What a ping with this login is answered with."""
    reader, writer = connection
    login = basic(username, password)
    writer.write(f"GET /v2/ HTTP/1.1\r\nHost: p\r\nAuthorization: Basic {login}\r\n\r\n".encode())
    return (await read_answer(reader, "GET")).status


@asynccontextmanager
async def guessing(address: str, attack: Attack) -> AsyncIterator[list[int]]:
    """Connections that try one wrong password after the other until the block ends; what they were answered with."""
    numbers, found = itertools.count(), []
    ended = asyncio.Event()

    async def guess(source: str) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with connected(address, source) as connection:
                while not ended.is_set():
                    found.append(await status(connection, *attack.guess(next(numbers))))

    async with asyncio.TaskGroup() as tasks:
        for number in range(CONNECTIONS):
            tasks.create_task(guess(attack.addresses[number % len(attack.addresses)]))
        async with asyncio.timeout(WITHIN):
            while len(found) < len(attack.addresses):  # noqa: ASYNC110 - the flood is there
                await asyncio.sleep(0.01)
        yield found
        ended.set()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Users with one password."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(COST)).decode()
    (tmp_path / "htpasswd").write_text("".join(f"{name}:{hashed}\n" for name in (*USERS, "leaves")))
    return tmp_path / "htpasswd"


async def another_line_changes(users: Path, log: Path) -> None:
    """One user leaves, and the proxy has noticed."""

    def change() -> None:
        fresh = users.with_suffix(".new")
        fresh.write_text(users.read_text().replace("leaves", "comes"))
        fresh.replace(users)

    await asyncio.to_thread(change)
    async with asyncio.timeout(WITHIN):
        while "was read again" not in await asyncio.to_thread(log.read_text):  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.05)


async def right_login(address: str, source: str, username: str) -> int:
    async with asyncio.timeout(WITHIN), connected(address, source) as connection:
        return await status(connection, username, PASSWORD)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_flood_of_wrong_passwords_keeps_no_right_one_out(
    plain: ScriptedRegistry, users: Path, attack: Attack, record_property: RecordProperty
) -> None:
    clients = {"auth": "basic", "htpasswdFile": str(users)}
    async with program({"reg.example": {"endpoints": [plain.url]}}, record=record_property, clients=clients) as proxy:
        if attack.known:
            for username in USERS:
                assert await right_login(proxy.address, attack.right_from, username) == 200
        async with guessing(proxy.address, attack) as guessed:
            if attack.changed:
                await another_line_changes(users, proxy.process.log_file)
            right = [await right_login(proxy.address, attack.right_from, username) for username in USERS]
        assert right == [200] * RIGHT
        assert set(guessed) <= {401, 503}
