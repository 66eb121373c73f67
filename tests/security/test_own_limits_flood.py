"""Floods of anonymous requests, at a proxy that runs as a program: they give nobody back a revoked right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from proxy.testbed.tokens import Rules
from tests.fakes.client import WITHIN, Got, NodeClient
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import REG, REWRITES, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import ACCOUNTS, GUEST, OWNER, PRIVATE, PUBLIC, SECOND, login, revoke
from tests.security.peak import RecordProperty, program

pytestmark = [pytest.mark.security, pytest.mark.slow, pytest.mark.timeout(120)]

STRANGERS = 950
CLIENTS = {"auth": "upstream", "allowAnonymous": True, "proofAge": "1ms", "whenUnreachable": "lastProof"}
REQUESTS = {
    "manifests": on(kind="manifest", repository="team/open"),
    "heads": on("HEAD", repository="team/open"),
    "blobs": on(kind="blob", repository="team/open"),
    "tokens": on(kind="token").where(lambda call: not call.header("Authorization")),
    "everything": on(repository="team/open"),
}
"""What the upstream does not answer to strangers."""


@asynccontextmanager
async def owned(directory: Path, record: RecordProperty) -> AsyncIterator[tuple[ScriptedRegistry, NodeClient]]:
    """A proxy that runs as a program; the owner has pulled and is refused now, and somebody else has newer content."""
    images = [make_image("team/app", "1"), make_image("team/app", "2"), make_image("team/open", "1")]
    async with ScriptedRegistry(images, Rules(accounts=ACCOUNTS, anonymous=True)) as registry:
        entry = {"endpoints": [registry.url], "rewrites": list(REWRITES)}
        times = {"manifest": "2s", "blob": "2s", "drainIdle": "0s", "shutdownGrace": "1s"}
        async with program(
            {REG: entry},
            record=record,
            clients=CLIENTS,
            timeouts=times,
            cache={"path": str(directory)},
            log={"level": "error"},
        ) as proxy:
            node = NodeClient(proxy.address, may_be_challenged=True)
            for tag, account in (("1", OWNER), ("2", SECOND)):
                assert (await node.get(manifest(tag, PRIVATE), login(account))).status == 200
            revoke(registry, GUEST, SECOND)
            yield registry, node


async def strangers(node: NodeClient, number: int, what: str) -> Got:
    """One request of the flood."""
    target = f"sha256:{number:064x}" if what == "blobs" else f"tag{number}"
    kind = "blobs" if what == "blobs" else "manifests"
    return await node.get(f"/v2/{PUBLIC}/{kind}/{target}?ns={REG}")


@pytest.mark.parametrize("what", REQUESTS)
async def test_a_flood_gives_nobody_back_a_right_that_was_taken_away(
    tmp_path: Path, record_property: RecordProperty, what: str
) -> None:
    async with owned(tmp_path / "cache", record_property) as (registry, node):
        until = asyncio.Event()
        registry.script(REQUESTS[what], Stall(BEFORE_HEADERS, until))
        registry.record.clear()
        async with asyncio.TaskGroup() as tasks:
            for number in range(STRANGERS):
                tasks.create_task(strangers(node, number, what))
            async with asyncio.timeout(WITHIN):
                await registry.record.wait(1)
            got = [await node.get(manifest(tag, PRIVATE), login(OWNER)) for tag in ("1", "2", "1")]
            until.set()
        assert {answer.status for answer in got} <= {403, 503}
        assert (await node.get(manifest("2", PRIVATE), login(OWNER))).status in {403, 503}
