import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.canaries import Written, assert_no_secret, metrics, recognisable_tokens, watched_logs
from tests.fakes.client import NodeClient
from tests.fakes.fixtures import budgets, image, near_plain, never, plain, registry, second, store
from tests.fakes.proxy import ACCOUNT, LOGIN, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import PUBLIC, Canary, World, world_in_force
from tests.security.tls import server_tls

__all__ = ["budgets", "image", "near_plain", "never", "plain", "registry", "second", "store"]

HOST = "registry.example"
"""A registry on a public address, behind TLS."""
HTTPS = 443


@pytest.fixture(scope="session", autouse=True)
def no_secret_in_the_metrics() -> Iterator[None]:
    """After all attacks, since the metrics forget nothing and take long to write."""
    yield
    assert_no_secret(metrics())


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """All that is logged; no secret may stand there, whatever the attack does."""
    recognisable_tokens(monkeypatch)
    with watched_logs() as written:
        yield written
    assert_no_secret(*written.lines)
    assert not [line for line in written.lines if "a bug:" in line]


@pytest.fixture(autouse=True)
def no_public_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all of the system's certificates takes longer than a whole test, and no server here has one."""
    monkeypatch.setattr("ssl.SSLContext.load_default_certs", lambda *_: None)


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """The attacker's server."""
    async with Canary() as server:
        yield server


@pytest.fixture
def world(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The network as the attacker has it."""
    made = World(canary)
    with world_in_force(made, monkeypatch):
        yield made


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The authority that upstreams have their certificates from."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate, for `caFile`."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return path


@pytest.fixture
async def upstream(image: Image, authority: trustme.CA, world: World) -> AsyncIterator[ScriptedRegistry]:
    """A strict registry at https://registry.example, on a public address."""
    context = await asyncio.to_thread(server_tls, authority, HOST)
    rules = Rules(accounts=(ACCOUNT,), realm=f"https://{HOST}/token")
    async with ScriptedRegistry([image], rules, tls=context) as server:
        world.resolves(HOST, (PUBLIC,))
        world.serves(PUBLIC, HTTPS, server.url)
        world.knows(server.url, f"{PUBLIC}:{HTTPS}")
        yield server


@pytest.fixture
async def node(upstream: ScriptedRegistry, world: World, ca_file: Path) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy that has a password for https://registry.example."""
    assert upstream.url
    host = {"tls": {"caFile": str(ca_file)}}
    async with started(settings([f"https://{HOST}"], login=LOGIN, host=host)) as proxy:
        world.knows(f"{proxy.node.host}:{proxy.node.port}")
        yield proxy.node


@pytest.fixture
async def local(registry: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy in front of the registry on loopback."""
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        yield proxy.node


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as the system lets this process have, for floods that it makes itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
