"""Rate limits that registries report: in the metrics and on the status page, without a name of a client."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from proxy.config.load import load_config
from proxy.observe.metrics import forget, known
from proxy.runtime.reload import ConfigSource
from proxy.runtime.run import running
from proxy.runtime.series import RATE_LIMITS
from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Account, Rules
from tests.fakes.canaries import OTHER_PASSWORD, PASSWORD, basic
from tests.fakes.changes import Redirect, SetHeader
from tests.fakes.client import NodeClient, read_answer
from tests.fakes.matching import on
from tests.fakes.metered import WINDOW, Metered
from tests.fakes.objectstore import ObjectStore
from tests.fakes.proxy import (
    ACCOUNT,
    LOGIN,
    OTHER_LOGIN,
    REG,
    UPSTREAM,
    USER,
    authority,
    blob,
    layer_of,
    manifest,
    metric,
    settings,
    started,
)
from tests.fakes.registry import ScriptedRegistry

NAME = "scope_proxy_upstream_rate_limit"
MANIFEST = on(None, "manifest")


def values(credential: str, upstream: str = REG) -> tuple[float, ...]:
    """Limit, remaining and window of a series."""
    names = ("requests", "remaining", "window_seconds")
    return tuple(metric(f"{NAME}_{name}", upstream=upstream, credential=credential) for name in names)


def series() -> set[tuple[str, ...]]:
    """Upstream and credential of all series."""
    return {
        tuple(sample.labels.values())
        for family in REGISTRY.collect()
        if family.name.startswith(f"{NAME}_")
        for sample in family.samples
    }


@pytest.fixture(autouse=True)
def _no_series() -> None:
    for gauge in RATE_LIMITS:
        forget(gauge, known(gauge))


async def page(admin: NodeClient, target: str) -> bytes:
    async with admin.opened("GET", target, ("Connection", "close")) as (reader, _):
        return (await read_answer(reader, "GET")).body


async def limits(admin: NodeClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await page(admin, "/status.json"))["rate_limits"]
    return found


async def test_each_credential_has_its_series(registry: ScriptedRegistry, plain: ScriptedRegistry) -> None:
    registry.script(MANIFEST.with_header("Authorization"), Metered(200, 77))
    plain.script(MANIFEST, Metered(100, 40, window=3600))
    own = settings([registry.url], login=LOGIN)
    own["registries"]["open.example"] = {"endpoints": [plain.url], "rewrites": own["registries"][REG]["rewrites"]}
    async with started(own) as proxy:
        assert series() == set()
        await proxy.node.get(manifest())
        assert values(USER) == (200, 76, WINDOW)
        await proxy.node.get(manifest(registry="open.example"))
        assert values("anonymous", "open.example") == (100, 39, 3600)
        assert series() == {(REG, USER), ("open.example", "anonymous")}
        reset = metric(f"{NAME}_reset_timestamp_seconds", upstream=REG, credential=USER)
        found = {each["upstream"]: each for each in await limits(proxy.admin)}
    assert found[REG] == {
        "upstream": REG,
        "credential": USER,
        "limit": 200,
        "remaining": 76,
        "window": WINDOW,
        "reset_at": reset,
        "at": found[REG]["at"],
        "low": False,
    }
    assert abs(found[REG]["at"] + WINDOW - reset) < 1


async def test_credentials_of_clients_are_one_series_without_their_names(image: Image) -> None:
    accounts = (ACCOUNT, Account("other", OTHER_PASSWORD))
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}
    async with ScriptedRegistry([image], Rules(accounts=accounts)) as registry:
        meter = Metered(200, 60)
        registry.script(MANIFEST.with_header("Authorization"), meter)
        async with started(settings([registry.url], listeners=[listener])) as proxy:
            for user, password in ((USER, PASSWORD), ("other", OTHER_PASSWORD)):
                header = ("Authorization", f"Basic {basic(user, password)}")
                assert (await proxy.node.get(manifest(), header)).body == image.manifest
                assert values("client")[1] == meter.remaining
            assert series() == {(REG, "client")}
            [found] = await limits(proxy.admin)
    assert (found["credential"], found["remaining"]) == ("client", meter.remaining)


async def test_the_page_tells_that_little_is_left(registry: ScriptedRegistry) -> None:
    registry.script(MANIFEST.with_header("Authorization"), Metered(100, 4))
    async with started(settings([registry.url], login=LOGIN)) as proxy:
        await proxy.node.get(manifest())
        status = json.loads(await page(proxy.admin, "/status.json"))
        text = re.sub(r"<[^>]+>|\s+", " ", (await page(proxy.admin, "/status")).decode())
    assert (status["level"], status["rate_limits"][0]["low"]) == ("warning", True)
    assert status["findings"][0]["text"] == f"{REG} has 3 of 100 requests left ({USER})."
    assert f"{REG} has 3 of 100 requests left ({USER})." in text
    assert re.search(rf"{re.escape(REG)} +{USER} +3 of 100 +6 h +in 5 h", text)
    assert "192.0.2.7" not in text


async def test_a_429_is_a_report_too(plain: ScriptedRegistry) -> None:
    plain.script(MANIFEST, Metered(100, 0))
    async with started(settings([plain.url])) as proxy:
        assert (await proxy.node.get(manifest())).status == 503
        assert values("anonymous")[:2] == (100, 0)


async def test_what_an_object_store_reports_is_not_the_registry_s(plain: ScriptedRegistry, image: Image) -> None:
    digest, content = layer_of(image)
    async with ObjectStore() as objects:
        objects.script(on(), SetHeader("ratelimit-remaining", "1"), SetHeader("ratelimit-limit", "9"))
        plain.script(on(kind="blob"), Redirect(objects.signer(plain.library)))
        async with started(settings([plain.url])) as proxy:
            assert (await proxy.node.get(blob(digest))).body == content
    assert len(objects.record.all()) == 1
    assert series() == set()


def _written(file: Path, configuration: Mapping[str, Any]) -> ConfigSource:
    file.write_text(json.dumps(configuration))
    return ConfigSource(lambda: load_config(file), (), (), watches=False)


async def test_a_reload_removes_what_left_the_configuration(tmp_path: Path) -> None:
    image = make_image(UPSTREAM, "1")
    accounts = (ACCOUNT, Account("other", OTHER_PASSWORD))
    file = tmp_path / "config.yaml"
    async with ScriptedRegistry([image], Rules(accounts=accounts)) as registry:
        registry.script(MANIFEST.with_header("Authorization"), Metered(100, 50))
        before = settings([registry.url], login=LOGIN)
        entry = before["registries"][REG]
        both = {**before, "registries": {REG: entry, "goes.example": entry}}
        origin = _written(file, both)
        async with running(await asyncio.to_thread(load_config, file), origin=origin) as state:
            assert state.admin_address is not None
            node, admin = NodeClient(state.addresses[0]), NodeClient(state.admin_address)
            for name in (REG, "goes.example"):
                assert (await node.get(manifest(registry=name))).status == 200
            assert series() == {(REG, USER), ("goes.example", USER)}
            _written(file, before)
            await state.reloader.reload()
            assert series() == {(REG, USER)}
            assert [each["upstream"] for each in await limits(admin)] == [REG]
            _written(file, {**before, "hosts": {authority(registry.url): {"credentials": OTHER_LOGIN}}})
            await state.reloader.reload()
            assert series() == set()
            assert (await node.get(manifest())).status == 200
            assert series() == {(REG, OTHER_LOGIN["username"])}
