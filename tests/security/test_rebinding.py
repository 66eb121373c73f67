"""DNS rebinding: a name that is judged at one address and connected to at another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from proxy.runtime.tuning import Tuning
from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from proxy.transport.session import SessionLimits
from tests.fakes.changes import Redirect
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import Cut
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import ACCOUNT, AT_ONCE, LOGIN, UPSTREAM, blob, layer_of, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import ELSEWHERE, PUBLIC, World
from tests.security.tls import server_tls

pytestmark = pytest.mark.security

INNER = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1")
CDN = "cdn.example"


@pytest.fixture
async def public(image: Image, world: World) -> AsyncIterator[ScriptedRegistry]:
    """A registry without tokens at http://plain.example, on a public address."""
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        world.resolves("plain.example", (PUBLIC,))
        world.serves(PUBLIC, 80, server.url)
        world.knows(f"{PUBLIC}:80")
        yield server


@pytest.fixture
async def cdn(store: ObjectStore, world: World, public: ScriptedRegistry) -> ObjectStore:
    """An object store at http://cdn.example that the registry redirects to, on a public address as well."""
    world.serves(ELSEWHERE, 80, store.url)
    signed = public.script(on(kind="blob"), Redirect(store.signer(public.library)))
    assert signed.fired == 0
    store.url = f"http://{CDN}"
    return store


@asynccontextmanager
async def in_front(public: ScriptedRegistry, world: World, tuning: Tuning = AT_ONCE) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy in front of that registry."""
    assert public.url
    async with started(settings(["http://plain.example"]), tuning) as proxy:
        world.knows(f"{proxy.node.host}:{proxy.node.port}")
        yield proxy.node


@pytest.fixture
async def near(public: ScriptedRegistry, world: World) -> AsyncIterator[NodeClient]:
    async with in_front(public, world) as node:
        yield node


async def test_what_was_judged_is_what_is_connected_to(
    near: NodeClient, cdn: ObjectStore, world: World, image: Image
) -> None:
    """One look-up, judged; a second one, which could say something else, is never made for the connection."""
    world.resolves(CDN, (ELSEWHERE,), ("127.0.0.1",))
    digest, data = layer_of(image)
    assert (await near.get(blob(digest))).body == data
    assert world.lookups.count(CDN) == 1
    assert world.strangers == [f"{ELSEWHERE}:80"]
    assert len(cdn.record.all()) == 1


@pytest.mark.parametrize("inner", INNER)
async def test_a_name_that_was_public_and_is_not_any_more_is_refused(
    public: ScriptedRegistry, cdn: ObjectStore, world: World, image: Image, inner: str
) -> None:
    forgetful = replace(AT_ONCE, session_limits=SessionLimits(dns_seconds=0))
    world.resolves(CDN, (ELSEWHERE,), (inner,))
    cdn.script(on(), Cut())  # every connection is closed after its answer, so the name is looked up again
    digest, data = layer_of(image)
    async with in_front(public, world, forgetful) as node:
        assert (await node.get(blob(digest))).body == data
        got = await node.get(blob(digest))
    assert (got.status, got.code) == (403, "DENIED")
    assert world.lookups.count(CDN) >= 2
    assert world.strangers == [f"{ELSEWHERE}:80"]


@pytest.mark.parametrize("inner", INNER)
async def test_a_name_with_one_inner_address_among_public_ones_is_refused(
    near: NodeClient, cdn: ObjectStore, world: World, image: Image, inner: str
) -> None:
    world.resolves(CDN, (ELSEWHERE, inner))
    assert (await near.get(blob(layer_of(image)[0]))).status == 403
    assert cdn.record.all() == ()
    world.assert_untouched()


@asynccontextmanager
async def hub(image: Image, authority: trustme.CA, world: World) -> AsyncIterator[ScriptedRegistry]:
    """Docker Hub as far as names go: its token server has a host of its own, which is trusted by name."""
    context = await asyncio.to_thread(server_tls, authority, "registry-1.docker.io", "auth.docker.io")
    rules = Rules(accounts=(ACCOUNT,), realm="https://auth.docker.io/token")
    async with ScriptedRegistry([image], rules, tls=context) as server:
        world.resolves("registry-1.docker.io", (PUBLIC,))
        world.serves(PUBLIC, 443, server.url)
        world.knows(f"{PUBLIC}:443")
        yield server


@pytest.mark.parametrize("inner", INNER)
async def test_a_well_known_token_server_on_an_inner_address_is_no_token_server(
    image: Image, authority: trustme.CA, ca_file: Path, world: World, inner: str
) -> None:
    async with hub(image, authority, world) as registry:
        world.resolves("auth.docker.io", (inner,))
        host = {"tls": {"caFile": str(ca_file)}}
        hosts = {"registry-1.docker.io": {**host, "credentials": LOGIN}, "auth.docker.io": host}
        configured = {**settings([]), "registries": {"docker.io": {}}, "hosts": hosts}
        async with started(configured) as proxy:
            world.knows(f"{proxy.node.host}:{proxy.node.port}")
            got = await proxy.node.get(f"/v2/{UPSTREAM}/manifests/1?ns=docker.io")
        assert got.status in {403, 503}
        assert registry.record.tokens == ()
        assert "auth.docker.io" in world.lookups
        world.assert_untouched()


async def test_the_well_known_pair_works_on_public_addresses(
    image: Image, authority: trustme.CA, ca_file: Path, world: World
) -> None:
    """The rows above would also pass if the pair never worked."""
    async with hub(image, authority, world) as registry:
        world.resolves("auth.docker.io", (PUBLIC,))
        host = {"tls": {"caFile": str(ca_file)}}
        hosts = {"registry-1.docker.io": {**host, "credentials": LOGIN}, "auth.docker.io": host}
        configured = {**settings([]), "registries": {"docker.io": {}}, "hosts": hosts}
        async with started(configured) as proxy:
            world.knows(f"{proxy.node.host}:{proxy.node.port}")
            got = await proxy.node.get(f"/v2/{UPSTREAM}/manifests/1?ns=docker.io")
        assert (got.status, got.body) == (200, image.manifest)
        assert [entry.credential for entry in registry.record.tokens] == ["basic robot"]
        world.assert_untouched()
