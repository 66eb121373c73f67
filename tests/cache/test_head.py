"""What a HEAD of a blob says of the cache, without a download."""

import asyncio
import random
from pathlib import Path

from proxy.testbed.images import make_image
from tests.cache.serving import cached, way
from tests.fakes.blobs import MIB
from tests.fakes.client import NodeClient
from tests.fakes.proxy import UPSTREAM, blob, manifest
from tests.fakes.registry import ScriptedRegistry

SEED = 16


async def test_head_of_a_blob_reports_whether_it_is_stored(plain: ScriptedRegistry, node: NodeClient) -> None:
    chance = random.Random(SEED)  # noqa: S311 - content that does not compress
    image = make_image(UPSTREAM, "large", {"file": chance.randbytes(5 * MIB)})
    plain.library.add(image)
    config, layer = image.blobs
    assert (await node.get(manifest(image.tag))).status == 200
    assert way(await node.head(blob(layer))) == "miss"
    assert not plain.record.of("blob", method="GET")  # nothing is downloaded for it
    for digest in (config, layer):
        assert (await node.get(blob(digest))).whole
        assert way(await node.head(blob(digest))) == "hit"


async def test_head_of_a_blob_reports_that_nothing_is_stored_where_no_cache_works(
    plain: ScriptedRegistry, directory: Path
) -> None:
    await asyncio.to_thread(directory.write_text, "this is no directory")
    image = make_image(UPSTREAM, "one", {"file": b"content"})
    plain.library.add(image)
    async with cached([plain.url], directory) as node:
        for digest in image.blobs:
            assert (await node.get(blob(digest))).whole
            assert way(await node.head(blob(digest))) != "hit"
