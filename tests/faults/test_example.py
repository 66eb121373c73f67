"""The example of CONTRIBUTING.md: a test of a fault of the registry."""

from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import manifest
from tests.fakes.registry import ScriptedRegistry


async def test_a_failing_registry_is_503(node: NodeClient, registry: ScriptedRegistry) -> None:
    registry.script(on("GET", "manifest"), Reply(500))
    got = await node.get(manifest())
    assert (got.status, got.code) == (503, "UNAVAILABLE")
