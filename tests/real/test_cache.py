"""The cache with real parts: what leaves the origin once, what is requested again, what survives."""

import concurrent.futures
import http.client
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.real import images
from tests.real.big_image import BigImage
from tests.real.containerd import Node
from tests.real.cri import CriError
from tests.real.images import PROJECT, Image
from tests.real.processes import START_TIMEOUT
from tests.real.proxy_process import Proxy
from tests.real.registry import Registry
from tests.real.through_proxy import FILES, MINI, StartProxy, assert_one_scope, hosts, point_at, registries
from tests.real.token_server import TokenServer

pytestmark = pytest.mark.slow

TWELVE = "cp.icr.io/cp/se-data-center-edge/twelve-layers:1"
BIG = "cp.icr.io/cp/se-data-center-edge/big:1"
MOVING = "cp.icr.io/cp/se-data-center-edge/moving:1"
MOVING_PATH = "/v2/cp/se-data-center-edge/moving/manifests/1?ns=cp.icr.io"
MINI_PATH = "/v2/cp/se-data-center-edge/mini-test/manifests/1?ns=cp.icr.io"
MANIFEST_BUDGET = 10.0
NODES = 4
BIG_TIMEOUT = 240.0
TAG_AGE = 3.0
POLL_PAUSE = 0.05

StartNode = Callable[[], Node]
StartCached = Callable[..., Proxy]


