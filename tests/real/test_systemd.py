"""docs/install.md, "One box with systemd": its commands are run as they stand, on a machine that systemd runs."""

import json
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxy.cli.options import EXIT_CONFIG
from tests.docs.pages import section
from tests.real.images import PROJECT
from tests.real.machine import Machine, booted
from tests.real.processes import free_port
from tests.real.programs import require, require_tools
from tests.real.proxy_process import PROJECT_ROOT
from tests.real.registry import Registry
from tests.real.token_server import PASSWORD, TokenServer
from tests.tools.catalogue import MACHINE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UNIT = "scope-proxy"
CONFIG = "/etc/scope-proxy/config.yaml"
CACHE = "/var/cache/scope-proxy"
PASSWORD_FILE = "/etc/scope-proxy/secrets/artifactory/password"
PROGRAM = "/opt/pipx/venvs/scope-proxy/bin/scope-proxy"
LINK = "/usr/local/bin/scope-proxy"
OLD, NEW = "/checkout", "/newer-checkout"
NEWER = "9.9.9"
EDITOR = """#!/usr/bin/python3
import json, pathlib, sys
file = pathlib.Path(sys.argv[1])
text = file.read_text()
for before, after in json.loads({changes!r}):
    assert before in text, before
    text = text.replace(before, after)
file.write_text(text)
"""
"""What an operator does in an editor."""
CONTAINERD = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
PULL = "/v2/cp/se-data-center-edge/mini-test/manifests/1?ns=cp.icr.io"
TRACING = "tracing: {endpoint: 'http://127.0.0.1:4318/v1/traces'}"
"""A section that needs the extra, which the documented steps do not install."""
FETCH_SECONDS = 30.0
FETCH_LIMIT = 1 << 20
WAIT = "timeout 60 sh -c 'until scope-proxy healthcheck; do sleep 1; done'"


def commands(heading: str = "") -> list[str]:
    """The blocks of commands of a part of the page: those before its first subheading, or those under one."""
    first, *parts = re.split(r"^### ", section("docs/install.md", "One box with systemd"), flags=re.MULTILINE)
    text = next((part for part in parts if part.startswith(f"{heading}\n")), "") if heading else first
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks, f"the section has no commands under {heading!r}"
    return blocks


@dataclass(frozen=True, slots=True)
class Box:
    """The machine of the page."""

    machine: Machine
    address: str
    admin: str
    printed: str
    """What the steps that install it have printed."""

    def serving_version(self) -> str:
        """The version of the process that serves."""
        page = fetch(f"http://{self.admin}/metrics")
        version: str
        [version] = re.findall(r'^scope_proxy_build_info\{.*version="([^"]+)"', page, re.MULTILINE)
        return version

    def programs(self) -> set[str]:
        """Every installed scope-proxy."""
        return set(self.machine.run("find / -xdev -path '*/bin/scope-proxy'").checked().split())

    def states(self, *names: str) -> list[str]:
        """Properties of the service."""
        return [self.machine.property(UNIT, name) for name in names]


def follow(machine: Machine, heading: str = "", checkout: str = OLD) -> str:
    """Follow the steps of a part, each block in a shell of its own, and type the password where one reads it."""
    done = [machine.run(block, directory=checkout, typed=f"{PASSWORD}\n") for block in commands(heading)]
    return "".join(outcome.checked() + outcome.errors for outcome in done)


