"""What is counted: each thing once, under the right words."""

import time
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from prometheus_client import REGISTRY

from proxy.observe.metrics import UPSTREAM_UP, forget, known
from proxy.testbed.images import Image, make_image
from proxy.testbed.tokens import Rules
from tests.fakes.changes import Reply
from tests.fakes.client import NodeClient
from tests.fakes.matching import on
from tests.fakes.proxy import LOGIN, REG, UPSTREAM, authority, blob, layer_of, manifest, metric, settings, started
from tests.fakes.registry import ScriptedRegistry

PREFIX = "scope_proxy_"
LAST_SUCCESS = f"{PREFIX}upstream_last_success_timestamp_seconds"
NOT_AFTER = f"{PREFIX}tls_certificate_not_after_timestamp_seconds"


class Counted:
    """How much metrics have grown since this was made."""

    def __init__(self, *names: tuple[str, dict[str, str]]) -> None:
        self._before = [(name, labels, metric(PREFIX + name, **labels)) for name, labels in names]

    def now(self) -> list[float]:
        return [metric(PREFIX + name, **labels) - before for name, labels, before in self._before]


def leaf_end(leaf: trustme.LeafCert) -> float:
    """When a certificate ends, as a timestamp."""
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).not_valid_after_utc.timestamp()


def of_upstream(name: str, **labels: str) -> tuple[str, dict[str, str]]:
    return name, {"upstream": REG, **labels}


@pytest.fixture
def cached_settings(registry: ScriptedRegistry, tmp_path: Path) -> dict[str, Any]:
    return settings([registry.url], login=LOGIN, cache={"path": str(tmp_path / "cache")})


async def test_latencies_and_bytes_tell_hits_from_misses(cached_settings: dict[str, Any], image: Image) -> None:
    digest, data = layer_of(image)
    by_way = [{"route": route, "cache": way} for route in ("manifest", "blob") for way in ("miss", "hit")]
    firsts = Counted(*(("http_first_byte_seconds_count", labels) for labels in by_way))
    wholes = Counted(*(("http_request_duration_seconds_count", labels) for labels in by_way))
    sent = Counted(*(("http_response_bytes_total", labels) for labels in by_way))
    received = Counted(of_upstream("upstream_bytes_total"))
    async with started(cached_settings) as proxy:
        for _ in range(3):
            assert (await proxy.node.get(manifest())).status == 200
            assert (await proxy.node.get(blob(digest))).body == data
    assert firsts.now() == wholes.now() == [1, 2, 1, 2]
    assert sent.now() == [len(image.manifest), 2 * len(image.manifest), len(data), 2 * len(data)]
    assert received.now() == [len(image.manifest) + len(data)]


async def test_errors_have_no_way_and_no_first_byte(node: NodeClient) -> None:
    errors = Counted(("http_request_duration_seconds_count", {"route": "manifest", "cache": ""}))
    bytes_of = Counted(("http_first_byte_seconds_count", {"route": "manifest", "cache": ""}))
    assert (await node.get(manifest("unknown"))).status == 404
    assert (errors.now(), bytes_of.now()) == ([1], [0])


@pytest.mark.parametrize(
    ("method", "target", "reason"),
    [
        ("GET", manifest(name="UPPER"), "bad_name"),
        ("GET", blob("sha256:1"), "bad_digest"),
        ("GET", manifest(registry="unknown.example"), "bad_ns"),
        ("DELETE", manifest(), "method"),
        ("GET", f"/v2/{'x' * 8000}/manifests/1", "too_large"),
        ("GET", "http://reg.example/v2/", "malformed"),
    ],
    ids=lambda value: value if "/" not in value else "",
)
async def test_what_is_refused_is_counted_by_its_reason(
    node: NodeClient, method: str, target: str, reason: str
) -> None:
    refused = Counted(("http_rejected_total", {"reason": reason}))
    assert (await node.send(method, target)).status >= 400
    assert refused.now() == [1]


async def test_what_a_rule_of_access_forbids_is_counted(registry: ScriptedRegistry) -> None:
    refused = Counted(("http_rejected_total", {"reason": "access"}))
    rules = [{"action": "deny", "registries": [REG]}]
    async with started(settings([registry.url], login=LOGIN, access=rules)) as proxy:
        assert (await proxy.node.get(manifest())).status == 403
    assert refused.now() == [1]
    assert not registry.record.all()


async def test_a_rule_is_counted_for_each_request_that_it_rewrites(
    node: NodeClient, registry: ScriptedRegistry
) -> None:
    registry.add(make_image("other/app", "1"))
    rewritten = Counted(of_upstream("rewrites_total", rule="^library/(.+)$"))
    for target in (manifest(), manifest(), manifest(name="other/app")):
        assert (await node.get(target)).status in {200, 403}
    assert rewritten.now() == [2]


