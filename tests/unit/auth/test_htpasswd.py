import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from proxy.auth.inward.htpasswd import (
    CHECKING,
    CHECKS_AT_ONCE,
    NAME_LIMIT,
    WRONG_SECONDS,
    Checking,
    Htpasswd,
    TooManyChecks,
)
from proxy.auth.inward.watched_file import LOOK_SECONDS
from tests.unit.auth.hashing import Hashing
from tests.unit.auth.support import Clock

ALICE = "correct horse"
BOB = "pässwörd"
HERE, THERE = "192.0.2.1", "192.0.2.2"
"""Where clients are."""


def hashed(password: str, kind: str = "2y", cost: int = 4) -> str:
    value = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(cost)).decode()
    return f"${kind}${value.removeprefix('$2b$')}"


@pytest.fixture
def hashing() -> Iterator[Hashing]:
    made = Hashing()
    made.open.set()
    yield made
    made.open.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def content() -> str:
    return f"# users\n\nalice:{hashed(ALICE)}\nbob:{hashed(BOB, '2b')}\ncarl:{hashed(ALICE, '2a')}\r\n"


@pytest.fixture
def file(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "users"
    path.write_text(content)
    return path


@pytest.fixture
def users(file: Path, clock: Clock, hashing: Hashing) -> Htpasswd:
    return Htpasswd.open(file, clock, Checking(hashing))


def write(path: Path, text: str) -> None:
    path.write_text(text)


async def opened(path: Path, *lines: str, checking: Checking = CHECKING) -> Htpasswd:
    if lines:
        write(path, "".join(f"{line}\n" for line in lines))
    return await asyncio.to_thread(Htpasswd.open, path, checking=checking)


async def later(users: Htpasswd, clock: Clock, user: str, password: str) -> bool:
    """The verdict once the file is looked at again."""
    clock.now += LOOK_SECONDS
    return await users.check(user, password, HERE)


@pytest.mark.parametrize(
    ("user", "password", "right"),
    [
        ("alice", ALICE, True),
        ("bob", BOB, True),
        ("carl", ALICE, True),
        ("alice", BOB, False),
        ("alice", "", False),
        ("alice", f"{ALICE}\0", False),
        ("Alice", ALICE, False),
        ("nobody", ALICE, False),
        ("", "", False),
        ("# users", "", False),
        ("alice", "\ud800", False),
        ("\udc00", ALICE, False),
    ],
)
async def test_only_a_user_with_the_right_password_is_let_in(
    users: Htpasswd, user: str, password: str, *, right: bool
) -> None:
    assert await users.check(user, password, HERE) is right
    assert await users.check(user, password, HERE) is right  # and the remembered verdict is the same


async def test_a_password_that_bcrypt_sees_only_a_part_of_is_wrong(file: Path) -> None:
    users = await opened(file, f"alice:{hashed('x' * 72)}")
    assert await users.check("alice", "x" * 72, HERE)
    assert not await users.check("alice", "x" * 73, HERE)
    assert not await users.check("alice", "x" * 100_000, HERE)


async def test_a_right_password_is_hashed_once_and_a_wrong_one_again_after_a_while(
    users: Htpasswd, hashing: Hashing, clock: Clock
) -> None:
    for _ in range(3):
        assert await users.check("alice", ALICE, HERE)
        assert not await users.check("alice", "wrong", HERE)
    assert hashing.begun == 2
    clock.now += WRONG_SECONDS
    assert not await users.check("alice", "wrong", HERE)
    assert hashing.begun == 3
    clock.now += 1_000_000.0
    assert await users.check("alice", ALICE, THERE)
    assert hashing.begun == 3


async def test_a_right_password_stays_right_as_long_as_the_line_of_its_user_does(
    users: Htpasswd, file: Path, content: str, clock: Clock, hashing: Hashing
) -> None:
    assert await users.check("alice", ALICE, HERE)
    for changed in (content.replace("bob", "dora"), f"# one more line\n{content}", content.replace("carl", "dora")):
        write(file, changed)
        assert await later(users, clock, "alice", ALICE)
    assert hashing.begun == 1
    write(file, f"alice:{hashed(ALICE)}\n")  # the same password, and another line
    assert await later(users, clock, "alice", ALICE)
    assert hashing.begun == 2
    write(file, f"alice:{hashed(BOB)}\n")
    assert not await later(users, clock, "alice", ALICE)
    assert await users.check("alice", BOB, HERE)


async def test_a_user_who_has_left_is_refused_at_once(users: Htpasswd, file: Path, content: str, clock: Clock) -> None:
    assert await users.check("alice", ALICE, HERE)
    write(file, content.replace("alice", "dora"))
    assert not await later(users, clock, "alice", ALICE)
    write(file, content)
    assert await later(users, clock, "alice", ALICE)


async def test_a_name_that_no_file_may_have_is_not_looked_for(users: Htpasswd, hashing: Hashing) -> None:
    assert not await users.check("x" * (NAME_LIMIT + 1), ALICE, HERE)
    assert hashing.begun == 0


async def test_user_and_password_cannot_be_shifted_into_each_other(users: Htpasswd) -> None:
    assert await users.check("alice", ALICE, HERE)
    assert not await users.check(f"alice{ALICE}", "", HERE)
    assert not await users.check("alic", f"e{ALICE}", HERE)


async def test_wrong_passwords_do_not_drive_out_right_ones(file: Path, hashing: Hashing) -> None:
    users = await opened(file, checking=Checking(hashing, wrong_limit=4))
    assert await users.check("alice", ALICE, HERE)
    for number in range(10):
        assert not await users.check("alice", f"wrong {number}", HERE)
    assert await users.check("alice", ALICE, HERE)
    assert hashing.begun == 11


async def test_unknown_users_are_hashed_for_at_a_cost_of_known_ones(file: Path, hashing: Hashing) -> None:
    users = await opened(
        file, f"alice:{hashed(ALICE, cost=5)}", f"bob:{hashed(BOB, cost=6)}", checking=Checking(hashing)
    )
    for name in "abcdefghijklmnopqrstuvwxyz":
        assert not await users.check(name, "x" * 80, HERE)
    assert {value[4:6] for value in hashing.hashes} == {b"05", b"06"}
    assert {len(password) for password in hashing.passwords} == {72}
    again = [value for value in hashing.hashes if value == hashing.hashes[0]]
    assert not await users.check("a", "another", HERE)
    assert hashing.hashes[-1] == again[0]  # one name always costs the same


async def test_a_user_that_is_not_there_is_refused_whatever_the_hash_says(file: Path) -> None:
    users = await opened(file, checking=Checking(lambda *_: True))
    assert not await users.check("nobody", "x", HERE)
    assert not await users.check("alice", "x" * 73, HERE)
    assert await users.check("alice", "x", HERE)


async def test_no_password_is_hashed_in_the_event_loop(users: Htpasswd, hashing: Hashing) -> None:
    assert await users.check("alice", ALICE, HERE)
    assert threading.main_thread() not in hashing.threads


async def test_a_flood_takes_no_more_than_its_threads(users: Htpasswd, hashing: Hashing) -> None:
    hashing.open.clear()
    async with asyncio.TaskGroup() as group:
        flood = [group.create_task(users.check("alice", f"wrong {number}", HERE)) for number in range(20)]
        await hashing.has_begun()  # which takes a thread: there are some left
        hashing.open.set()
    assert not any(task.result() for task in flood)
    assert hashing.most == CHECKS_AT_ONCE


async def test_a_client_that_leaves_gives_its_turn_back_only_when_its_thread_is_done(
    users: Htpasswd, hashing: Hashing
) -> None:
    hashing.open.clear()
    for number in range(CHECKS_AT_ONCE):
        leaving = asyncio.create_task(users.check("alice", f"wrong {number}", HERE))  # noqa: TID251 - cancelled below
        await hashing.has_begun(number + 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
    async with asyncio.TaskGroup() as group:
        right = group.create_task(users.check("alice", ALICE, HERE))
        for _ in range(10):
            await asyncio.to_thread(str)  # whatever else was given to the threads has begun by then
        assert hashing.begun == CHECKS_AT_ONCE
        hashing.open.set()
    assert right.result()
    assert hashing.most == CHECKS_AT_ONCE


async def test_many_with_the_same_password_are_checked_once_for_each_thread(users: Htpasswd, hashing: Hashing) -> None:
    verdicts = await asyncio.gather(*(users.check("alice", ALICE, HERE) for _ in range(50)))
    assert verdicts == [True] * 50
    assert hashing.begun <= CHECKS_AT_ONCE


async def test_a_check_that_waits_too_long_is_refused_as_not_checked(file: Path, hashing: Hashing) -> None:
    users = await opened(file, checking=Checking(hashing, wait_seconds=0.05))
    hashing.open.clear()
    async with asyncio.TaskGroup() as group:
        for number in range(CHECKS_AT_ONCE):
            group.create_task(users.check("alice", f"wrong {number}", HERE))
        await hashing.has_begun()
        with pytest.raises(TooManyChecks, match="not checked within"):
            await users.check("alice", ALICE, HERE)
        hashing.open.set()
    assert await users.check("alice", ALICE, HERE)


async def test_no_more_than_so_many_checks_wait(file: Path, hashing: Hashing) -> None:
    users = await opened(file, checking=Checking(hashing, waiting_limit=3))
    assert await users.check("bob", BOB, HERE)
    hashing.open.clear()
    async with asyncio.TaskGroup() as group:
        for number in range(CHECKS_AT_ONCE):
            group.create_task(users.check("alice", f"wrong {number}", HERE))
        await hashing.has_begun(1 + CHECKS_AT_ONCE)
        waiting = [group.create_task(users.check("alice", f"waits {number}", HERE)) for number in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyChecks):
            await users.check("alice", ALICE, HERE)
        assert await users.check("bob", BOB, HERE)  # who is known to be right does not wait
        hashing.open.set()
    assert not any(task.result() for task in waiting)
    assert await users.check("alice", ALICE, HERE)


async def test_addresses_that_wait_take_turns(users: Htpasswd, hashing: Hashing) -> None:
    hashing.open.clear()
    async with asyncio.TaskGroup() as group:
        flood = [group.create_task(users.check("alice", f"wrong {number}", HERE)) for number in range(40)]
        await hashing.has_begun()
        right = group.create_task(users.check("alice", ALICE, THERE))
        for _ in range(10):
            await asyncio.to_thread(str)
        hashing.open.set()
        assert await right
        assert hashing.passwords.index(ALICE.encode()) <= 2 * CHECKS_AT_ONCE
    assert not any(task.result() for task in flood)


async def test_failed_logins_are_those_of_an_address_and_a_name(users: Htpasswd, hashing: Hashing) -> None:
    for number in range(3):
        assert not await users.check("alice", f"wrong {number}", HERE)
    hashing.open.clear()
    begun = hashing.begun
    async with asyncio.TaskGroup() as group:
        for number in range(3, 3 + CHECKS_AT_ONCE):
            group.create_task(users.check("carl", f"wrong {number}", HERE))
        await hashing.has_begun(begun + CHECKS_AT_ONCE)
        for number in range(40):
            group.create_task(users.check("alice", f"guess {number}", HERE))
        await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.to_thread(str)
        bob = group.create_task(users.check("bob", BOB, HERE))
        for _ in range(10):
            await asyncio.to_thread(str)
        hashing.open.set()
        assert await bob
        assert hashing.passwords.index(BOB.encode()) <= begun + 2 * CHECKS_AT_ONCE


async def test_a_new_file_is_taken_up_and_old_verdicts_are_removed(
    users: Htpasswd, file: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    assert await users.check("alice", ALICE, HERE)
    assert not await users.check("dora", "new", HERE)
    write(file, f"dora:{hashed('new')}\n")
    assert await users.check("alice", ALICE, HERE)  # it was looked at a moment ago
    with caplog.at_level(logging.INFO):
        assert not await later(users, clock, "alice", ALICE)
    assert await users.check("dora", "new", HERE)
    assert "was read again: users: 1" in caplog.text


@pytest.fixture
def link(tmp_path: Path, file: Path) -> Path:
    path = tmp_path / "link"
    path.symlink_to(file)
    return path


def lead_elsewhere(link: Path) -> None:
    """Let the link lead to another file of the same size and age, in one step."""
    other, replacement = link.with_name("other"), link.with_name("replacement")
    other.write_text(link.read_text().replace("alice", "dora."))
    os.utime(other, ns=(0, link.stat().st_mtime_ns))
    replacement.symlink_to(other)
    replacement.rename(link)


async def test_a_link_to_another_file_is_a_change(link: Path, clock: Clock) -> None:
    users = await asyncio.to_thread(Htpasswd.open, link, clock)
    assert await users.check("alice", ALICE, HERE)
    lead_elsewhere(link)
    assert not await later(users, clock, "alice", ALICE)
    assert await users.check("dora.", ALICE, HERE)


@pytest.mark.parametrize("emptied", ["", "alice:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=\n", None])
async def test_a_file_that_names_nobody_lets_nobody_in_and_is_reported_once(
    users: Htpasswd, file: Path, clock: Clock, content: str, emptied: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert await users.check("alice", ALICE, HERE)
    os.unlink(file) if emptied is None else write(file, emptied)  # noqa: PTH108 - beside the call that writes
    for _ in range(3):
        assert not await later(users, clock, "alice", ALICE)
        assert not await users.check("nobody", ALICE, HERE)
    assert caplog.text.count("password authentication fails for all clients") == 1
    assert str(file) in caplog.text
    assert "VBPuJHI7" not in caplog.text
    write(file, content)
    assert await later(users, clock, "alice", ALICE)


async def test_a_check_that_began_before_a_change_leaves_no_verdict_behind(
    users: Htpasswd, file: Path, clock: Clock, hashing: Hashing
) -> None:
    hashing.open.clear()
    async with asyncio.TaskGroup() as group:
        old = group.create_task(users.check("alice", ALICE, HERE))
        await hashing.has_begun(1)
        write(file, f"alice:{hashed('new')}\n")
        clock.now += LOOK_SECONDS
        new = group.create_task(users.check("alice", "new", HERE))
        await hashing.has_begun()
        hashing.open.set()
    assert (old.result(), new.result()) == (True, True)
    assert not await users.check("alice", ALICE, HERE)
