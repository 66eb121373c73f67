"""Who is let in: users of an htpasswd file, and tokens of our own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest

from proxy.runtime.tuning import Tuning
from proxy.testbed.node_auth import NodeChallenge, read_challenges
from tests.fakes.canaries import OTHER_PASSWORD, PASSWORD, basic
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.proxy import AT_ONCE, LOGIN, REG, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import GUEST, OWNER, PRIVATE, PUBLIC, Header, Scene, login, scene

pytestmark = pytest.mark.security

FORM = ("Content-Type", "application/x-www-form-urlencoded")
EXTERNAL = "https://proxy.example:5000"
SCOPES = ("repository:library/app:pull", "repository:team/app:pull")
"""What an unpatched node with rewrites asks for: the original and the rewritten path."""


def write_users(file: Path, **users: str) -> None:
    lines = [
        f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}" for name, password in users.items()
    ]
    file.write_text("\n".join(lines) + "\n")


@asynccontextmanager
async def guarded(registry: ScriptedRegistry, file: Path, tuning: Tuning = AT_ONCE) -> AsyncIterator[NodeClient]:
    """A proxy that asks for the users of a file and pulls with a credential of its own."""
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "basic", "htpasswdFile": str(file)}}
    async with started(settings([registry.url], login=LOGIN, listeners=[listener]), tuning) as proxy:
        yield proxy.node


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The file of one user."""
    write_users(tmp_path / "htpasswd", alice=OTHER_PASSWORD)
    return tmp_path / "htpasswd"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((("Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}"),), 200),
        ((("authorization", f"bAsIc  {basic('alice', OTHER_PASSWORD)}"),), 200),
        ((), 401),
        ((("Authorization", f"Basic {basic('alice', PASSWORD)}"),), 401),
        ((("Authorization", f"Basic {basic('Alice', OTHER_PASSWORD)}"),), 401),
        ((("Authorization", f"Basic {basic('mallory', OTHER_PASSWORD)}"),), 401),
        ((("Authorization", f"Basic {basic('alice', '')}"),), 401),
        ((("Authorization", "Basic Og=="),), 401),
        ((("Authorization", f"Basic {basic('<token>', OTHER_PASSWORD)}"),), 401),
        ((("Authorization", f"Bearer {basic('alice', OTHER_PASSWORD)}"),), 401),
        ((("Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}!"),), 401),
        ((("Authorization", "Basic"),), 401),
        ((("Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}"), ("Authorization", "Basic Og==")), 401),
        ((("Authorization", f"Basic {basic('alice', OTHER_PASSWORD + chr(0))}"),), 401),
        ((("Authorization", f"Basic {basic('alice', OTHER_PASSWORD + 'x' * 80)}"),), 401),
        ((("Proxy-Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}"),), 401),
        ((("X-Forwarded-User", "alice"),), 401),
    ],
)
async def test_users_of_the_file_and_nobody_else(
    registry: ScriptedRegistry, users: Path, headers: tuple[Header, ...], status: int
) -> None:
    async with guarded(registry, users) as node:
        for target in (manifest(), "/v2/", f"/v2/library/app/tags/list?ns={REG}"):
            got = await node.get(target, *headers)
            assert got.status == status
            assert got.header("WWW-Authenticate") == (
                'Basic realm="scope-proxy", charset="UTF-8"' if status == 401 else None
            )
    assert bool(registry.record.all()) == (status == 200)


async def test_users_never_reach_the_upstream(registry: ScriptedRegistry, users: Path) -> None:
    async with guarded(registry, users) as node:
        assert (await node.get(manifest(), ("Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}"))).status == 200
    assert {call.credential for call in registry.record.all()} <= {"anonymous", "basic robot", "bearer 1"}


