"""Fixtures of the tests that run the proxy against scripted servers."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping

import pytest

from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Rules
from tests.fakes.canaries import Written, assert_no_secret, metrics, recognisable_tokens, watched_logs
from tests.fakes.client import NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import ACCOUNT, CACHE_SWITCH, LOGIN, SHORT, UPSTREAM, USUAL, settings, started
from tests.fakes.registry import ScriptedRegistry


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """All that is logged; no secret may stand there or in the metrics, whatever the test does."""
    recognisable_tokens(monkeypatch)
    with watched_logs() as written:
        yield written
    assert_no_secret(*written.lines, metrics())
    assert not [line for line in written.lines if "a bug:" in line]


@pytest.fixture(params=["uncached", "cached"])
def with_and_without_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test twice: a cache changes nothing of what it asserts."""
    if request.param == "cached":
        monkeypatch.setenv(CACHE_SWITCH, "yes")
    else:
        monkeypatch.delenv(CACHE_SWITCH, raising=False)


@pytest.fixture
async def never() -> AsyncIterator[Stall]:
    """An answer whose headers never come; at the end of the test its connection is let go."""
    until = asyncio.Event()
    yield Stall(BEFORE_HEADERS, until)
    until.set()


@pytest.fixture
def budgets(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """How long the proxy waits: briefly where a test is marked with `short_budgets`."""
    return SHORT if request.node.get_closest_marker("short_budgets") else USUAL


@pytest.fixture
def image() -> Image:
    """A small image."""
    return make_image(UPSTREAM, "1")


@pytest.fixture
async def registry(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """A strict registry that wants the password of the one account."""
    async with ScriptedRegistry([image], Rules(accounts=(ACCOUNT,))) as server:
        yield server


@pytest.fixture
async def node(registry: ScriptedRegistry) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy in front of the registry."""
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        yield proxy.node


@pytest.fixture
async def plain(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """A registry that wants no token: for what has nothing to do with tokens."""
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        yield server


@pytest.fixture
async def second(image: Image) -> AsyncIterator[ScriptedRegistry]:
    """One more plain registry with the same image."""
    async with ScriptedRegistry([image], Rules(dialect="none")) as server:
        yield server


@pytest.fixture
async def near_plain(plain: ScriptedRegistry, budgets: Mapping[str, str]) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy in front of the plain registry."""
    async with started(settings([plain.url], timeouts=budgets)) as proxy:
        yield proxy.node


@pytest.fixture
async def store() -> AsyncIterator[ObjectStore]:
    """An object store on another origin, whose URLs are signed for GET alone."""
    async with ObjectStore() as server:
        yield server
