"""What clients put into the access log: no line of their own, no escape sequence, no secret, no endless text."""

import json
from pathlib import Path

import pytest

from tests.fakes.access_log import logging_to
from tests.fakes.canaries import OTHER_PASSWORD, PASSWORD, assert_no_secret, basic
from tests.fakes.client import NodeClient
from tests.fakes.proxy import LOGIN, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import Header, scene
from tests.security.raw import sent_raw
from tests.security.test_clients import guarded, write_users

pytestmark = pytest.mark.security

FORGED = '{"name": "proxy.access", "decision": "allowed"} operation=forged'
MARKS = {
    "lf": b"\n",
    "cr": b"\r",
    "crlf": b"\r\n",
    "colour": b"\x1b[2J\x1b[31m",
    "c1": "\x9b31m".encode(),
    "bidi": "\u202e".encode(),
    "separator": "\u2028".encode(),
    "raw": b"\xff\xfe",
    "nul": b"\x00",
}
LIMITS = {"message": 1200, "agent": 200}


def as_path(mark: bytes) -> bytes:
    """The bytes in the encoding of a path."""
    return "".join(f"%{byte:02x}" for byte in mark).encode()


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize("mark", MARKS)
async def test_a_client_adds_no_line_and_no_escape_sequence(registry: ScriptedRegistry, mark: str, style: str) -> None:
    evil = MARKS[mark] + FORGED.replace(" ", "").encode()
    name, agent = as_path(MARKS[mark]) + as_path(FORGED.encode()), evil
    heads = (
        b"GET /v2/a%s/manifests/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % name,
        b"GET /v2/a/manifests/1?ns=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % name,
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: %s\r\n\r\n" % agent,
        b"GET /v2/%s/manifests/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % evil,
    )
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        with logging_to(style) as log:
            for head in heads:
                await sent_raw(proxy.node, head)
            lines = await log.lines_until(len(heads))
            text = log.text
    assert len(text.splitlines()) == len(text.split("\n")) - 1
    assert text.replace("\n", "").isprintable()
    assert [line for line in lines if line.startswith(("{", "20")) is False] == []
    if style == "json":
        values = [str(value) for line in lines for value in json.loads(line).values()]
        assert [value for value in values if not value.isprintable()] == []


@pytest.mark.parametrize("user", ["a\nb", "\x1b[31mroot", "a\u202eb", "x" * 900, "a=b decision=allowed"])
async def test_a_user_name_is_one_plain_value(tmp_path: Path, user: str) -> None:
    async with scene(tmp_path / "cache") as played:
        for style in ("json", "text"):
            with logging_to(style) as log:
                await played.node.get(manifest(), ("Authorization", f"Basic {basic(user, OTHER_PASSWORD)}"))
                (line,) = await log.lines_until(1)
            assert line.isprintable()
            if style == "json":
                entry = json.loads(line)
                assert (len(entry["user"]) <= 300, entry["user"].isprintable()) == (True, True)
                assert entry["decision"] == "denied"
            else:
                assert line.count(" decision=") == 1 + line.count('b decision=allowed"')
                assert " decision=denied " in line


@pytest.mark.parametrize(
    "header",
    [
        ("User-Agent", f"Bearer {PASSWORD}-token"),
        ("User-Agent", f"curl http://robot:{PASSWORD}@proxy.example/"),
        ("Authorization", f"Basic {basic(PASSWORD, PASSWORD)}"),
        ("Authorization", f"Basic {basic('robot', PASSWORD)}"),
        ("Authorization", f"Bearer {PASSWORD}-token"),
    ],
    ids=["agent", "agent-url", "password-as-user", "basic", "bearer"],
)
@pytest.mark.parametrize("style", ["json", "text"])
async def test_a_secret_of_a_client_is_not_logged(
    registry: ScriptedRegistry, tmp_path: Path, header: Header, style: str
) -> None:
    write_users(tmp_path / "htpasswd", alice=OTHER_PASSWORD)
    targets = (manifest(), f"/v2/https://robot:{PASSWORD}@host.example/x/manifests/1", f"/token?password={PASSWORD}")
    async with guarded(registry, tmp_path / "htpasswd") as node:
        with logging_to(style) as log:
            for target in targets:
                await node.get(target, header)
            await log.lines_until(len(targets))
            assert_no_secret(log.text)


async def test_every_field_is_bounded(near_plain: NodeClient) -> None:
    long = b"x" * 6000
    heads = (
        b"GET /v2/%s/manifests/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % long,
        b"GET /v2/%s/manifests/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % long[:1000],
        b"GET /v2/a/manifests/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % long,
        b"GET /v2/a/manifests/1?ns=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % long[:2000],
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: %s\r\n\r\n" % long,
        b"GET /v2/%s/manifests/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (b"%1b" * 300),
    )
    with logging_to() as log:
        for head in heads:
            await sent_raw(near_plain, head)
        entries = await log.until(len(heads))
    too_long = [
        (name, len(value))
        for entry in entries
        for name, value in entry.items()
        if isinstance(value, str) and len(value) > LIMITS.get(name, 300)
    ]
    assert too_long == []


async def test_every_denied_request_has_its_reason_and_rule(registry: ScriptedRegistry, tmp_path: Path) -> None:
    write_users(tmp_path / "htpasswd", alice=OTHER_PASSWORD)
    right, wrong = (("Authorization", f"Basic {basic('alice', word)}") for word in (OTHER_PASSWORD, PASSWORD))
    refused = (
        (manifest(), ()),
        (manifest(), (wrong,)),
        (manifest(), (("Authorization", "Basic !"),)),
        ("/v2/", (wrong,)),
        (manifest(registry="evil.example"), (right,)),
        (manifest(name="other/app"), (right,)),
    )
    async with guarded(registry, tmp_path / "htpasswd") as node:
        with logging_to() as log:
            statuses = [(await node.get(target, *headers)).status for target, headers in refused]
            entries = await log.until(len(refused))
    assert set(statuses) <= {401, 403}
    assert [entry["status"] for entry in entries] == statuses
    assert [entry for entry in entries if not {"reason", "code", "rule", "place"} <= set(entry)] == []
    assert {entry["place"].partition(":")[0] for entry in entries} == {"test.yaml"}
