"""Secrets planted everywhere, everything going wrong, logging at DEBUG: none stands in any sink.

Every test with the fixture `logs` looks through all lines before any redaction, and through the metrics; `NodeClient`
looks through every answer. What is here plants the secrets, and looks where those two do not.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from proxy.cli.main import main
from proxy.config.load import parse_config
from proxy.oci.login import Login, LoginKind
from proxy.testbed.images import Image
from proxy.transport.forward_proxy import ForwardProxies
from tests.fakes.canaries import IDENTITY_TOKEN, INBOUND, PASSWORD, Written, assert_no_secret, basic
from tests.fakes.changes import Body, Challenge, Change, Redirect, Reply, SetHeader, TokenFields
from tests.fakes.interrupts import BEFORE_HEADERS, Cut, Interrupt
from tests.fakes.matching import Match, on
from tests.fakes.proxy import LOGIN, NAME, REG, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry

pytestmark = pytest.mark.security

SECRET = "canary-of-the-upstream"
SIGNED = f"?X-Amz-Signature={SECRET}&token={SECRET}"
PULL = on().with_header("Authorization").where(lambda call: call.kind != "token")
ECHO = {"errors": [{"code": "DENIED", "message": f"Bearer {SECRET}", "detail": {"password": SECRET}}]}
FAULTS: dict[str, tuple[Match, tuple[Change | Interrupt, ...]]] = {
    "token refused": (on(kind="token"), (Reply(401, document=ECHO),)),
    "token forbidden": (on(kind="token"), (Reply(403, document=ECHO, headers={"X-Echo": SECRET}),)),
    "token server down": (on(kind="token"), (Reply(500, document=ECHO),)),
    "token server cut": (on(kind="token"), (Cut(BEFORE_HEADERS),)),
    "token no json": (on(kind="token"), (Reply(200, SECRET.encode()),)),
    "token of two words": (
        on(kind="token"),
        (TokenFields(put={"token": f"{SECRET} x", "access_token": f"{SECRET} x"}),),
    ),
    "token not text": (on(kind="token"), (TokenFields(put={"token": [SECRET], "access_token": {"x": SECRET}}),)),
    "token redirects": (on(kind="token"), (Redirect(f"https://evil.example/{SIGNED}"),)),
    "token redirects with a user": (on(kind="token"), (Redirect(f"https://robot:{SECRET}@evil.example/"),)),
    "registry refuses": (PULL, (Reply(401, document=ECHO),)),
    "registry forbids": (PULL, (Reply(403, document=ECHO),)),
    "registry says expired": (PULL, (Reply(400, document={"errors": [{"message": f"expired {SECRET}"}]}),)),
    "registry is down": (PULL, (Reply(503, document=ECHO, reason=f"no {SECRET}"),)),
    "registry breaks": (PULL, (Cut(0),)),
    "challenge tells": (PULL, (Challenge((f'Bearer realm="/token",error="{SECRET}",error_description="{SECRET}"',)),)),
    "realm elsewhere": (on(kind="manifest"), (Challenge((f'Bearer realm="https://evil.example/{SIGNED}"',)),)),
    "realm with a user": (on(kind="manifest"), (Challenge((f'Bearer realm="https://x:{SECRET}@evil.example/"',)),)),
    "service": (on(kind="manifest").times(1), (Challenge((f'Bearer realm="/token{SIGNED}",service="s"',)),)),
    "signed address refused": (PULL, (Redirect(f"http://169.254.169.254/{SIGNED}"),)),
    "signed address dead": (PULL, (Redirect(f"http://127.0.0.1:1/{SIGNED}"),)),
    "signed address malformed": (PULL, (Redirect(f"http://[127.0.0.1/{SIGNED}"),)),
    "signed address of a user": (PULL, (Redirect(f"http://robot:{SECRET}@127.0.0.1:1/"),)),
    "signed address ftp": (PULL, (Redirect(f"ftp://127.0.0.1/{SIGNED}"),)),
    "signed address loops": (PULL, (Redirect(lambda call: f"{call.path}{SIGNED}"),)),
    "manifest is a page": (PULL, (Body(f"<html>{SECRET}".encode()), SetHeader("Content-Type", "text/html"))),
    "manifest is other json": (PULL, (Body(f'{{"{SECRET}": 1}}'.encode()),)),
    "cookie": (PULL, (SetHeader("Set-Cookie", f"session={SECRET}"),)),
    "link": (PULL, (SetHeader("Link", f"</x{SIGNED}>; rel=next"),)),
    "digest": (PULL, (SetHeader("Docker-Content-Digest", SECRET),)),
}
LOGINS: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "get": (LOGIN, {"tokenMethod": "get"}),
    "post": (LOGIN, {"tokenMethod": "post"}),
    "identity": ({"identityToken": IDENTITY_TOKEN}, {}),
}
INBOUND_HEADERS = (
    ("Authorization", f"Basic {basic('robot', PASSWORD)}"),
    ("Authorization", f"Bearer {INBOUND}"),
    ("Cookie", f"session={INBOUND}"),
    ("User-Agent", "containerd/1.7"),
)


async def pull_everything(registry: ScriptedRegistry, image: Image, how: str) -> str:
    """Every kind of request through a proxy of its own; what its metrics say at the end."""
    login, host = LOGINS[how]
    async with started(settings([registry.url], login=login, host=host)) as proxy:
        await proxy.node.get(manifest(), *INBOUND_HEADERS[1:])
        await proxy.node.head(blob(layer_of(image)[0]), INBOUND_HEADERS[0])
        await proxy.node.get(f"/v2/{NAME}/tags/list?ns={REG}&token={INBOUND}")
        async with proxy.admin.opened("GET", "/metrics", ("Connection", "close")) as (reader, _):
            return (await reader.read(-1)).decode()


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_secret_stands_anywhere(registry: ScriptedRegistry, image: Image, logs: Written, fault: str) -> None:
    match, faults = FAULTS[fault]
    registry.script(match, *faults)
    how = list(LOGINS)[len(fault) % len(LOGINS)]
    page = await pull_everything(registry, image, how)
    assert "scope_proxy_upstream_requests_total" in page
    assert_no_secret(page, *logs.lines)


@pytest.mark.parametrize("how", LOGINS)
async def test_nor_where_all_goes_well(registry: ScriptedRegistry, image: Image, logs: Written, how: str) -> None:
    page = await pull_everything(registry, image, how)
    assert {entry.status for entry in registry.record.of("manifest") if entry.credential != "anonymous"} == {200}
    assert_no_secret(page, *logs.lines)


CONFIGURATION = f"""version: 1
registries: {{icr.io: {{endpoints: ['https://r.example.com']}}}}
hosts:
  r.example.com:
    credentials:
      - {{username: robot, password: {PASSWORD}, repositories: 'a/**'}}
      - {{identityToken: {IDENTITY_TOKEN}}}
