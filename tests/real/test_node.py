"""`scope-proxy node` against a real containerd: pulls go through the proxy at once, and the node is left as it was."""

import contextlib
import json
import random
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.real.containerd import Node
from tests.real.cri import CriError
from tests.real.hosts import write_server
from tests.real.images import PROJECT, named
from tests.real.processes import START_TIMEOUT, Outcome, Process, free_port, run
from tests.real.proxy_process import PROGRAM, PROJECT_ROOT
from tests.real.registry import Registry, open_registry
from tests.real.through_proxy import MINI, RULES, SCOPES, StartProxy, hosts, registries
from tests.real.token_server import TokenServer
from tests.unit.nodes.support import snapshot

MULTI = f"{PROJECT}/multi-arch:1"
DEAD = "http://127.0.0.1:1"
ROUNDS = 6
NOTHING_FOR = 0.2  # seconds between two looks of a watching configurator


@pytest.fixture
def public(store: Path) -> Iterator[Registry]:
    """A registry that everybody may pull from, as Docker Hub."""
    with open_registry(store) as registry:
        yield registry


class Configurator:
    """`scope-proxy node` with one configuration and one tree."""

    def __init__(self, directory: Path, node: Node, proxy: str, config: Mapping[str, object]) -> None:
        self.tree = node.certs_d
        self.config = directory / "node-config.yaml"
        self.config.write_text(json.dumps({"version": 1, **config}))
        self._place = ("--certs-dir", str(self.tree))
        self._all = ("--config", str(self.config), "--proxy", proxy, *self._place)

    def apply(self, *more: str) -> Outcome:
        return run([*PROGRAM, "node", "apply", *self._all, *more])

    def status(self) -> Outcome:
        return run([*PROGRAM, "node", "status", *self._all])

    def remove(self) -> Outcome:
        return run([*PROGRAM, "node", "remove", *self._place])

    @contextlib.contextmanager
    def watching(self, log: Path) -> Iterator[Process]:
        command = [*PROGRAM, "node", "apply", *self._all, "--watch", str(NOTHING_FOR)]
        process = Process(command, log=log, cwd=PROJECT_ROOT)
        try:
            yield process
        finally:
            process.stop()


def foreign(node: Node) -> None:
    """What an operator has in the tree: another registry, and a note."""
    write_server(node.certs_d, "quay.io", DEAD)
    (node.certs_d / "README").write_text("ours since 2019\n")


def test_pulls_go_through_the_proxy_at_once_and_the_node_is_left_as_it_was(
    node: Node, registry: Registry, public: Registry, tokens: TokenServer, start_proxy: StartProxy, tmp_path: Path
) -> None:
    tokens.anonymous = False
    foreign(node)
    before = snapshot(node.certs_d)
    with pytest.raises(CriError):
        node.cri.pull(MINI)
    settings = {"registries": {**registries(registry.url), public.address: {}}, "hosts": hosts(registry, tokens)}
    proxy = start_proxy(settings["registries"], settings["hosts"])
    configurator = Configurator(tmp_path, node, proxy.url, settings)
    assert configurator.status().status == 1

    configurator.apply("--wait", "30").checked()
    assert configurator.status().status == 0
    for image in SCOPES:
        node.cri.pull(image)
    assert {request.scopes for request in tokens.requests} == {(scope,) for scope in SCOPES.values()}

    proxy.process.stop()
    node.cri.pull(f"{public.address}/{MULTI}")
    node.assert_complete(f"{public.address}/{MULTI}", *named(MULTI).files)
    node.cri.remove(MINI)
    with pytest.raises(CriError, match=proxy.address):  # no request has the name before the rewrite
        node.cri.pull(MINI)

    configurator.remove().checked()
    assert snapshot(node.certs_d) == before


def test_files_that_are_not_ours_stay_and_are_reported(node: Node, tmp_path: Path) -> None:
    foreign(node)
    before = snapshot(node.certs_d)
    configurator = Configurator(tmp_path, node, DEAD, {"registries": {"quay.io": {}, "docker.io": {}}})
    applied = configurator.apply()
    assert applied.status == 1
    assert "unmanaged   quay.io: hosts.toml is not managed" in applied.output
    assert "written     docker.io" in applied.output
    configurator.remove().checked()
    assert snapshot(node.certs_d) == before