async def test_a_changed_file_counts_from_then_on(registry: ScriptedRegistry, users: Path) -> None:
    async with guarded(registry, users) as node:
        alice = ("Authorization", f"Basic {basic('alice', OTHER_PASSWORD)}")
        assert (await node.get(manifest(), alice)).status == 200
        write_users(users, bob=PASSWORD)
        async with asyncio.timeout(WITHIN):
            while (await node.get(manifest(), alice)).status == 200:  # noqa: ASYNC110 - the file is looked at once a second
                await asyncio.sleep(0.05)
        assert (await node.get(manifest(), ("Authorization", f"Basic {basic('bob', PASSWORD)}"))).status == 200


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The file of the key that seals tokens."""
    (tmp_path / "keys").write_text("canary-key-0123456789abcdef0123456789\n")
    return tmp_path / "keys"


@pytest.fixture
async def bearer(tmp_path: Path, keys: Path) -> AsyncIterator[Scene]:
    """Clients that get tokens."""
    async with scene(tmp_path / "cache", clients=bearing(keys)) as played:
        yield played


def bearing(keys: Path, **more: Any) -> dict[str, Any]:
    return {"challenge": "bearer", "externalURL": EXTERNAL, "tokenKeyFile": str(keys), **more}


async def token_of(node: NodeClient, header: Header | None, *scopes: str, service: str = REG) -> str:
    """A token, requested by GET as skopeo does."""
    query = urlencode([("service", service), *(("scope", scope) for scope in scopes)])
    got = await node.get(f"/token?{query}", *((header,) if header else ()))
    assert got.status == 200, got
    assert got.header("Cache-Control") == "no-store"
    return str(json.loads(got.body)["token"])


def with_token(token: str) -> Header:
    return ("Authorization", f"Bearer {token}")


def challenge_of(got: Got) -> NodeChallenge:
    assert got.status == 401
    [challenge] = read_challenges([got.header("WWW-Authenticate") or ""])
    return challenge


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "reg.example"])
async def test_the_realm_is_never_taken_from_the_request(bearer: Scene, host: str) -> None:
    forwarded = (
        ("Host", host),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", f"host={host}"),
    )
    challenge = challenge_of(await bearer.node.get(manifest(name=PRIVATE), *forwarded))
    assert challenge.scheme == "bearer"
    assert challenge.get("realm") == f"{EXTERNAL}/token"
    assert challenge.get("service") == REG
    assert challenge.get("scope") == f"repository:{PRIVATE}:pull"


async def test_both_scopes_of_an_unpatched_node_become_one(bearer: Scene) -> None:
    form = urlencode(
        {
            "grant_type": "password",
            "username": OWNER.username,
            "password": OWNER.password,
            "service": REG,
            "scope": " ".join(SCOPES),
        }
    )
    posted = await bearer.node.send("POST", "/token", FORM, body=form.encode())
    fetched = await token_of(bearer.node, login(OWNER), *SCOPES)
    for token in (json.loads(posted.body)["access_token"], fetched):
        for name in (PRIVATE, "team/app"):  # the requested path, and the one that a rewriting node sends
            assert (await bearer.node.get(manifest(name=name), with_token(token))).status == 200
    assert bearer.registry.record.scopes == {"repository:team/app:pull"}


async def test_identity_tokens_are_passed_on(bearer: Scene) -> None:
    form = urlencode(
        {
            "grant_type": "refresh_token",
            "refresh_token": OWNER.identity_token,
            "service": REG,
            "scope": SCOPES[0],
        }
    )
    posted = await bearer.node.send("POST", "/token", FORM, body=form.encode())
    token = json.loads(posted.body)["access_token"]
    assert (await bearer.node.get(manifest(name=PRIVATE), with_token(token))).status == 200
    assert "refresh-token" in {call.credential for call in bearer.registry.record.tokens}


async def test_a_token_is_for_its_repository_alone(bearer: Scene) -> None:
    token = await token_of(bearer.node, login(OWNER), SCOPES[0])
    digest, _ = layer_of(bearer.public)
    for target in (manifest(name=PUBLIC), blob(digest, PUBLIC), f"/v2/{PUBLIC}/tags/list?ns={REG}"):
        assert challenge_of(await bearer.node.get(target, with_token(token))).get("error") == "insufficient_scope"
    assert bearer.registry.record.all() == ()


@pytest.mark.parametrize(
    "scope",
    [
        "repository:library/app:push,delete",
        "repository(plugin):library/app:pull",
        "registry:catalog:*",
        "repository:../../app:pull",
        "repository:library/app",
        "repository:LIBRARY/APP:pull",
        "",
        "repository:library/app:pull\x00",
        "%2e%2e",
    ],
)
async def test_scopes_that_come_to_nothing_give_a_token_for_nothing(bearer: Scene, scope: str) -> None:
    token = await token_of(bearer.node, login(OWNER), scope)
    got = await bearer.node.get(manifest(name=PRIVATE), with_token(token))
    assert challenge_of(got).get("error") == "insufficient_scope"
    assert bearer.registry.record.all() == ()


async def test_wider_actions_are_reduced_to_pull(bearer: Scene) -> None:
    token = await token_of(bearer.node, login(OWNER), "repository:library/app:pull,push,delete,*")
    assert (await bearer.node.get(manifest(name=PRIVATE), with_token(token))).status == 200
    assert bearer.registry.record.scopes == {"repository:team/app:pull"}


async def test_a_token_proves_nothing_the_upstream_does(bearer: Scene) -> None:
    assert (
        await bearer.node.get(manifest(name=PRIVATE), with_token(await token_of(bearer.node, login(OWNER), *SCOPES)))
    ).status == 200
    for header in (login(GUEST), None, ("Authorization", "Basic Og==")):
        token = await token_of(bearer.node, header, *SCOPES)
        for method, target, more in bearer.attempts().values():
            if "other" not in target:
                got = await bearer.node.send(method, target, *more, with_token(token))
                assert got.status in {401, 403, 404}
                assert bearer.private.manifest not in got.body


@pytest.mark.parametrize(
    "change", ["flipped", "truncated", "longer", "other-key", "expired", "empty", "words", "basic"]
)
async def test_tokens_that_are_not_ours(bearer: Scene, tmp_path: Path, change: str) -> None:
    token = await token_of(bearer.node, login(OWNER), *SCOPES)
    middle = len(token) // 2
    wrong = {
        "flipped": token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :],
        "truncated": token[:-8],
        "longer": token + "AAAA",
        "empty": "-",
        "words": "let me in",
        "basic": basic(OWNER.username, OWNER.password),
    }.get(change, "")
    if change in {"other-key", "expired"}:
        other = tmp_path / "other-keys"
        other.write_text("canary-key-of-another-proxy-0123456789\n")
        file, more = (other, {}) if change == "other-key" else (tmp_path / "keys", {"tokenLife": "1ms"})
        async with scene(tmp_path / "other", clients=bearing(file, **more)) as elsewhere:
            wrong = await token_of(elsewhere.node, login(OWNER), *SCOPES)
    got = await bearer.node.get(manifest(name=PRIVATE), ("Authorization", f"Bearer {wrong}"))
    assert challenge_of(got).get("error") == "invalid_token"
    assert bearer.registry.record.all() == ()


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status"),
    [
        ("POST", "/token", (FORM,), b"grant_type=password&username=a&username=b&password=c", 400),
        ("POST", "/token", (FORM,), b"grant_type=authorization_code&code=x", 400),
        ("POST", "/token", (("Content-Type", "application/json"),), b"{}", 400),
        ("POST", "/token", (FORM,), b"scope=" + b"x" * 70_000, 413),
        ("POST", "/token", (FORM,), b"&".join(b"a%d=1" % number for number in range(100)), 400),
        ("POST", "/token", (FORM,), b"username=%ff", 400),
        ("GET", "/token", (("Authorization", "Bearer x"),), b"", 401),
        ("GET", "/token", (("Authorization", "Negotiate x"),), b"", 401),
        ("PUT", "/token", (), b"", 405),
        ("DELETE", "/token", (), b"", 405),
        ("GET", "/token/", (), b"", 400),
        ("GET", "//token", (), b"", 400),
        ("GET", "/v2/token", (), b"", 400),
    ],
)
async def test_bad_requests_for_tokens(
    bearer: Scene, method: str, target: str, headers: tuple[Header, ...], body: bytes, status: int
) -> None:
    got = await bearer.node.send(method, target, *headers, body=body)
    assert got.status == status
    assert bearer.registry.record.all() == ()


async def test_no_tokens_where_nobody_is_asked_for_one(tmp_path: Path) -> None:
    async with scene(tmp_path / "cache") as played:
        assert (await played.node.get("/token", login(OWNER))).status == 400
