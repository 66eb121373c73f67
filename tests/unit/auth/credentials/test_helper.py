import asyncio
import contextlib
import json
import os
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.outward.credentials import CredentialError, HelperSource, _parse_output
from proxy.config.address import Origin
from proxy.oci.login import Login, LoginKind
from proxy.transport.singleflight import Background

ORIGIN = Origin.parse("https://r.example:8443")


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    made = Background()
    yield made
    await made.close()


@pytest.fixture
def source(background: Background) -> HelperSource:
    return HelperSource(background)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on the PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def script(programs: Path, text: str) -> None:
    """Let `docker-credential-test` be this shell script; it notes each start and its input."""
    path = programs / "docker-credential-test"
    path.write_text(f'#!/bin/sh\necho "$1 $(cat)" >> {shlex.quote(f"{programs}/log")}\n{text}\n')
    path.chmod(0o755)


def started(programs: Path) -> list[str]:
    return (programs / "log").read_text().splitlines()


def answer(username: str, secret: str) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': username, 'Secret': secret})}'"


@pytest.mark.parametrize(("username", "kind"), [("robot", LoginKind.PASSWORD), ("<token>", LoginKind.IDENTITY_TOKEN)])
async def test_a_helper_tells_a_login(source: HelperSource, programs: Path, username: str, kind: LoginKind) -> None:
    script(programs, answer(username, "s3cret"))
    (login,) = await source.logins("test", ORIGIN)
    assert login == Login("docker-credential-test for r.example:8443", kind, username, "s3cret")
    assert started(programs) == ["get r.example:8443"]


async def test_docker_hub_goes_by_its_old_name(source: HelperSource, programs: Path) -> None:
    script(programs, answer("robot", "s3cret"))
    await source.logins("test", Origin.parse("https://registry-1.docker.io"))
    assert started(programs) == ["get https://index.docker.io/v1/"]


async def test_all_who_ask_at_once_share_one_start_and_the_answer_is_kept(source: HelperSource, programs: Path) -> None:
    script(programs, answer("robot", "s3cret"))
    answers = await asyncio.gather(*(source.logins("test", ORIGIN) for _ in range(10)))
    answers.append(await source.logins("test", ORIGIN))
    assert len({login.identity for (login,) in answers}) == 1
    assert len(started(programs)) == 1
    await source.logins("test", Origin.parse("https://other.example"))
    assert len(started(programs)) == 2


async def test_a_host_that_the_helper_does_not_know_has_no_login(source: HelperSource, programs: Path) -> None:
    script(programs, "echo credentials not found in native keychain; exit 1")
    assert list(await source.logins("test", ORIGIN)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("echo s3cret; echo s3cret >&2; exit 1", "failed for r.example:8443 with exit status 1"),
        ("kill -9 $$", "with exit status -9"),
        ("echo s3cret", "gave no Username and Secret"),
        ("echo '[\"s3cret\"]'", "gave no Username and Secret"),
        ("true", "gave no Username and Secret"),
        ('echo \'{"Username": "s3cret"}\'', "gave no Username and Secret"),
        (answer("robot", ""), "gave no Username and Secret"),
        ('echo \'{"Username": 1, "Secret": 2}\'', "gave no Username and Secret"),
        ('echo \'{"Username": "robot", "Secret": "\\ud800"}\'', "gave no Username and Secret"),
        ("head -c 1000000 /dev/zero", "more than 65536 bytes"),
        ("yes", "more than 65536 bytes"),
    ],
)
async def test_trouble_is_an_error_without_the_secret(
    source: HelperSource, programs: Path, text: str, message: str
) -> None:
    script(programs, text)
    with pytest.raises(CredentialError, match=message) as caught:
        await source.logins("test", ORIGIN)
    assert "s3cret" not in str(caught.value)


async def test_a_helper_that_does_not_exist_is_named(source: HelperSource) -> None:
    with pytest.raises(CredentialError, match="cannot run docker-credential-missing: No such file"):
        await source.logins("missing", ORIGIN)


async def test_a_failure_is_not_kept(source: HelperSource, programs: Path) -> None:
    script(programs, "exit 1")
    with pytest.raises(CredentialError):
        await source.logins("test", ORIGIN)
    script(programs, answer("robot", "s3cret"))
    assert len(await source.logins("test", ORIGIN)) == 1


HANGS = [
    "exec {0}",
    "{0} & echo $! > {1}; wait",
    "exec {0} >&-",
    "{0} & echo $! > {1}",
    "trap '' TERM; {0} & echo $! > {1}; wait",
]


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("text", HANGS)
async def test_a_helper_that_hangs_is_killed_with_all_that_it_started(
    background: Background, programs: Path, text: str
) -> None:
    source = HelperSource(background, timeout=0.5)
    pid = shlex.quote(f"{programs}/pid")
    script(programs, f"echo $$ > {pid}; {text.format('sleep 1000', pid)}")
    async with asyncio.timeout(20):
        with pytest.raises(CredentialError, match="did not respond within"):
            await source.logins("test", ORIGIN)
        while is_running(int((programs / "pid").read_text())):  # noqa: ASYNC110 - the kernel tells no one
            await asyncio.sleep(0.01)


async def _line(reader: int) -> bytes:
    """What the next write to a pipe brings."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(reader, came.set)
    try:
        await came.wait()
        return os.read(reader, 100)
    finally:
        loop.remove_reader(reader)


async def test_closing_the_application_kills_a_helper_that_runs(programs: Path) -> None:
    background = Background()
    running = programs / "running"
    os.mkfifo(running)
    script(programs, f"echo $$ > {shlex.quote(str(running))}; exec sleep 1000")
    reader = os.open(
        running, os.O_RDWR | os.O_NONBLOCK
    )  # waits for no writer: one that never comes would hold the test
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        waiter = group.create_task(HelperSource(background).logins("test", ORIGIN))
        pid = int(await _line(reader))
        await background.close()
    os.close(reader)
    assert waiter.cancelled()
    assert not is_running(pid)


@given(st.binary(max_size=60), st.integers(-20, 255))
def test_no_output_raises_anything_but_credential_error(output: bytes, status: int) -> None:
    with contextlib.suppress(CredentialError):
        assert _parse_output("docker-credential-test", "r.example", output, status) == ()