def test_a_pull_that_fails_asks_the_proxy_once(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, tmp_path: Path
) -> None:
    settings = {"registries": registries(registry.url), "hosts": hosts(registry, tokens)}
    proxy = start_proxy(settings["registries"], settings["hosts"])
    Configurator(tmp_path, node, proxy.url, settings).apply().checked()
    with pytest.raises(CriError, match="not found"):
        node.cri.pull("cp.icr.io/cp/se-data-center-edge/mini-test:missing")
    proxy.process.stop()  # a request's line is written behind its answer
    lines = [line for line in proxy.log().splitlines() if "proxy.access" in line and "/manifests/missing" in line]
    assert len(lines) == 1, lines


def test_the_node_is_not_pointed_at_somebody_else(node: Node, public: Registry, tmp_path: Path) -> None:
    configurator = Configurator(tmp_path, node, public.url, {"registries": {"docker.io": {}}})
    applied = configurator.apply("--wait", "0.1")
    assert applied.status == 1
    assert "another server than scope-proxy" in applied.errors
    assert snapshot(node.certs_d) == {}


def test_the_registry_of_our_own_image_keeps_a_way_without_the_proxy(
    node: Node, public: Registry, tmp_path: Path
) -> None:
    rule = {"pattern": "^(.*)$", "replacement": "local/$1"}
    settings = {"registries": {"*": {"endpoints": [DEAD], "rewrites": [rule]}}}
    configurator = Configurator(tmp_path, node, DEAD, settings)
    configurator.apply().checked()
    image = f"{public.address}/{MULTI}"
    with pytest.raises(CriError):
        node.cri.pull(image)
    configurator.apply("--image-registry", public.address).checked()
    node.cri.pull(image)
    node.assert_complete(image, *named(MULTI).files)


def test_a_watching_configurator_puts_back_what_k3s_clears_away(node: Node, tmp_path: Path) -> None:
    names = list(RULES)
    configurator = Configurator(tmp_path, node, DEAD, {"registries": {name: {} for name in names}})
    files = [node.certs_d / name / "hosts.toml" for name in names]
    with configurator.watching(tmp_path / "log") as process:
        process.wait_ready(lambda: all(file.is_file() for file in files))
        for file in files:
            file.unlink()
            file.parent.rmdir()
        process.wait_ready(lambda: all(file.is_file() for file in files))
        configurator.config.write_text("version: 1\nregistries: {wrong\n")
        process.wait_ready(lambda: "the changed configuration is not used" in process.log())
        configurator.config.write_text(json.dumps({"version": 1, "registries": {"ghcr.io": {}}}))
        process.wait_ready(lambda: not any(file.exists() for file in files))
        process.send(signal.SIGTERM)
        assert process.wait(START_TIMEOUT) == 0
    assert sorted(snapshot(node.certs_d)) == ["ghcr.io", "ghcr.io/hosts.toml"]


@pytest.mark.slow
def test_killed_at_any_time_it_leaves_no_half_of_a_file(node: Node, tmp_path: Path) -> None:
    foreign(node)
    before = snapshot(node.certs_d)
    many: dict[str, object] = {"registries": {f"registry-{number}.example.com": {} for number in range(200)}}
    first = Configurator(tmp_path, node, f"http://127.0.0.1:{free_port()}", many)
    other = Configurator(tmp_path, node, f"http://127.0.0.1:{free_port()}", many)
    first.apply().checked()
    whole = {path.read_bytes() for path in node.certs_d.glob("registry-*/hosts.toml")}
    other.apply().checked()
    whole |= {path.read_bytes() for path in node.certs_d.glob("registry-*/hosts.toml")}

    chance = random.Random(6)  # noqa: S311 - when to kill
    for number in range(ROUNDS):
        kill_while_writing(first if number % 2 == 0 else other, tmp_path / "log", chance.uniform(0, 0.3))
        found = [path.read_bytes() for path in node.certs_d.glob("registry-*/hosts.toml")]
        assert len(found) == 200
        assert set(found) <= whole
    first.remove().checked()
    assert snapshot(node.certs_d) == before


def kill_while_writing(configurator: Configurator, log: Path, after: float) -> None:
    """Kill it so many seconds after its first change of the tree."""
    first = configurator.tree / "registry-0.example.com" / "hosts.toml"
    was = first.read_bytes()
    with configurator.watching(log) as process:
        process.wait_ready(lambda: first.read_bytes() != was)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.send(signal.SIGKILL)
        assert process.wait(START_TIMEOUT) == -signal.SIGKILL
