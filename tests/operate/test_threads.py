"""Where the system lets no thread start, the program says which of its causes it is, and what to do."""

import asyncio
import sys
from pathlib import Path

import pytest

from proxy.testbed.images import Image
from tests.fakes.proxy import NAME, REG, manifest
from tests.operate import seccomp
from tests.operate.program import Program
from tests.real.processes import Outcome, run
from tests.real.proxy_process import PROGRAM

pytestmark = pytest.mark.slow

COMMANDS = {
    "serve": "serve",
    "serve with workers": "serve",
    "doctor": "doctor",
    "cache": "cache stat",
    "prefetch": "cache prefetch docker.io/library/busybox:1",
    "demo": "demo",
}
SECONDS = "60"
"""For a command to end by itself; after that its status is 124."""
WITHOUT_THREADS = (
    "check",
    f"explain {REG}/{NAME}:1",
    "healthcheck",
    "node apply --proxy {proxy} --certs-dir {tree} --wait 5",
)
"""Commands of probes, people, and the chart's configurator."""


def refusing(errors: str, *command: str) -> tuple[str, ...]:
    """A command whose system calls fail with these errors, such as `clone3=EPERM`."""
    return (sys.executable, str(Path(seccomp.__file__)), errors, *command)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that every command can work with."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 1\nlisteners: [{address: '127.0.0.1:0'}]\nadmin: {address: '127.0.0.1:0'}\n"
        f"registries: {{docker.io: {{}}}}\ncache: {{path: {tmp_path / 'cache'}, reserveFree: 1Ki}}\n"
    )
    return file


def outcome(errors: str, name: str, config: Path) -> Outcome:
    """How a command ends where system calls fail with these errors; on a terminal some draw from a thread."""
    if name == "serve with workers":
        config.write_text(config.read_text() + "workers: 2\n")
    given = () if name == "demo" else ("--config", str(config))
    command = refusing(errors, *PROGRAM, *COMMANDS[name].split(), *given)
    return run(("timeout", SECONDS, *command), env={"FORCE_COLOR": "1"})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_seccomp_profile_that_refuses_clone3_is_named_with_what_to_do(name: str, config: Path) -> None:
    got = outcome("clone3=EPERM", name, config)
    assert (got.status, got.output, "Traceback" in got.errors) == (1, "", False), got.errors
    last = got.errors.splitlines()[-1]
    assert last.startswith("scope-proxy: cannot start a thread: the seccomp profile answers clone3 with EPERM"), last
    assert "containerd before 1.4.10 (1.5: before 1.5.6)" in last
    assert "podSecurityContext.seccompProfile.type: Unconfined" in last
    assert "pod-security.kubernetes.io/enforce: privileged" in last


@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_that_is_reached_is_not_taken_for_a_seccomp_profile(name: str, config: Path) -> None:
    got = outcome("clone3=EAGAIN", name, config)
    assert (got.status, got.output, "Traceback" in got.errors) == (1, "", False), got.errors
    last = got.errors.splitlines()[-1]
    assert "a limit on processes and threads" in last
    assert "podPidsLimit" in last
    assert "seccomp" not in last


def test_a_profile_that_forbids_threads_altogether_is_not_taken_for_an_old_one(config: Path) -> None:
    got = outcome("clone3=ENOSYS,clone=EPERM", "serve", config)
    assert got.status == 1
    assert "the system answers clone with EPERM" in got.errors
    assert "containerd" not in got.errors


async def test_a_profile_that_answers_enosys_is_served_under(program: Program, image: Image) -> None:
    await program.start(program=refusing("clone3=ENOSYS", *PROGRAM))
    got = await program.node.get(manifest())
    assert (got.status, got.sha256) == (200, image.digest)


@pytest.mark.parametrize("command", WITHOUT_THREADS)
async def test_commands_that_start_no_thread_work_under_any_profile(program: Program, command: str) -> None:
    await program.start()
    given = command.format(proxy=f"http://{program.address}", tree=program.config.parent / "certs.d").split()
    got = await asyncio.to_thread(run, refusing("clone3=EPERM", *PROGRAM, *given, "--config", str(program.config)))
    assert (got.status, "thread" in got.errors) == (0, False), got.errors
