"""`ns=` names a registry and never an address: what is not configured is refused before any request."""

import pytest

from proxy.testbed.images import Image
from tests.fakes.client import NodeClient
from tests.fakes.proxy import NAME, REG, blob, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import World

pytestmark = pytest.mark.security

DIGEST = f"sha256:{'a' * 64}"
FOREIGN = (
    "169.254.169.254",
    "169.254.169.254:80",
    "127.0.0.1",
    "127.0.0.1:{canary}",
    "localhost:{canary}",
    "%5B::1%5D",
    "[::1]:{canary}",
    "2130706433",
    "evil.example",
    "evil.example:443",
    "registry.example",
    "http://evil.example",
    "https%3A%2F%2Fevil.example",
    "//evil.example",
    "evil.example/..",
    "evil.example%23",
    "evil.example%3F",
    "user%40evil.example",
    "reg.example%40evil.example",
    "reg.example.evil.example",
    "reg.example.",
    "reg.example:",
    "reg.example:0443",
    "reg.example:00443",
    "reg.example:+443",
    "reg.example:65536",
    "reg.example:4a",
    "-reg.example",
    "REG.EXAMPLE:",
    "reg.example:443",
    "reg.example%00",
    "reg.example%0d%0aHost:evil.example",
    "%20reg.example",
    "reg%2eexample%20",
    "r%C3%A9g.example",
    "*",
    "..",
    "",
    "x" * 3000,
)


@pytest.mark.parametrize("namespace", FOREIGN)
async def test_a_registry_that_is_not_configured_is_refused(
    node: NodeClient, upstream: ScriptedRegistry, world: World, namespace: str
) -> None:
    namespace = namespace.replace("{canary}", str(world.canary_port))
    for target in (f"/v2/{NAME}/manifests/1?ns={namespace}", f"/v2/{NAME}/blobs/{DIGEST}?ns={namespace}"):
        got = await node.get(target)
        assert (got.status, got.code) in {(403, "DENIED"), (400, "NAME_INVALID")}
    assert upstream.record.all() == ()
    assert world.lookups == []
    world.assert_untouched()


@pytest.mark.parametrize(
    "query", [f"ns={REG}&ns=evil.example", f"ns=evil.example&ns={REG}", f"ns={REG}&ns={REG}", f"ns={REG}&n%73={REG}"]
)
async def test_two_of_them_are_malformed(
    node: NodeClient, upstream: ScriptedRegistry, world: World, query: str
) -> None:
    got = await node.get(f"/v2/{NAME}/manifests/1?{query}")
    assert (got.status, got.code) == (400, "NAME_INVALID")
    assert upstream.record.all() == ()
    world.assert_untouched()


@pytest.mark.parametrize(
    "path", ["evil.example/library/app", "169.254.169.254/library/app", "127.0.0.1/app", "localhost/app", "a.b/c/d"]
)
async def test_an_address_in_the_path_is_no_registry_either(
    node: NodeClient, upstream: ScriptedRegistry, world: World, path: str
) -> None:
    got = await node.get(f"/v2/{path}/manifests/1")
    assert (got.status, got.code) == (403, "DENIED")
    assert upstream.record.all() == ()
    world.assert_untouched()


@pytest.mark.parametrize("namespace", ["169.254.169.254", "evil.example", "127.0.0.1:80", "localhost:5000"])
async def test_under_the_wildcard_it_is_a_parameter_of_the_endpoint(
    plain: ScriptedRegistry, world: World, namespace: str
) -> None:
    endpoint = {"url": plain.url, "forwardNamespace": True}
    configured = settings([]) | {"registries": {"*": {"endpoints": [endpoint]}}}
    async with started(configured) as proxy:
        world.knows(f"{proxy.node.host}:{proxy.node.port}", plain.url)
        await proxy.node.get(blob(DIGEST, registry=namespace))
    assert plain.record.all()
    assert {entry.query for entry in plain.record.all()} == {(("ns", namespace),)}
    assert namespace not in world.lookups
    world.assert_untouched()


@pytest.mark.parametrize("namespace", ["REG.EXAMPLE", "Reg.example", "rEG.eXAMPLE"])
async def test_a_registry_is_named_in_any_case(plain: ScriptedRegistry, image: Image, namespace: str) -> None:
    async with started(settings([plain.url])) as proxy:
        got = await proxy.node.get(f"/v2/{NAME}/manifests/1?ns={namespace}")
    assert (got.status, got.body, got.header("OCI-Namespace")) == (200, image.manifest, REG)


SPELLINGS = [
    "corp.example",
    "CORP.example",
    "corp.example:443",
    "corp.example:",
    "corp.example:0443",
    "corp.example:00443",
    "Corp.Example:",
    "corp.example:000443",
    "corp.example.",
    "corp.example:443:443",
    "[corp.example]",
]


@pytest.mark.parametrize("namespace", SPELLINGS)
async def test_no_spelling_of_a_registry_passes_a_rule_that_denies_it(plain: ScriptedRegistry, namespace: str) -> None:
    endpoint = {"url": plain.url, "forwardNamespace": True}
    access = [{"action": "deny", "registries": "corp.example"}, {"action": "allow"}]
    configured = settings([]) | {"registries": {"*": {"endpoints": [endpoint]}}, "access": access}
    async with started(configured) as proxy:
        assert (await proxy.node.get(f"/v2/{NAME}/manifests/1?ns=other.example")).status == 404
        before = len(plain.record.all())
        got = await proxy.node.get(f"/v2/{NAME}/manifests/1?ns={namespace}")
    assert (got.status, len(plain.record.all())) == (403, before)


@pytest.mark.parametrize(
    "namespace", ["[::1]:5000", "[0:0:0:0:0:0:0:1]:5000", "[::0001]:5000", "[0::1]:5000", "[::1]:05000"]
)
async def test_nor_does_one_of_an_address(plain: ScriptedRegistry, namespace: str) -> None:
    endpoint = {"url": plain.url, "forwardNamespace": True}
    access = [{"action": "deny", "registries": "[::1]:5000"}, {"action": "allow"}]
    configured = settings([]) | {"registries": {"*": {"endpoints": [endpoint]}}, "access": access}
    async with started(configured) as proxy:
        assert (await proxy.node.get(f"/v2/{NAME}/manifests/1?ns={namespace}")).status == 403
    assert plain.record.all() == ()
