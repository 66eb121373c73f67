"""The access log: who pulled what, from where, who decided, and how it was served; docs/audit.md says each field."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.server.access_log import REASONS
from proxy.testbed.images import Image
from proxy.transport.redirect import via
from tests.cache.serving import reading
from tests.docs.pages import ROOT, blocks, section, text_of
from tests.fakes.access_log import AccessLog, logging_to
from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import OTHER_PASSWORD, PASSWORD, basic
from tests.fakes.changes import FlipByte, Reply
from tests.fakes.client import WITHIN, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import LOGIN, NAME, REG, UPSTREAM, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.tls_site import Site, serving
from tests.real.programs import require
from tests.security.clients import GUEST, OWNER, PRIVATE, PUBLIC, login, scene
from tests.security.test_clients import bearing, token_of, with_token, write_users

LARGE = Generated(4 * MIB, seed=31)
PAGE = "docs/audit.md"
ALICE = ("Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}")
WRONG = ("Authorization", f"Basic {basic('alice', PASSWORD)}")
RULES = [
    {"action": "deny", "registries": REG, "repositories": "library/secret/**"},
    {"action": "allow", "registries": REG, "clients": "alice"},
]
ALWAYS = {"time", "level", "name", "message", "requestId"}
"""Fields of every line of the log."""
_ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<kind>text|integer|number) \| (?P<present>[^|]+) \| `(?P<example>[^|`]+)` \|",
    re.MULTILINE,
)


@pytest.fixture
def log() -> Iterator[AccessLog]:
    """The access log as JSON."""
    with logging_to() as written:
        yield written


@asynccontextmanager
async def guarded(registry: ScriptedRegistry, directory: Path, **more: Any) -> AsyncIterator[NodeClient]:
    """A proxy with the user alice, access rules and a cache."""
    write_users(directory / "htpasswd", alice=OTHER_PASSWORD)
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "basic", "htpasswdFile": str(directory / "htpasswd")}}
    sections = {"listeners": [listener], "access": RULES, "cache": {"path": str(directory / "cache"), "tagAge": "1h"}}
    async with started(settings([registry.url], login=LOGIN, **{**sections, **more})) as proxy:
        yield proxy.node


async def test_a_pull_says_who_what_from_where_by_which_rule_and_how(
    registry: ScriptedRegistry, image: Image, tmp_path: Path, log: AccessLog
) -> None:
    async with guarded(registry, tmp_path) as node:
        got = await node.get(manifest(), ALICE, ("User-Agent", "containerd/1.7"))
        (miss,) = await log.until(1)
        await node.head(manifest(), ALICE)
        hit = await log.last(2)
    assert {name: miss[name] for name in miss.keys() - ALWAYS - {"seconds"}} == {
        "user": "alice",
        "auth": "basic",
        "method": "GET",
        "operation": "manifest",
        "registry": REG,
        "repository": NAME,
        "reference": "1",
        "digest": image.digest,
        "client": "127.0.0.1",
        "agent": "containerd/1.7",
        "decision": "allowed",
        "rule": f"allow registries: {REG}, repositories: **, clients: alice",
        "place": miss["place"],
        "cache": got.header("X-Cache"),
        "status": 200,
        "bytes": len(image.manifest),
        "error": "",
        "aborted": "",
        "upstream": REG,
        "endpoint": f"{registry.url}/v2",
    }
    assert re.fullmatch(r"test\.yaml:1:\d+", miss["place"])
    assert (hit["cache"], hit["method"], hit["bytes"]) == ("hit", "HEAD", 0)
    assert "endpoint" not in hit
    assert hit["digest"] == image.digest


@pytest.mark.parametrize(
    ("headers", "target", "expected"),
    [
        ((), manifest(), ("challenged", "auth", "UNAUTHORIZED", "clients of 127.0.0.1:0: basic")),
        ((WRONG,), manifest(), ("denied", "auth", "UNAUTHORIZED", "clients of 127.0.0.1:0: basic")),
        (
            (ALICE,),
            manifest(name="library/secret/app"),
            (
                *("denied", "access", "DENIED"),
                f"deny registries: {REG}, repositories: library/secret/**, clients: *",
            ),
        ),
        ((ALICE,), manifest(registry="other.example"), ("denied", "bad_ns", "DENIED", "registries")),
        ((ALICE,), manifest(registry="rules.example"), ("denied", "access", "DENIED", "no rule allows it")),
        ((ALICE,), manifest(), ("denied", "upstream", "DENIED", "endpoint {url}/v2")),
    ],
    ids=["challenge", "password", "rule", "registry", "no-rule", "upstream"],
)
async def test_a_denied_request_says_why_and_which_setting_denied_it(
    registry: ScriptedRegistry,
    tmp_path: Path,
    log: AccessLog,
    headers: tuple[tuple[str, str], ...],
    target: str,
    expected: tuple[str, ...],
) -> None:
    registry.script(on(kind="manifest").with_header("Authorization"), Reply(403))
    registries = {REG: {"endpoints": [registry.url]}, "rules.example": {"endpoints": [registry.url]}}
    async with guarded(registry, tmp_path, registries=registries) as node:
        got = await node.get(target, *headers)
        entry = await log.last()
    found = (entry["decision"], entry["reason"], entry["code"], entry["rule"])
    assert found == tuple(part.format(url=registry.url) for part in expected)
    assert re.fullmatch(r"test\.yaml:1:\d+", entry["place"])
    assert entry["status"] == got.status
    assert entry["error"].startswith(f"{entry['code']}: ")
    # Also of a request that is refused before its route is known.
    assert (entry["repository"], entry["reference"]) == (
        target.split("/manifests/", maxsplit=1)[0].removeprefix("/v2/"),
        "1",
    )
    assert entry["registry"] == target.rpartition("=")[2]
    assert entry["user"] == ("alice" if ALICE in headers else "")


async def test_a_client_with_its_own_credential_or_a_token_of_it_is_named(tmp_path: Path, log: AccessLog) -> None:
    async with scene(tmp_path / "cache") as played:
        await played.node.get(manifest(name=PRIVATE), login(OWNER))
        await played.node.get(manifest(name=PRIVATE), login(GUEST))
        own, refused = await log.until(2)
    assert (own["user"], own["auth"], own["decision"]) == ("owner", "upstream", "allowed")
    assert (refused["user"], refused["decision"], refused["reason"]) == ("guest", "denied", "upstream")
    (tmp_path / "keys").write_text("canary-key-0123456789abcdef0123456789\n")
    async with scene(tmp_path / "second", clients=bearing(tmp_path / "keys")) as played:
        token = await token_of(played.node, login(OWNER), f"repository:{PRIVATE}:pull")
        await played.node.get(manifest(name=PRIVATE), with_token(token))
        await played.node.get(manifest(name=PUBLIC), with_token(token))
        issued, pulled, other = (await log.until(5))[2:]
    assert (issued["operation"], issued["user"], issued["decision"]) == ("token", "", "")
    assert (pulled["user"], pulled["auth"], pulled["decision"]) == ("owner", "token", "allowed")
    assert (other["user"], other["decision"], other["reason"]) == ("owner", "denied", "auth")


async def test_a_certificate_names_its_client(site: Site, registry: ScriptedRegistry, log: AccessLog) -> None:
    known = trustme.CA()
    known.cert_pem.write_to_path(site.directory / "ca.crt")
    async with serving(site, registry, site.listener(auth="certificate", subjects=["node-*"])) as node:
        for name in ("node-1", "other"):
            shown = site.trusting(known.issue_cert("node.example", common_name=name))
            await node.over(shown).get(manifest())
        allowed, denied = await log.until(2)
    assert (allowed["user"], allowed["auth"], allowed["decision"]) == ("node-1", "certificate", "allowed")
    assert (denied["user"], denied["auth"], denied["decision"]) == ("", "", "denied")
    assert (denied["reason"], "the certificate of other matches none" in denied["error"]) == ("auth", True)


async def test_of_clients_that_share_a_download_the_first_names_its_endpoint(
    registry: ScriptedRegistry, tmp_path: Path, log: AccessLog
) -> None:
    digest = registry.add_blob(UPSTREAM, LARGE).digest
    until = asyncio.Event()
    registry.script(on(kind="blob").with_header("Authorization"), Stall(MIB, until))
    async with (
        guarded(registry, tmp_path) as node,
        reading(node, blob(digest), MIB // 2, ALICE) as (first, reader, _),
        reading(node, blob(digest), MIB // 2, ALICE) as (second, other, _),
    ):
        until.set()
        await reader.readexactly(LARGE.size - len(first))
        await other.readexactly(LARGE.size - len(second))
        entries = await log.until(2)
    found = {(entry["cache"], entry.get("endpoint"), entry["bytes"]) for entry in entries}
    assert found == {("miss", f"{registry.url}/v2", LARGE.size), ("join", None, LARGE.size)}


@pytest.mark.parametrize(
    ("target", "headers", "reason"),
    [
        (manifest(name="Bad"), (), "bad_name"),
        (blob("sha256:1"), (), "bad_digest"),
        (manifest(), (("Via", "of this proxy"),), "loop"),
        (manifest(name="break/app"), (), "rewrite"),
    ],
    ids=lambda value: value if isinstance(value, str) and "/" not in value else "",
)
async def test_a_request_that_no_rule_judged_has_its_reason(
    registry: ScriptedRegistry, log: AccessLog, target: str, headers: tuple[tuple[str, str], ...], reason: str
) -> None:
    rewrites = [{"pattern": "^break/(.+)$", "replacement": "a b/$1"}]
    registries = {REG: {"endpoints": [registry.url], "rewrites": rewrites}}
    async with started(settings([registry.url], login=LOGIN, registries=registries)) as proxy:
        await proxy.node.get(target, *((name, via()) for name, _ in headers))
        entry = await log.last()
    assert (entry["reason"], entry["decision"]) == (reason, "denied" if entry["status"] == 403 else "")


async def test_the_page_has_each_field_with_its_type_and_each_field_is_logged(
    registry: ScriptedRegistry, image: Image, tmp_path: Path, log: AccessLog
) -> None:
    """A field that no request fills is as undocumented as one that the page does not have."""
    rows = list(_ROW.finditer(text_of(PAGE)))
    documented = {match["name"]: match["kind"] for match in rows}
    occasional = {match["name"] for match in rows if match["present"].startswith("Only ")}
    always = {match["name"] for match in rows if match["present"].startswith("Always")}
    digest, _ = layer_of(image)
    until, reached = asyncio.Event(), asyncio.Event()
    async with guarded(registry, tmp_path) as node:
        await node.get(manifest(), ALICE, ("User-Agent", "containerd/1.7"))
        await node.get(manifest(), WRONG)
        registry.script(on(kind="blob").with_header("Authorization"), FlipByte())
        await node.get(blob(digest), ALICE)
        registry.script(on(kind="manifest"), Stall(BEFORE_HEADERS, until, reached))
        async with node.opened("GET", manifest("2"), ALICE):
            await asyncio.wait_for(reached.wait(), WITHIN)
        entries = await log.until(4)
        until.set()
    logged = {name: value for entry in entries for name, value in entry.items() if value not in ("", 0)}
    assert [set(entry) - occasional for entry in entries] == [set(documented) - occasional] * len(entries)
    assert [name for entry in entries for name in always if entry[name] == ""] == []
    assert [name for entry in entries for name in occasional if entry.get(name) == ""] == []
    assert set(logged) == set(documented)
    types: dict[str, type | tuple[type, ...]] = {"text": str, "integer": int, "number": (int, float)}
    assert [
        name for name, kind in documented.items() if not all(isinstance(e.get(name, ""), types[kind]) for e in entries)
    ] == []


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        ("all", [200, 401, 401, 404, 403]),
        ("errors", [401, 401, 404, 403]),
        ("denied", [401, 403]),
        ("none", []),
    ],
)
async def test_log_access_selects_the_requests(
    registry: ScriptedRegistry, tmp_path: Path, access: str, expected: list[int]
) -> None:
    with logging_to(access=access) as log:
        async with guarded(registry, tmp_path) as node:
            await node.get(manifest(), ALICE)
            await node.get(manifest())
            await node.get(manifest(), WRONG)
            await node.get(manifest("none"), ALICE)
            await node.get(manifest(name="library/secret/app"), ALICE)
            entries = await log.until(len(expected))
    assert [entry["status"] for entry in entries] == expected
    assert {entry["level"] for entry in entries} <= {"INFO"}


async def test_text_has_the_fields_that_are_not_empty(registry: ScriptedRegistry, tmp_path: Path) -> None:
    with logging_to("text") as log:
        async with guarded(registry, tmp_path) as node:
            await node.get(manifest(name="library/secret/app"), ALICE, ("User-Agent", 'a "b" c'))
            (line,) = await log.lines_until(1)
    assert " GET /v2/library/secret/app/manifests/1 403 user=alice auth=basic operation=manifest " in line
    assert ' agent="a \\"b\\" c" decision=denied ' in line
    assert ' code=DENIED reason=access rule="deny registries: ' in line
    assert " error=" in line
    assert "cache=" not in line


async def test_the_commands_of_the_page_find_the_denied_requests(
    registry: ScriptedRegistry, tmp_path: Path, log: AccessLog
) -> None:
    require("jq")
    async with guarded(registry, tmp_path) as node:
        await node.get(manifest(), ALICE)
        await node.get(manifest(), WRONG)
        await node.get(manifest(name="library/secret/app"), ALICE)
        await log.until(3)
    text = "not JSON: of another program\n" + log.text
    programs = re.findall(r"jq -Rc '([^']+)'", "".join(block.text for block in blocks(ROOT / PAGE, "console")))
    assert len(programs) >= 2
    for program in programs:
        command = ["jq", "-Rc", program]
        found = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, text=True, check=True)
        assert [json.loads(line)["reason"] for line in found.stdout.splitlines()] in (["auth", "access"], ["access"])


def test_the_page_explains_each_value() -> None:
    text = section(PAGE, "Reasons")
    explained = re.findall(r"^\| `(\w+)` \| \S", text, re.MULTILINE)
    assert sorted(set(explained) - {"reason"}) == sorted(REASONS)
