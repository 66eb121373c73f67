"""Killed at any step, a change of a node's tree leaves no half of a file, and the next run puts everything right."""

import os
import shutil
import signal
import tomllib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from proxy.nodes.node_config import CA_FILE, HOSTS_FILE
from proxy.nodes.tree import State, Tree
from tests.unit.nodes.support import CA, PROXY, SECURE, hosts, snapshot

pytestmark = pytest.mark.slow

STEPS = ("open", "close", "mkdir", "chmod", "fchmod", "fsync", "rename", "unlink", "rmdir")
FEWER = "version: 1\nregistries: {docker.io: {}}\n"
Action = Callable[[Path], object]


def plain(path: Path) -> object:
    return Tree(path, "default").apply(hosts(PROXY))


def secure(path: Path) -> object:
    return Tree(path, "default", CA).apply(hosts(SECURE))


def fewer(path: Path) -> object:
    return Tree(path, "default").apply(hosts(PROXY, text=FEWER))


def remove(path: Path) -> object:
    return Tree(path, "default").remove()


def nothing(path: Path) -> object:
    return path


def dies(action: Action, path: Path, step: int) -> bool:
    """Run in a child that is killed before its step number `step`; whether there was such a step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the threads of pytest-xdist
        child = os.fork()
    if child == 0:
        try:
            die_at(step)
            action(path)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def die_at(step: int) -> None:
    """Count the calls that change or sync files; kill this process before one of them."""
    left = [step]

    def counted(call: Callable[..., object], *arguments: object, **more: object) -> object:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return call(*arguments, **more)

    for name in STEPS:
        setattr(os, name, partial(counted, getattr(os, name)))


def assert_whole(path: Path, expected: list[dict[str, str]]) -> None:
    """Every file that containerd reads is one of those that were wanted, and names an authority only if it is there."""
    for file in path.glob(f"[!.]*/{HOSTS_FILE}"):
        text = file.read_text()
        assert text in [state.get(str(file.relative_to(path))) for state in expected]
        if CA_FILE in tomllib.loads(text).get("host", {}).get(SECURE, {}).get("ca", ""):
            assert (file.parent / CA_FILE).read_text().endswith(CA)


def texts(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): file.read_text() for file in path.glob(f"*/{HOSTS_FILE}")}


@pytest.mark.parametrize("has_tree", [True, False], ids=["tree", "no-tree"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(nothing, plain), (plain, secure), (secure, plain), (plain, fewer), (secure, remove), (plain, remove)],
    ids=["write", "add-ca", "drop-ca", "drop-registries", "remove-secure", "remove"],
)
def test_killed_at_each_step(tmp_path: Path, first: Action, second: Action, has_tree: bool) -> None:
    origin, start, path = (tmp_path / name for name in ("origin", "start", "now"))
    origin.mkdir()
    if has_tree:
        for name, text in (("quay.io/hosts.toml", 'server = "https://mirror.example.com"\n'), ("icr.io/README", "x\n")):
            (origin / "certs.d" / name).parent.mkdir(parents=True)
            (origin / "certs.d" / name).write_text(text)
    before = snapshot(origin)
    shutil.copytree(origin, start)
    first(start / "certs.d")
    shutil.copytree(start, path)
    second(path / "certs.d")
    expected = [texts(start / "certs.d"), texts(path / "certs.d")]

    step = 0
    while True:
        shutil.rmtree(path)
        shutil.copytree(start, path)
        if not dies(second, path / "certs.d", step):
            break
        assert_whole(path / "certs.d", expected)
        plain(path / "certs.d")
        assert {entry.state for entry in Tree(path / "certs.d", "default").compare(hosts())} == {State.IN_SYNC}
        remove(path / "certs.d")
        assert snapshot(path) == before
        step += 1
    assert step > 10


def test_what_was_begun_is_cleaned_up_by_a_removal_too(tmp_path: Path) -> None:
    path = tmp_path / "certs.d"
    step = 0
    while dies(plain, path, step):
        remove(path)
        assert snapshot(tmp_path) == {}
        step += 1
    assert step > 10