@pytest.fixture
def start_cached(
    cache_directory: Path, counted_registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> StartCached:
    """Start a proxy with a cache, in front of the registry; the arguments are settings of `cache`."""

    def start(workers: int = 1, **cache: object) -> Proxy:
        settings = {"path": str(cache_directory), "reserveFree": "1Ki", **cache}
        sections = {"cache": settings, "workers": workers}
        return start_proxy(registries(counted_registry.url), hosts(counted_registry, tokens), **sections)

    return start


@pytest.fixture
def fresh_node(start_node: StartNode) -> Callable[[Proxy], Node]:
    """Start a node that has nothing yet and asks the proxy."""

    def start(proxy: Proxy) -> Node:
        node = start_node()
        point_at(node, proxy)
        return node

    return start


def pull_at_once(nodes: list[Node], image: str, timeout: float = 60.0) -> None:
    with concurrent.futures.ThreadPoolExecutor(len(nodes)) as threads:
        list(threads.map(lambda node: node.cri.pull(image, timeout=timeout), nodes))


def once(*digests: str) -> dict[str, int]:
    return dict.fromkeys(digests, 1)


def blobs_of(image: Image) -> dict[str, int]:
    return once(*(blob.digest for blob in image.blobs))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what shows from outside only: the registry logs an answer after its last byte."""
    deadline = time.monotonic() + START_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_PAUSE)


def head(proxy: Proxy, target: str) -> Mapping[str, str]:
    """The headers of a manifest."""
    connection = http.client.HTTPConnection(proxy.address, timeout=START_TIMEOUT)
    try:
        connection.request("HEAD", target)
        with connection.getresponse() as answer:
            assert answer.status == 200
            return dict(answer.headers)
    finally:
        connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_cold_image_leaves_the_origin_once_for_four_nodes(
    fresh_node: Callable[[Proxy], Node],
    start_cached: StartCached,
    counted_registry: Registry,
    tokens: TokenServer,
    workers: int,
) -> None:
    proxy, image = start_cached(workers), images.twelve_layers()
    nodes = [fresh_node(proxy) for _ in range(NODES)]
    pull_at_once(nodes, TWELVE)
    for node in nodes:
        node.assert_complete(TWELVE, *image.files)
    assert counted_registry.counts("GET", "blobs") == blobs_of(image)
    manifests = counted_registry.counts("GET", "manifests")
    assert manifests.keys() == {image.manifest.digest}
    assert manifests.total() <= workers
    assert counted_registry.counts("HEAD", "manifests").total() <= workers
    assert tokens.scopes() == {f"repository:{image.repository}:pull"}
    assert len(tokens.requests) <= workers


@pytest.mark.parametrize(("tag_age", "heads"), [("1h", 0), ("0s", 1)], ids=["fresh", "old"])
def test_second_cold_node_costs_at_most_one_head(
    fresh_node: Callable[[Proxy], Node],
    start_cached: StartCached,
    counted_registry: Registry,
    tokens: TokenServer,
    tag_age: str,
    heads: int,
) -> None:
    proxy = start_cached(tagAge=tag_age)
    fresh_node(proxy).cri.pull(MINI)
    gets, before = counted_registry.counts("GET"), counted_registry.counts("HEAD").total()
    second = fresh_node(proxy)
    second.cri.pull(MINI)
    second.assert_complete(MINI, *FILES[MINI])
    assert counted_registry.counts("HEAD").total() - before == heads
    assert counted_registry.counts("GET") == gets
    assert_one_scope(tokens, MINI)


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_stays_over_a_restart_while_the_origin_is_down(
    fresh_node: Callable[[Proxy], Node], start_cached: StartCached, counted_registry: Registry, workers: int
) -> None:
    first = start_cached(workers)
    fresh_node(first).cri.pull(TWELVE)
    first.process.stop()
    counted_registry.process.stop()
    node = fresh_node(start_cached(workers, tagAge="0s"))
    node.cri.pull(TWELVE)
    node.assert_complete(TWELVE, *images.twelve_layers().files)


def test_origin_down_what_is_cached_pulls_by_tag_and_by_digest(
    fresh_node: Callable[[Proxy], Node], start_cached: StartCached, counted_registry: Registry
) -> None:
    proxy = start_cached(tagAge="0s")
    fresh_node(proxy).cri.pull(MINI)
    counted_registry.process.stop()
    by_digest = MINI.removesuffix(":1") + "@" + images.named(f"{PROJECT}/mini-test:1").manifest.digest
    for name in (MINI, by_digest):
        node = fresh_node(proxy)
        node.cri.pull(name)
        assert node.unpacked_files() >= set(FILES[MINI])
    stale = head(proxy, MINI_PATH)
    assert stale["X-Cache"] == "stale"
    assert stale["Warning"].startswith("110 ")


@pytest.mark.parametrize("name", ["mini-test:unknown", f"mini-test@sha256:{'0' * 64}", "never-seen:1"])
def test_origin_down_what_is_not_cached_fails_fast_and_clearly(
    fresh_node: Callable[[Proxy], Node], start_cached: StartCached, counted_registry: Registry, name: str
) -> None:
    proxy = start_cached()
    node = fresh_node(proxy)
    node.cri.pull(MINI)
    counted_registry.process.stop()
    with pytest.raises(CriError, match="503") as refusal:
        node.cri.pull(f"cp.icr.io/cp/se-data-center-edge/{name}", timeout=MANIFEST_BUDGET)
    assert counted_registry.address in str(refusal.value)
    assert "cannot be reached: Connection refused" in str(refusal.value)


def test_tag_that_moves_is_seen_after_its_age_and_not_before(
    fresh_node: Callable[[Proxy], Node],
    start_cached: StartCached,
    push: Callable[[Image], None],
    tokens: TokenServer,
) -> None:
    old, new = images.moved(0), images.moved(1)
    tokens.repositories |= {old.repository}
    push(old)
    proxy = start_cached(tagAge=f"{TAG_AGE:g}s")
    fresh_node(proxy).cri.pull(MOVING)
    push(new)
    started = confirmed = time.monotonic()
    while (found := head(proxy, MOVING_PATH))["Docker-Content-Digest"] == old.manifest.digest:
        confirmed = started - float(found["Age"]) if found["X-Cache"] == "hit" else started
        time.sleep(POLL_PAUSE)
        started = time.monotonic()
    assert started - confirmed >= TAG_AGE - 1  # Age has whole seconds
    node = fresh_node(proxy)
    node.cri.pull(MOVING)
    node.assert_complete(MOVING, *new.files)


def test_big_image_leaves_the_origin_once_for_two_nodes(
    fresh_node: Callable[[Proxy], Node], start_cached: StartCached, counted_registry: Registry, big_image: BigImage
) -> None:
    proxy = start_cached()
    nodes = [fresh_node(proxy) for _ in range(2)]
    pull_at_once(nodes, BIG, BIG_TIMEOUT)
    for node in nodes:
        assert node.content()[big_image.layer_digest] == big_image.layer_digest
    layers = [one for one in counted_registry.served("GET", "blobs") if one.path.endswith(big_image.layer_digest)]
    assert [one.size for one in layers] == [big_image.layer_size]


def test_removed_image_is_fetched_again(
    fresh_node: Callable[[Proxy], Node], start_cached: StartCached, counted_registry: Registry
) -> None:
    proxy = start_cached()
    fresh_node(proxy).cri.pull(MINI)
    assert "removed" in proxy.cache("rm", MINI).checked()
    until(lambda: head(proxy, MINI_PATH)["X-Cache"] != "hit")
    node = fresh_node(proxy)
    node.cri.pull(MINI)
    node.assert_complete(MINI, *FILES[MINI])
    image = images.named(f"{PROJECT}/mini-test:1")
    twice = dict.fromkeys((image.manifest.digest, *blobs_of(image)), 2)
    assert counted_registry.counts("GET") == twice


@pytest.mark.parametrize("through", [False, True], ids=["directory", "listener"])
def test_prefetched_image_pulls_while_the_origin_is_down(
    fresh_node: Callable[[Proxy], Node], start_cached: StartCached, counted_registry: Registry, *, through: bool
) -> None:
    proxy, image = start_cached(workers=2 if through else 1), images.multi_arch()
    name = "cp.icr.io/cp/se-data-center-edge/multi-arch:1"
    printed = proxy.cache("prefetch", *(("--through", proxy.url) if through else ()), name).checked()
    assert printed.startswith(f"{name}: ")
    parts = (image.manifest.digest, *(child.digest for child in image.children), *blobs_of(image))
    assert counted_registry.counts("GET") == once(*parts)
    counted_registry.process.stop()
    node = fresh_node(proxy)
    node.cri.pull(name)
    node.assert_complete(name, *image.files)
    listed = proxy.cache("ls", "--json").checked()
    assert image.manifest.digest in listed
    assert f"{len(parts)} objects" in proxy.cache("stat").checked()
    assert proxy.cache("verify").checked().endswith(" 0 removed\n")
