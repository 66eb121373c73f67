"""No secret in an answer, a log line or a metric: every test here checks that; this one shows that the check sees."""

import logging

import pytest

from proxy.testbed.images import Image
from tests.fakes.canaries import PASSWORD, Written, assert_no_secret, basic, metrics
from tests.fakes.changes import Redirect
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import LOGIN, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry


@pytest.mark.parametrize(
    "text", [PASSWORD, f"Basic {basic('robot', PASSWORD)}", "Bearer canary-token-1", "http://x/o?X-Amz-Signature=s"]
)
def test_the_check_sees_a_secret(text: str) -> None:
    with pytest.raises(AssertionError):
        assert_no_secret(f"GET / {text} 200")


async def test_the_logs_of_the_proxy_are_watched_at_debug(node: NodeClient, logs: Written) -> None:
    assert (await node.get(manifest())).status == 200
    assert any("token for repository:team/app:pull" in line for line in logs.lines)
    assert logging.getLogger("proxy").isEnabledFor(logging.DEBUG)


async def test_a_pull_with_everything_secret_shows_nothing(
    registry: ScriptedRegistry, image: Image, logs: Written
) -> None:
    """Password, token and signed address, with dead tokens and a store that breaks."""
    async with ObjectStore() as store, started(settings([registry.url], login=LOGIN)) as proxy:
        registry.script(on(kind="blob").with_header("Authorization"), Redirect(store.signer(registry.library)))
        digest, data = layer_of(image)
        assert (await proxy.node.get(blob(digest))).body == data
        registry.revoke_tokens()
        store.url = "http://127.0.0.1:1"  # addresses that lead nowhere from here on
        got = await proxy.node.get(blob(digest))
        assert (got.status, "127.0.0.1:1" in got.reason) == (503, False)
        async with proxy.admin.opened("GET", "/metrics", ("Connection", "close")) as (reader, _):
            page = (await reader.read(-1)).decode()
    assert "scope_proxy_upstream_requests_total" in page
    assert_no_secret(page, metrics(), *logs.lines)
