"""Names, tags and digests that want to be paths: refused by their grammar, before any file or request."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from proxy.testbed.tokens import Rules
from tests.cache.serving import cached
from tests.fakes.client import NodeClient
from tests.fakes.proxy import NAME, REG
from tests.fakes.registry import ScriptedRegistry

pytestmark = [pytest.mark.security, pytest.mark.asyncio(loop_scope="module")]

HEX = "a" * 64
NAMES = (
    "..",
    "../..",
    "library/..",
    "library/../app",
    "library/./app",
    "./app",
    "library//app",
    "/library/app",
    "library/app/",
    "library/%2e%2e/app",
    "library/%2E%2E/%2E%2E/etc",
    "library/.%2e/app",
    "library/%252e%252e/app",
    "library%2f..%2f..%2fapp",
    "library%5c..%5capp",
    "library\\..\\app",
    "library/%00/app",
    "library/app%00",
    "library/app%0a",
    "library/%c0%ae%c0%ae/app",
    "library/%e0%80%ae/app",
    "library/%ef%bc%8e%ef%bc%8e/app",
    "library/%u002e%u002e/app",
    "library/app;/../x",
    "library/~root",
    "library/-app",
    "library/.hidden",
    "library/app.",
    "Library/App",
    "library/a b",
    "library/app%3fx",
    "library/app%23x",
    "library/app@x",
    "library/app:1",
    "C:/app",
    "a" * 256,
    "a/" * 127 + "ab",
)
REFERENCES = (
    "..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%5cx",
    ".1",
    "-1",
    "a" * 129,
    "1%00",
    "1%0a",
    "1%20",
    "1%3fx",
    "%c0%ae",
)
DIGESTS = (
    "sha256:",
    "sha256:..",
    "sha256:../../../../etc/passwd",
    "sha256:..%2f..%2fetc%2fpasswd",
    f"sha256:{'A' * 64}",
    f"sha256:{HEX}a",
    f"sha256:{HEX[1:]}",
    f"sha256:{HEX[1:]}g",
    f"sha256:{HEX}%00",
    f"sha256:{HEX}%0a",
    f"sha256:{HEX}/../x",
    f"sha256:{HEX[:-2]}..",
    f"SHA256:{HEX}",
    f"sha256::{HEX}",
    f"sha256+b64:{HEX}",
    f"sha512:{HEX}",
    f"sha1:{'a' * 40}",
    f"md5:{'a' * 32}",
    f"blake3:{HEX}",
    f"../sha256:{HEX}",
    f"sha256%3a..%2f{HEX}",
    f":{HEX}",
    HEX,
    f"sha256:{'%D9%A1' * 64}",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def silent() -> AsyncIterator[ScriptedRegistry]:
    """A registry that nobody is to ask."""
    async with ScriptedRegistry([], Rules(dialect="none")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def near(silent: ScriptedRegistry, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with a cache; after all attacks there is nothing beside the cache's directory."""
    directory = tmp_path_factory.mktemp("traversal")
    async with cached([silent.url], directory / "outer" / "cache") as node:
        yield node
    assert [path.name for path in directory.iterdir()] == ["outer"]
    assert [path.name for path in (directory / "outer").iterdir()] == ["cache"]
    assert not [path for path in (directory / "outer" / "cache" / "repositories").rglob("*") if path.is_file()]


async def refused(node: NodeClient, registry: ScriptedRegistry, target: str) -> None:
    """It is 400, and the upstream hears nothing."""
    for method in ("GET", "HEAD"):
        got = await node.send(method, f"{target}?ns={REG}")
        assert got.status == 400, target
        assert method == "HEAD" or got.code in {"NAME_INVALID", "DIGEST_INVALID"}
    assert registry.record.all() == ()


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_no_path(near: NodeClient, silent: ScriptedRegistry, name: str) -> None:
    for target in (f"/v2/{name}/manifests/1", f"/v2/{name}/blobs/sha256:{HEX}", f"/v2/{name}/tags/list"):
        await refused(near, silent, target.replace(" ", "%20"))


@pytest.mark.parametrize("reference", REFERENCES)
async def test_a_tag_is_no_path(near: NodeClient, silent: ScriptedRegistry, reference: str) -> None:
    await refused(near, silent, f"/v2/{NAME}/manifests/{reference}")


@pytest.mark.parametrize("digest", DIGESTS)
async def test_a_digest_is_no_path(near: NodeClient, silent: ScriptedRegistry, digest: str) -> None:
    await refused(near, silent, f"/v2/{NAME}/blobs/{digest}")
    await refused(near, silent, f"/v2/{NAME}/referrers/{digest}")
    if ":" in digest and "/" not in digest:
        await refused(near, silent, f"/v2/{NAME}/manifests/{digest}")