def fetch(url: str) -> str:
    """The body of a page."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=FETCH_SECONDS) as answer:
        return str(answer.read(FETCH_LIMIT).decode())


@pytest.fixture(scope="module")
def box(_registry: Registry, _token_server: TokenServer) -> Iterator[Box]:
    """A machine on which the documented steps were followed; every test leaves it so."""
    require("runc", root=True)
    require_tools(MACHINE)
    address, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    changes = [
        ("version: 1\n", f"version: 1\nlisteners: [{{address: '{address}'}}]\nadmin: {{address: '{admin}'}}\n"),
        ("https://docker-na-public.artifactory.example.com", _registry.url),
        ("docker-na-public.artifactory.example.com:", f"'{_registry.address}':"),
        ("# realms: [https://artifactory.example.com]", f"realms: ['{_token_server.url}']"),
    ]
    with booted() as machine:
        _checkout(machine, OLD)
        _checkout(machine, NEW, NEWER)
        editor = machine.root / "usr/local/bin/editor"
        editor.write_text(EDITOR.format(changes=json.dumps(changes)))
        editor.chmod(0o755)
        (machine.root / "etc/containerd").mkdir()
        (machine.root / "etc/containerd/config.toml").write_text(CONTAINERD)
        yield Box(machine, address, admin, follow(machine))


def _checkout(machine: Machine, place: str, version: str = "") -> None:
    """Put a checkout into the machine, as one of another version if that is given."""
    directory = machine.root / place.strip("/")
    for name in ("proxy", "config"):
        shutil.copytree(PROJECT_ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT_ROOT / name, directory)
    if version:
        file = directory / "pyproject.toml"
        file.write_text(re.sub(r'^version = ".*"$', f'version = "{version}"', file.read_text(), flags=re.MULTILINE))


def version_of(checkout: str, box: Box) -> str:
    """The version of a checkout."""
    text = (box.machine.root / checkout.strip("/") / "pyproject.toml").read_text()
    version: str
    [version] = re.findall(r'^version = "(.*)"$', text, re.MULTILINE)
    return version


def test_the_documented_steps_end_with_a_service_that_pulls_with_the_password(box: Box, tokens: TokenServer) -> None:
    assert "ok, 0 warning(s)" in box.printed  # the service's user can read the password's file
    tokens.anonymous = False
    assert json.loads(fetch(f"http://{box.address}{PULL}"))["schemaVersion"] == 2
    assert [request.scopes for request in tokens.requests] == [(f"repository:{PROJECT}/mini-test:pull",)]
    assert box.programs() == {PROGRAM, LINK}
    assert box.serving_version() == version_of(OLD, box)
    assert box.states("ActiveState", "UnitFileState", "User") == ["active", "enabled", "scope-proxy"]
    owners = box.machine.run(f"stat --format %U:%G:%a /etc/scope-proxy {CONFIG} {CACHE} {CACHE}/blobs").checked()
    assert owners.split() == ["root:scope-proxy:750", "root:scope-proxy:640", *2 * ["scope-proxy:scope-proxy:700"]]
    assert (box.machine.root / "etc/containerd/certs.d/cp.icr.io/hosts.toml").is_file()


def test_a_configuration_that_cannot_be_used_is_refused_by_a_reload_and_not_started_again_and_again(box: Box) -> None:
    machine = box.machine
    [before] = box.states("MainPID")
    machine.run(f"cp --preserve {CONFIG} /root/config.yaml; echo {TRACING!r} >> {CONFIG}").checked()
    number = len((machine.root / CONFIG.strip("/")).read_text().splitlines())
    complaint = f"{CONFIG}:{number}:10: tracing: needs OpenTelemetry: install scope-proxy[otel]"
    check = machine.run("runuser -u scope-proxy -- scope-proxy check")
    assert (check.status, complaint in check.errors) == (EXIT_CONFIG, True), check.errors

    assert machine.run(f"systemctl reload {UNIT}").status != 0
    assert box.states("ActiveState", "MainPID") == ["active", before]
    assert box.serving_version() == version_of(OLD, box)

    machine.run(f"systemctl restart {UNIT}")
    machine.wait(lambda: box.states("SubState")[0] in {"failed", "auto-restart"}, UNIT)
    assert box.states("SubState", "Result", "ExecMainStatus", "NRestarts") == [
        "failed",
        "exit-code",
        str(EXIT_CONFIG),
        "0",
    ]
    assert complaint in machine.journal(UNIT)

    machine.run(f"mv /root/config.yaml {CONFIG}; systemctl restart {UNIT}; {WAIT}; systemctl reload {UNIT}").checked()


def test_a_check_as_the_services_user_finds_what_the_service_cannot_read_or_write(box: Box) -> None:
    changed, user = f"{CACHE} {PASSWORD_FILE} {CONFIG}.users", "runuser -u scope-proxy -- scope-proxy check"
    clients = f"clients: {{auth: basic, htpasswdFile: {CONFIG}.users}}"
    edit = f"s#'{box.address}'}}#'{box.address}', {clients}}}#"
    box.machine.run(
        f"cp --preserve {CONFIG} /root/config.yaml; touch {CONFIG}.users; chown root:root {changed}; "
        f"chmod 0600 {PASSWORD_FILE} {CONFIG}.users; sed -i {shlex.quote(edit)} {CONFIG}"
    ).checked()
    try:
        check = box.machine.run(user)
    finally:
        box.machine.run(
            f"mv /root/config.yaml {CONFIG}; chown scope-proxy:scope-proxy {CACHE}; rm {CONFIG}.users; "
            f"chown root:scope-proxy {PASSWORD_FILE}; chmod 0640 {PASSWORD_FILE}"
        ).checked()
    assert check.status == EXIT_CONFIG
    assert f"htpasswdFile: cannot read {CONFIG}.users: Permission denied" in check.errors
    assert f"warning: passwordFile: {PASSWORD_FILE}: permission denied" in check.errors
    assert re.search(rf"warning: .* {CACHE}: ", check.errors)
    assert "ok, 0 warning(s)" in box.machine.run(user).checked()


def test_a_process_that_is_killed_is_started_again_however_often(box: Box) -> None:
    machine = box.machine
    for _ in range(2):
        [before] = box.states("MainPID")
        machine.run(f"systemctl kill --kill-who=main --signal=KILL {UNIT}").checked()
        machine.wait(lambda before=before: box.states("MainPID")[0] not in {before, "0"}, UNIT)  # type: ignore[misc]
        machine.run(WAIT).checked()
    assert box.states("StartLimitIntervalUSec") == ["0"]


def test_an_upgrade_and_the_way_back_replace_the_version_that_runs(box: Box) -> None:
    for checkout in (NEW, OLD):
        version = version_of(checkout, box)
        assert f"version {version}\n" in follow(box.machine, "Upgrade the unit", checkout)
        assert box.serving_version() == version
        assert box.programs() == {PROGRAM, LINK}
    assert version_of(NEW, box) != version_of(OLD, box)


def test_an_uninstalled_service_leaves_nothing_and_can_be_installed_again(box: Box) -> None:
    follow(box.machine, "Uninstall the unit")
    assert box.programs() == set()
    left = (f"/etc/systemd/system/{UNIT}.service", "/etc/scope-proxy", CACHE, "/etc/containerd/certs.d/cp.icr.io")
    assert [path for path in left if (box.machine.root / path.strip("/")).exists()] == []
    assert box.states("LoadState", "MainPID") == ["not-found", "0"]
    assert "scope-proxy" not in (box.machine.root / "etc/passwd").read_text()
    assert "scope-proxy" not in (box.machine.root / "etc/group").read_text()
    follow(box.machine)
    assert box.serving_version() == version_of(OLD, box)
