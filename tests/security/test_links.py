"""Addresses in what an upstream sends (layer `urls`, Link, Location, Refresh) are never requested, nor passed on."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.testbed.answer import Bytes
from proxy.testbed.images import Image, make_image, sha256
from tests.cache.serving import cached
from tests.fakes.changes import Reply, SetHeader
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import NAME, REG, UPSTREAM, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import World

pytestmark = pytest.mark.security

FOREIGN_TYPES = (
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)
SECRET = b"a layer of somebody else"
TAGS = f"/v2/{NAME}/tags/list?n=1&ns={REG}"


def foreign(media_type: str, url: str) -> Image:
    """An image one of whose layers is to be had elsewhere, as its manifest says (ContainerDrip, CVE-2020-15157)."""
    layer = {"mediaType": media_type, "digest": sha256(SECRET), "size": len(SECRET), "urls": [url]}
    bare = json.loads(make_image(UPSTREAM, "1").manifest)
    return make_image(UPSTREAM, "1", extra={"layers": [*bare["layers"], layer]})


@pytest.fixture
async def near(plain: ScriptedRegistry, world: World, tmp_path: Path) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with a cache in front of the plain registry."""
    async with cached([plain.url], tmp_path / "cache") as node:
        world.knows(plain.url, f"{node.host}:{node.port}")
        yield node


