"""A token server that answers wrong passwords late: who sends one makes the registry slow for nobody else."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.testbed.images import make_image
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached
from tests.fakes.canaries import basic
from tests.fakes.interrupts import BEFORE_HEADERS, Stall
from tests.fakes.matching import on
from tests.fakes.proxy import SHORT, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import ACCOUNTS, OWNER, login

pytestmark = pytest.mark.security

WRONG = replace(OWNER, password="canary-wrong")


async def test_a_wrong_password_that_is_answered_late_sends_nobody_else_to_another_endpoint(tmp_path: Path) -> None:
    image, rules, until = make_image("team/app", "1"), Rules(accounts=ACCOUNTS), asyncio.Event()
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}
    late = on(kind="token").where(lambda call: basic(WRONG.username, WRONG.password) in call.header("Authorization"))
    async with ScriptedRegistry([image], rules) as first, ScriptedRegistry([image], rules) as other:
        first.script(late, Stall(BEFORE_HEADERS, until))
        urls = [first.url, other.url]
        async with cached(urls, tmp_path / "cache", listeners=[listener], timeouts=SHORT) as node:
            got = await node.get(manifest(), login(WRONG))
            assert got.status in {401, 403, 503, 504}
            await other.record.wait(1, "token")
            before = len(other.record.of("manifest"))
            assert (await node.get(manifest(), login(OWNER))).body == image.manifest
            assert len(other.record.of("manifest")) == before, "the first endpoint is well"
        until.set()