"""
BROKEN = {
    "unknown key": "pasword",
    "two secrets": "passwordFile: /x, password",
    "bad host": "password: canary-1}}\n  'https://robot:canary-2@x.example/y': {credentials: {username: u, password",
}


def invoked(*arguments: str, **environment: str) -> str:
    """Everything that a command prints, and the exception that it ends with."""
    result = CliRunner().invoke(main, list(arguments), env=environment)
    return f"{result.output} {result.exception!r}"


@pytest.mark.parametrize("command", ["check", "check --effective", "check --strict", "explain icr.io/a/b:1"])
def test_no_command_shows_one(tmp_path: Path, command: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGURATION)
    name, *rest = command.split()
    output = invoked(name, "--config", str(file), *rest, HTTPS_PROXY=f"http://robot:{PASSWORD}@p.example:3128")
    assert "robot" in output or "icr.io" in output or "p.example" in output
    assert_no_secret(output)


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("command", ["check", "check --effective", "explain icr.io/a/b:1", "serve"])
def test_no_message_about_a_broken_file_shows_one(tmp_path: Path, command: str, kind: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGURATION.replace("password:", f"{BROKEN[kind]}:", 1))
    name, *rest = command.split()
    output = invoked(name, "--config", str(file), *rest)
    assert "SystemExit(2)" in output
    assert_no_secret(output)


@pytest.mark.parametrize("command", ["check", "check --effective", "explain icr.io/a/b:1"])
def test_nor_with_a_registries_yaml(tmp_path: Path, command: str) -> None:
    file = tmp_path / "registries.yaml"
    file.write_text(
        "mirrors: {icr.io: {endpoint: ['https://r.example.com']}}\n"
        "configs: {r.example.com: {auth: {username: robot, "
        f"password: {PASSWORD}, auth: {basic('robot', PASSWORD)}}}}}}}\n"
    )
    name, *rest = command.split()
    output = invoked(name, "--registries", str(file), *rest)
    assert "icr.io" in output or "r.example.com" in output
    assert_no_secret(output)


@pytest.mark.parametrize(
    "value",
    [
        lambda: parse_config(CONFIGURATION, "x.yaml").config,
        lambda: Login("robot", LoginKind.PASSWORD, "robot", PASSWORD),
        lambda: ForwardProxies.from_environment({"HTTPS_PROXY": f"http://robot:{PASSWORD}@p.example:1"}),
    ],
    ids=["configuration", "login", "forward proxy"],
)
def test_no_value_shows_one_when_it_is_printed(value: Callable[[], object]) -> None:
    made = value()
    assert_no_secret(repr(made), str(made), f"{made}")
