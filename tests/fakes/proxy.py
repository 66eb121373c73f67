"""Starts the proxy in this process, with a configuration made for a test, and a node that talks to it."""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import REGISTRY

from proxy.config.load import parse_config
from proxy.runtime.run import running
from proxy.runtime.tuning import ServerTuning, Tuning
from proxy.testbed.images import Image
from proxy.testbed.tokens import Account
from tests.fakes.canaries import IDENTITY_TOKEN, OTHER_PASSWORD, PASSWORD
from tests.fakes.client import Budgets, NodeClient

CACHE_SWITCH = "SCOPE_PROXY_TEST_CACHE"
"""Environment variable: with it the tests that were written for the proxy without a cache run with an empty one."""
REG = "reg.example"
"""The registry that nodes name."""
NAME = "library/app"
"""The repository that nodes ask for ..."""
UPSTREAM = "team/app"
"""... and what it is called upstream."""
SCOPE = f"repository:{UPSTREAM}:pull"
REWRITES = ({"pattern": "^library/(.+)$", "replacement": "team/$1"},)
USUAL = {"shutdownGrace": "200ms", "drainIdle": "0s"}
"""The budgets as they are by default."""
SHORT = {"manifest": "1s", "blob": "2s", "connect": "1s", "stall": "500ms", "shutdownGrace": "200ms"}
"""Budgets for tests that see their end; in others a busy machine would end them as well."""
NO_RESERVE = {"reserveFree": "1Ki"}
"""A full disk is then no matter for tests: by default the cache leaves 1 GiB free."""
BODY_STALLS = 4
"""Times that one body may stall: at its first request and at three further ones."""
USER = "robot"
LOGIN = {"username": USER, "password": PASSWORD}
ACCOUNT = Account(USER, PASSWORD, identity_token=IDENTITY_TOKEN)
OTHER_LOGIN = {"username": "other", "password": OTHER_PASSWORD}


@dataclass(frozen=True, slots=True)
class ProxyUnderTest:
    """A proxy that runs, and a node in front of it."""

    node: NodeClient
    admin: NodeClient
    metrics: NodeClient | None = None
    """The address without the status page, where one is configured."""


def manifest(reference: str = "1", name: str = NAME, registry: str = REG) -> str:
    """The target of a manifest request, as containerd writes it."""
    return f"/v2/{name}/manifests/{reference}?ns={registry}"


def blob(digest: str, name: str = NAME, registry: str = REG) -> str:
    """The target of a blob request."""
    return f"/v2/{name}/blobs/{digest}?ns={registry}"


def authority(url: str) -> str:
    """`host:port` of a URL, which is the key of `hosts`."""
    return urlsplit(url).netloc


def settings(
    endpoints: Iterable[str],
    *,
    login: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    host: Mapping[str, Any] | None = None,
    timeouts: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A configuration of one registry; `login` and `host` hold for each of its endpoints."""
    urls = list(endpoints)
    entry = {**({"credentials": login} if login is not None else {}), **(host or {})}
    return {
        "version": 1,
        "listeners": [{"address": "127.0.0.1:0"}],
        "admin": {"address": "127.0.0.1:0"},
        "registries": {REG: {"endpoints": urls, "rewrites": list(REWRITES)}},
        "hosts": {authority(url): entry for url in urls} if entry else {},
        "timeouts": {**USUAL, **(timeouts or {})},
        **more,
    }


AT_ONCE = Tuning(pause=lambda _round: 0.0)
"""No pause between two rounds of attempts: the faults of tests do not pass by themselves."""


def server_tuning(**values: Any) -> Tuning:
    """The tuning of tests with other values of the server."""
    return replace(AT_ONCE, server=ServerTuning(**values))


class MovedClock:
    """A monotonic clock that can be moved ahead."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def move(self, seconds: float) -> None:
        """Move it ahead."""
        self._ahead += seconds


@asynccontextmanager
async def started(configuration: Mapping[str, Any], tuning: Tuning = AT_ONCE) -> AsyncIterator[ProxyUnderTest]:
    """Serve a configuration until the end of the block; where it says nothing of a cache, `CACHE_SWITCH` does."""
    if os.environ.get(CACHE_SWITCH) and "cache" not in configuration:
        with tempfile.TemporaryDirectory(prefix="cache-", ignore_cleanup_errors=True) as directory:
            async with started({**configuration, "cache": {"path": directory}}, tuning) as proxy:
                yield proxy
        return
    cache = configuration.get("cache")
    document = {**configuration, "cache": {**NO_RESERVE, **cache}} if cache else configuration
    loaded = await asyncio.to_thread(parse_config, json.dumps(document), "test.yaml")
    times = loaded.config.timeouts
    budgets = Budgets(times.manifest, times.blob + BODY_STALLS * times.stall)
    asks = loaded.config.listeners[0].clients.auth != ("none",)
    async with running(loaded, tuning=tuning) as state:
        assert state.admin_address is not None
        node = NodeClient(state.addresses[0], budgets, may_be_challenged=asks)
        metrics = NodeClient(state.metrics_address) if state.metrics_address is not None else None
        yield ProxyUnderTest(node, NodeClient(state.admin_address), metrics)


def layer_of(image: Image) -> tuple[str, bytes]:
    """Digest and bytes of the last blob of an image, its layer."""
    return list(image.blobs.items())[-1]


def metric(name: str, **labels: str) -> float:
    """The value of a metric in this process; 0 before its first count."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