@pytest.fixture
async def straight(plain: ScriptedRegistry, world: World) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy without a cache in front of the plain registry."""
    async with started(settings([plain.url])) as proxy:
        world.knows(plain.url, f"{proxy.node.host}:{proxy.node.port}")
        yield proxy.node


@pytest.mark.parametrize("media_type", FOREIGN_TYPES)
async def test_foreign_layers_are_never_fetched_and_their_manifest_is_sent_as_it_is(
    near: NodeClient, plain: ScriptedRegistry, world: World, media_type: str
) -> None:
    made = foreign(media_type, f"http://127.0.0.1:{world.canary_port}/layer")
    plain.add(made)
    for _ in range(2):
        assert (await near.get(manifest())).body == made.manifest
    assert (await near.get(manifest(made.digest))).body == made.manifest
    assert (await near.get(blob(sha256(SECRET)))).status == 404
    assert (await near.head(blob(sha256(SECRET)))).status == 404
    world.assert_untouched()


def disguised(place: str) -> Image:
    """An image that shows its registry a layer which it holds, and a plainer reader a layer of somebody else."""
    bare = json.loads(make_image(UPSTREAM, "1").manifest)
    (held,) = bare["layers"]
    wanted = {"mediaType": held["mediaType"], "digest": sha256(SECRET), "size": len(SECRET)}
    more = {
        "layers": {"layers": [wanted], "Layers": [held]},
        "layer\u017f": {"layers": [wanted], "layer\u017f": [held]},
        "config": {"config": wanted, "CONFIG": bare["config"]},
        "digest": {"layers": [{**wanted, "Digest": held["digest"]}]},
        "urls": {"layers": [{**wanted, "URLs": ["https://elsewhere.example/layer"]}]},
        "mediaType": {"layers": [{**wanted, "mediatype": FOREIGN_TYPES[0]}]},
        "subject": {"subject": wanted},
    }
    return make_image(UPSTREAM, "1", extra=more[place])


@pytest.mark.parametrize("place", ["layers", "layer\u017f", "config", "digest", "urls", "mediaType", "subject"])
async def test_nor_by_names_that_its_registry_reads_in_another_way(
    near: NodeClient, plain: ScriptedRegistry, place: str
) -> None:
    plain.library.repository("team/secret").blobs[sha256(SECRET)] = Bytes(SECRET)
    assert (await near.get(blob(sha256(SECRET), name="library/secret"))).body == SECRET
    plain.add(disguised(place))
    assert (await near.get(manifest())).status == 200
    assert (await near.get(blob(sha256(SECRET)))).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("media_type", FOREIGN_TYPES[1:])
async def test_a_manifest_opens_no_blob_of_another_repository_by_a_foreign_layer(
    near: NodeClient, plain: ScriptedRegistry, media_type: str, method: str
) -> None:
    """Registries take any digest for a layer that has `urls`: such a descriptor proves nothing (as CVE-2024-39897)."""
    plain.library.repository("team/secret").blobs[sha256(SECRET)] = Bytes(SECRET)
    assert (await near.get(blob(sha256(SECRET), name="library/secret"))).body == SECRET
    plain.add(foreign(media_type, "https://elsewhere.example/layer"))
    assert (await near.get(manifest())).status == 200
    assert (await near.send(method, blob(sha256(SECRET)))).status == 404


@pytest.mark.parametrize(
    "link",
    [
        "<http://127.0.0.1:{canary}/v2/team/app/tags/list?last=1&n=1>; rel=next",
        '<http://169.254.169.254/latest>; rel="next"',
        '<//evil.example/v2/team/app/tags/list?last=1>; rel="next"',
        '<file:///etc/passwd?last=1>; rel="next"',
        '<https://evil.example/?last=1&ns=evil.example>; rel="next"',
        '<https://evil.example/?n=1&last=1&account=admin&scope=repository:evil:push>; rel="next"',
        '</v2/other/tags/list?last=1>; rel="next"; rel="preload"',
        '<?last=%3E%0d%0aX-Evil:1>; rel="next"',
    ],
)
async def test_a_link_to_the_next_page_is_never_followed_nor_shown(
    straight: NodeClient, plain: ScriptedRegistry, world: World, link: str
) -> None:
    link = link.replace("{canary}", str(world.canary_port))
    plain.script(on(kind="tags"), Reply(200, document={"tags": ["1"]}, headers={"Link": link}))
    got = await straight.get(TAGS)
    assert (got.status, json.loads(got.body)["tags"]) == (200, ["1"])
    link_header = got.header("Link")
    assert link_header is None or link_header.startswith(f"</v2/{NAME}/tags/list?")
    assert not any(
        word in (link_header or "") for word in ("evil", "169.254", "file:", "account", "scope", "%0d", "%0D")
    )
    world.assert_untouched()


@pytest.mark.parametrize("name", ["Location", "Content-Location", "Refresh", "Link", "Alt-Svc", "Set-Cookie"])
async def test_headers_that_name_addresses_are_not_passed_on(
    straight: NodeClient, plain: ScriptedRegistry, world: World, image: Image, name: str
) -> None:
    address = f"http://127.0.0.1:{world.canary_port}/"
    value = {"Refresh": f"0; url={address}", "Link": f"<{address}>; rel=next", "Alt-Svc": 'h2="evil.example:443"'}
    plain.script(on(), SetHeader(name, value.get(name, address)))
    for target in (manifest(), blob(layer_of(image)[0]), f"/v2/{NAME}/referrers/{image.digest}?ns={REG}"):
        got = await straight.get(target)
        assert got.status == 200
        assert got.header(name) is None
    world.assert_untouched()


@pytest.mark.parametrize(
    "query",
    [
        "account=admin",
        "scope=repository:evil:push",
        "service=evil",
        "mount=x&from=team/secret",
        "N=5",
        "last%00=1",
    ],
)
@pytest.mark.parametrize("what", ["tags/list", "referrers"])
async def test_only_what_the_api_knows_of_a_query_goes_upstream(
    straight: NodeClient, plain: ScriptedRegistry, image: Image, what: str, query: str
) -> None:
    path = what if what == "tags/list" else f"referrers/{image.digest}"
    got = await straight.get(f"/v2/{NAME}/{path}?{query}&n=5&ns={REG}")
    assert got.status in {200, 400}
    assert {entry.query for entry in plain.record.all()} <= {(("n", "5"),)}


@pytest.mark.parametrize(
    "query", ["n=2147483648", "n=99999999999999999999", "n=-1", "n=1&n=2", "n=1e9", "n=%D9%A3", f"last={'x' * 256}"]
)
async def test_paging_is_bounded(straight: NodeClient, plain: ScriptedRegistry, query: str) -> None:
    got = await straight.get(f"/v2/{NAME}/tags/list?{query}&ns={REG}")
    assert got.status in {200, 400}
    assert {entry.query for entry in plain.record.all()} <= {(("n", "10000"),)}


async def test_a_catalog_is_not_served(straight: NodeClient, plain: ScriptedRegistry) -> None:
    for target in ("/v2/_catalog", "/v2/_catalog?n=2147483648", f"/v2/_catalog?ns={REG}", f"/v2/{REG}/_catalog"):
        assert (await straight.get(target)).status in {400, 405}
    assert plain.record.all() == ()
