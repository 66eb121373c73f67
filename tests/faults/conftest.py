from collections.abc import AsyncIterator

import pytest

from proxy.demo.images import Image
from proxy.demo.rules import Rules
from tests.fakes.client import NodeClient
from tests.fakes.fixtures import image, logs, never, registry, with_and_without_cache
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import LOGIN, SHORT, settings, started
from tests.fakes.registry import ScriptedRegistry

__all__ = ["image", "logs", "never", "registry", "with_and_without_cache"]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two rounds where no upstream asks for it: the faults here do not pass by themselves."""
    monkeypatch.setattr("proxy.upstream.client.pause_before", lambda _round: 0.0)


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    """An object store on another origin, whose URLs are signed for GET alone."""
    async with ObjectStore() as server:
        yield server


@pytest.fixture
async def node(registry: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with short budgets in front of the strict registry."""
    async with started(settings([registry.url], login=LOGIN, timeouts=SHORT)) as proxy:
        yield proxy.node


@pytest.fixture
async def plain(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """A registry that wants no token: for faults that have nothing to do with tokens."""
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        yield server


@pytest.fixture
async def near_plain(plain: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy in front of the plain registry."""
    async with started(settings([plain.url], timeouts=SHORT)) as proxy:
        yield proxy.node


@pytest.fixture
async def second(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """One more plain registry with the same image."""
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        yield server


@pytest.fixture
async def near_both(plain: ScriptedRegistry, second: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with two endpoints, the plain registry and the second one."""
    async with started(settings([plain.url, second.url], timeouts=SHORT)) as proxy:
        yield proxy.node