async def test_an_upstream_is_down_when_all_its_endpoints_are_and_up_again_when_one_answers(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(dialect="none")) as one,
        ScriptedRegistry([], Rules(dialect="none")) as two,
    ):
        first = one.script(on("GET").times(3), Reply(502))
        second = two.script(on("GET").times(3), Reply(503))
        retries = Counted(of_upstream("upstream_retries_total"))
        forget(UPSTREAM_UP, known(UPSTREAM_UP))  # what another test left
        async with started(settings([one.url, two.url])) as proxy:
            assert metric(f"{PREFIX}upstream_up", upstream=REG) == 1
            assert (await proxy.node.get(manifest())).status == 503
            assert metric(f"{PREFIX}upstream_up", upstream=REG) == 0
            assert (first.fired, second.fired, retries.now()) == (3, 3, [5])
            before = time.time()
            assert (await proxy.node.get(manifest())).body == image.manifest
            assert metric(f"{PREFIX}upstream_up", upstream=REG) == 1
            assert before - 1 <= metric(LAST_SUCCESS, upstream=REG) <= time.time()


@pytest.mark.parametrize("is_cached", [True, False])
async def test_what_passes_by_the_store_is_counted_as_bypass(
    registry: ScriptedRegistry, cached_settings: dict[str, Any], image: Image, *, is_cached: bool
) -> None:
    kinds = ("tag", "manifest", "blob")
    passed = Counted(*(("cache_requests_total", {"kind": kind, "result": "bypass"}) for kind in kinds))
    async with started(cached_settings if is_cached else settings([registry.url], login=LOGIN)) as proxy:
        assert (await proxy.node.send("HEAD", manifest())).status == 200
        for target in (manifest(), manifest(image.digest), blob(layer_of(image)[0])):
            assert (await proxy.node.get(target)).status == 200
    assert passed.now() == ([0, 0, 0] if is_cached else [2, 1, 1])


async def test_a_store_that_is_closed_has_no_size(cached_settings: dict[str, Any], image: Image) -> None:
    gauges = [f"{PREFIX}cache_{name}" for name in ("bytes", "limit_bytes", "objects")]
    async with started(cached_settings) as proxy:
        assert (await proxy.node.get(blob(layer_of(image)[0]))).status == 200
        assert metric(f"{PREFIX}cache_limit_bytes") > 0
    assert [metric(name) for name in gauges] == [0, 0, 0]


async def test_an_upstream_with_one_good_endpoint_is_up(image: Image) -> None:
    async with (
        ScriptedRegistry([image], Rules(dialect="none")) as one,
        ScriptedRegistry([], Rules(dialect="none")) as two,
    ):
        two.script(on("GET"), Reply(503))
        async with started(settings([two.url, one.url])) as proxy:
            for _ in range(3):
                assert (await proxy.node.get(manifest())).status == 200
                assert metric(f"{PREFIX}upstream_up", upstream=REG) == 1


async def test_refusals_are_counted_with_the_credentials_of_the_configuration(registry: ScriptedRegistry) -> None:
    names = of_upstream("upstream_refused_total"), of_upstream("token_requests_total", result="denied")
    refused = Counted(*names, of_upstream("token_fetch_duration_seconds_count"))
    async with started(settings([registry.url], login={**LOGIN, "password": "wrong"})) as proxy:
        assert (await proxy.node.get(manifest())).status == 403
    assert refused.now() == [1, 1, 1]


async def test_the_end_of_every_certificate_is_reported(registry: ScriptedRegistry, tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("127.0.0.1")
    files = {"certFile": tmp_path / "tls.crt", "keyFile": tmp_path / "tls.key"}
    leaf.cert_chain_pems[0].write_to_path(files["certFile"])
    leaf.private_key_pem.write_to_path(files["keyFile"])
    tls = {key: str(file) for key, file in files.items()}
    configuration = settings([registry.url], host={"tls": tls}) | {
        "listeners": [{"address": "127.0.0.1:0", "tls": tls}]
    }
    async with started(configuration):
        settings_of = ("listeners[0].tls", f"hosts.{authority(registry.url)}.tls")
        ends = {REGISTRY.get_sample_value(NOT_AFTER, {"name": setting}) for setting in settings_of}
    assert ends == {leaf_end(leaf)}


async def test_everything_configured_is_there_as_nothing(registry: ScriptedRegistry) -> None:
    name = "fresh.example"
    rules = [{"pattern": "^fresh/(.+)$", "replacement": f"{UPSTREAM}/$1"}]
    entry = {name: {"endpoints": [registry.url], "rewrites": rules}}
    async with started(settings([registry.url]) | {"registries": entry}):
        pass
    values = {
        f"{PREFIX}rewrites_total": {"rule": "^fresh/(.+)$"},
        f"{PREFIX}token_requests_total": {"result": "denied"},
        f"{PREFIX}upstream_request_duration_seconds_count": {"op": "blob"},
        f"{PREFIX}upstream_last_success_timestamp_seconds": {},
    }
    found = [REGISTRY.get_sample_value(key, {"upstream": name, **labels}) for key, labels in values.items()]
    assert found == [0] * len(values)
