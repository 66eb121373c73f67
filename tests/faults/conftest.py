from collections.abc import AsyncIterator, Mapping

import pytest

from tests.fakes.client import NodeClient
from tests.fakes.fixtures import (
    budgets,
    image,
    logs,
    near_plain,
    never,
    plain,
    registry,
    second,
    store,
    with_and_without_cache,
)
from tests.fakes.proxy import LOGIN, settings, started
from tests.fakes.registry import ScriptedRegistry

__all__ = [
    "budgets",
    "image",
    "logs",
    "near_plain",
    "never",
    "plain",
    "registry",
    "second",
    "store",
    "with_and_without_cache",
]


@pytest.fixture
async def node(registry: ScriptedRegistry, budgets: Mapping[str, str]) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy in front of the strict registry."""
    async with started(settings([registry.url], login=LOGIN, timeouts=budgets)) as proxy:
        yield proxy.node


@pytest.fixture
async def near_both(
    plain: ScriptedRegistry, second: ScriptedRegistry, budgets: Mapping[str, str]
) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with two endpoints, the plain registry and the second one."""
    async with started(settings([plain.url, second.url], timeouts=budgets)) as proxy:
        yield proxy.node
