"""The example of CONTRIBUTING.md: a test of the cache."""

from proxy.testbed.images import Image
from tests.fakes.client import NodeClient
from tests.fakes.proxy import blob, layer_of
from tests.fakes.registry import ScriptedRegistry


async def test_a_second_pull_of_a_layer_is_a_hit(node: NodeClient, plain: ScriptedRegistry, image: Image) -> None:
    digest, layer = layer_of(image)
    assert (await node.get(blob(digest))).header("X-Cache") == "miss"
    got = await node.get(blob(digest))
    assert (got.body, got.header("X-Cache")) == (layer, "hit")
    assert len(plain.record.of("blob")) == 1
