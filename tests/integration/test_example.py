"""The example of CONTRIBUTING.md: a test of what a node sees."""

from tests.fakes.client import NodeClient
from tests.fakes.proxy import manifest


async def test_a_tag_that_the_registry_does_not_have_is_404(node: NodeClient) -> None:
    got = await node.get(manifest("no-such-tag"))
    assert (got.status, got.code) == (404, "MANIFEST_UNKNOWN")
