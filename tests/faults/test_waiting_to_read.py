"""Large bodies are read a few at a time: who waits for that says nothing of the upstream."""

from contextlib import AsyncExitStack

import pytest

from proxy.testbed.images import make_image
from proxy.transport.limits import LARGE_AT_ONCE, LARGE_BODY, large_place
from tests.fakes.client import NodeClient
from tests.fakes.proxy import REG, UPSTREAM, manifest, metric
from tests.fakes.registry import ScriptedRegistry


@pytest.mark.short_budgets
async def test_who_waits_to_read_a_large_body_blames_no_upstream(
    near_plain: NodeClient, plain: ScriptedRegistry
) -> None:
    """The places may be held by the bodies of another registry, which is slow on purpose."""
    plain.library.add(make_image(UPSTREAM, "large", extra={"annotations": {"a": "x" * (2 * LARGE_BODY)}}))
    assert (await near_plain.get(manifest())).status == 200
    before = metric("scope_proxy_upstream_errors_total", upstream=REG, reason="timeout")
    async with AsyncExitStack() as stack:
        for _ in range(LARGE_AT_ONCE):
            await stack.enter_async_context(large_place(LARGE_BODY + 1))
        got = await near_plain.get(manifest("large"))
    assert (got.status, got.code) == (503, "TOOMANYREQUESTS")
    assert metric("scope_proxy_upstream_errors_total", upstream=REG, reason="timeout") == before
    assert metric("scope_proxy_upstream_up", upstream=REG) == 1
    assert (await near_plain.get(manifest("large"))).status == 200
