"""Redirects of blobs and manifests: a public upstream must not send us to inner networks, nor anybody off https."""

import pytest

from proxy.testbed.images import Image
from tests.fakes.changes import Redirect
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import ELSEWHERE, World

pytestmark = pytest.mark.security

INNER = (
    "https://127.0.0.1/",
    "https://127.8.9.10/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://0.0.0.0/",
    "https://[::]/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/latest/meta-data/",
    "https://[::ffff:169.254.169.254]/",
    "https://[fd00:ec2::254]/",
    "https://[fd20:ce::254]/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://10.0.0.1/",
    "https://172.31.255.255/",
    "https://192.168.0.1/",
    "https://100.64.0.1/",
    "https://[fe80::1]/",
    "https://[fd12:3456::1]/",
    "https://[fec0::1]/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
)
NAMES = {
    "inner.example": ("10.0.0.1",),
    "loop.example": ("127.0.0.1",),
    "loop6.example": ("::1",),
    "mapped.example": ("::ffff:127.0.0.1",),
    "metadata.example": ("169.254.169.254",),
    "mixed.example": (ELSEWHERE, "127.0.0.1"),
    "mixed6.example": (ELSEWHERE, "fe80::1"),
}
MALFORMED = (
    "http://registry.example/v2/",
    "http://cdn.example/object",
    "https://robot:x@cdn.example/object",
    "https://registry.example@cdn.example/object",
    "https://cdn.example\\@registry.example/",
    "//user@cdn.example/object",
    "file:///etc/passwd",
    "gopher://cdn.example/",
    "ftp://cdn.example/object",
    "data:text/plain,x",
    "javascript:alert(1)",
    "https://",
    "https://cdn.example:0/",
    "https://cdn.example:99999/",
    "https://cdn.exam ple/",
    "https://[::1/",
)


@pytest.mark.parametrize("location", INNER)
async def test_a_blob_is_not_fetched_from_an_inner_address(
    node: NodeClient, upstream: ScriptedRegistry, world: World, image: Image, location: str
) -> None:
    upstream.script(on(kind="blob").with_header("Authorization"), Redirect(location))
    got = await node.get(blob(layer_of(image)[0]))
    assert (got.status, got.code) == (403, "DENIED")
    world.assert_untouched()


@pytest.mark.parametrize("location", INNER[::10])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_nor_is_a_manifest(
    node: NodeClient, upstream: ScriptedRegistry, world: World, method: str, location: str
) -> None:
    upstream.script(on(kind="manifest").with_header("Authorization"), Redirect(location))
    assert (await node.send(method, manifest())).status == 403
    world.assert_untouched()


@pytest.mark.parametrize("name", NAMES)
async def test_nor_from_a_name_that_leads_to_one(
    node: NodeClient, upstream: ScriptedRegistry, world: World, image: Image, name: str
) -> None:
    world.resolves(name, NAMES[name])
    upstream.script(on(kind="blob").with_header("Authorization"), Redirect(f"https://{name}/object"))
    got = await node.get(blob(layer_of(image)[0]))
    assert (got.status, got.code) == (403, "DENIED")
    assert name in world.lookups
    world.assert_untouched()


@pytest.mark.parametrize("location", MALFORMED)
async def test_a_location_that_is_no_plain_https_address_goes_nowhere(
    node: NodeClient, upstream: ScriptedRegistry, world: World, image: Image, location: str
) -> None:
    upstream.script(on(kind="blob").with_header("Authorization"), Redirect(location))
    got = await node.get(blob(layer_of(image)[0]))
    assert (got.status, got.code) == (403, "DENIED")
    assert "cdn.example" not in world.lookups
    world.assert_untouched()


async def test_an_object_store_cannot_send_us_further_inside(
    node: NodeClient, upstream: ScriptedRegistry, world: World, image: Image
) -> None:
    """The second hop is judged as the first one was."""
    hops = iter(("https://registry.example/v2/team/app/blobs/again", "https://127.0.0.1/", "https://127.0.0.1/"))
    upstream.script(on(kind="blob").with_header("Authorization"), Redirect(lambda _call: next(hops)))
    assert (await node.get(blob(layer_of(image)[0]))).status == 403
    assert len(upstream.record.of("blob", reference="again")) == 1
    world.assert_untouched()


@pytest.mark.parametrize("length", [1, 2])
async def test_a_loop_ends(
    node: NodeClient, upstream: ScriptedRegistry, world: World, image: Image, length: int
) -> None:
    paths = [f"/v2/team/app/blobs/{number}" for number in range(length)]
    here = {path: paths[(number + 1) % length] for number, path in enumerate(paths)}
    upstream.script(on(kind="blob").with_header("Authorization"), Redirect(lambda call: here.get(call.path, paths[0])))
    got = await node.get(blob(layer_of(image)[0]))
    assert (got.status, "redirects more than 5 times" in got.reason) == (403, True)
    assert len([entry for entry in upstream.record.of("blob") if entry.credential.startswith("bearer")]) == 6
    world.assert_untouched()
