"""A real Prometheus reads a proxy under real load: every panel and every alert of ours has data."""

import http.client
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from tests.docs.dashboards import CASES, RULES, Panel, alerts, panels
from tests.docs.exported import FOREIGN
from tests.fakes.app_thread import serving
from tests.real import images
from tests.real.images import PROJECT, Image
from tests.real.processes import START_TIMEOUT, environment, free_port, run, scratch
from tests.real.programs import require
from tests.real.prometheus import Prometheus, prometheus
from tests.real.proxy_process import Proxy, serving_proxy
from tests.real.registry import token_registry
from tests.real.signing import Signer
from tests.real.through_proxy import hosts, registries
from tests.real.token_server import TokenServer

pytestmark = pytest.mark.slow

JOB = "scope-proxy"
DEAD = "dead.example"
"""A registry that nobody serves."""
LIMITED = "limited.example"
"""A registry that has nothing, and limits requests for it."""
IDLE = "docker.io"
"""A registry whose rule matches nothing here."""
REPOSITORY = "cp/se-data-center-edge"
RANGE = "2m"
"""What stands for ranges that Grafana chooses: all of the test."""
POLL_PAUSE = 0.1
NAMES = ("mini-test:1", "twelve-layers:1", "zstd:1")
WRONG = (
    f"/v2/{REPOSITORY}/unknown/manifests/1?ns=cp.icr.io",  # the token server knows no such repository
    f"/v2/{REPOSITORY}/mini-test/manifests/unknown?ns=cp.icr.io",
    f"/v2/any/manifests/1?ns={DEAD}",
    f"/v2/any/manifests/1?ns={LIMITED}",
    "/v2/any/manifests/1?ns=unknown.example",
    "/v2/ANY/manifests/1?ns=cp.icr.io",
    "/v2/any/blobs/sha256:1?ns=cp.icr.io",
    "/nothing",
)
"""Requests that have to fail, each in its own way."""

_COMPARISON = re.compile(r"\{[^{}]*\}|(==|!=|>=|<=|>|<)")

every_panel = pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.name)
every_alert = pytest.mark.parametrize(
    "rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}"
)


def answer_of(proxy: Proxy, target: str, method: str = "GET", **headers: str) -> int:
    """The status of a request, whose answer is read to its end."""
    connection = http.client.HTTPConnection(proxy.address, timeout=START_TIMEOUT)
    try:
        connection.request(method, target, headers=headers)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status
    finally:
        connection.close()


def pull(proxy: Proxy, image: Image, name: str) -> None:
    """Pull an image as a node does: tag, manifest, blobs."""
    base = f"/v2/{REPOSITORY}/{name.partition(':')[0]}"
    manifests = [f"{base}/manifests/{reference}?ns=cp.icr.io" for reference in (image.tag, image.manifest.digest)]
    blobs = [f"{base}/blobs/{blob.digest}?ns=cp.icr.io" for blob in image.blobs]
    accept = {"Accept": image.manifest.media_type}
    assert answer_of(proxy, manifests[0], "HEAD", **accept) == 200
    assert {answer_of(proxy, target, **accept) for target in manifests} == {200}
    assert {answer_of(proxy, target) for target in blobs} == {200}
    assert answer_of(proxy, blobs[-1], Range="bytes=1-") == 206


def load(proxy: Proxy) -> None:
    """Pulls that are cold, pulls that are hot, and what fails."""
    assert answer_of(proxy, "/v2/") == 200
    for name in (*NAMES, *NAMES):
        pull(proxy, images.named(f"{PROJECT}/{name}"), name)
    assert answer_of(proxy, f"/v2/{REPOSITORY}/mini-test/tags/list?ns=cp.icr.io") == 200
    assert {answer_of(proxy, target) for target in WRONG} == {400, 403, 404, 503}
    assert answer_of(proxy, f"/v2/{REPOSITORY}/mini-test/manifests/1?ns=cp.icr.io", "PUT") == 405


def certificate(directory: Path) -> dict[str, str]:
    """A client certificate for some host, that ends in a month."""
    issued = trustme.CA().issue_cert("client.example", not_after=datetime.now(UTC) + timedelta(days=30))
    files = {"certFile": directory / "client.pem", "keyFile": directory / "client.key"}
    issued.cert_chain_pems[0].write_to_path(files["certFile"])
    issued.private_key_pem.write_to_path(files["keyFile"])
    return {key: str(file) for key, file in files.items()}


def kubelet() -> web.Application:
    """What a kubelet tells of a container and its volume."""
    labels = 'namespace="registry",pod="scope-proxy-0",container="scope-proxy",persistentvolumeclaim="scope-proxy"'

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name}{{{labels}}} {time.time():.0f}\n" for name in sorted(FOREIGN)))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


def limiting() -> web.Application:
    """A registry that reports a rate limit as Docker Hub does."""

    async def nothing(_: web.Request) -> web.Response:
        headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
        return web.Response(status=404, headers=headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", nothing)
    return app


@pytest.fixture(scope="module")
def proxy(store: Path, _token_server: TokenServer, _signer: Signer) -> Iterator[Proxy]:
    require("prometheus", "promtool", "docker-registry")
    _token_server.reset()
    with (
        scratch("cache") as directory,
        serving(limiting()) as limited,
        token_registry(store, token_server=_token_server.url, signer=_signer) as registry,
        serving_proxy(
            {
                **registries(registry.url),
                DEAD: {"endpoints": [f"http://127.0.0.1:{free_port()}"]},
                LIMITED: {"endpoints": [limited]},
            },
            {**hosts(registry, _token_server), "tls.example": {"tls": certificate(directory)}},
            cache={"path": str(directory / "cache"), "reserveFree": "1Ki"},
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def loaded(proxy: Proxy) -> Iterator[Prometheus]:
    """Prometheus, after it has seen all of the load, and has evaluated its rules since."""
    admin = proxy.admin_url.removeprefix("http://")
    with serving(kubelet()) as url, prometheus({JOB: admin, "kubelet": url.removeprefix("http://")}, RULES) as server:
        wait(lambda: server.values("scope_proxy_build_info") and server.values("up{job='kubelet'} == 1"))
        load(proxy)
        wait(lambda: server.values('scope_proxy_http_requests_total{route="other",code="405"} > 0'))
        wait(lambda: server.values("job:scope_proxy_http_saved_bytes:ratio_rate1h > 0"))
        yield server


def wait(condition: Callable[[], object]) -> None:
    """Wait for what shows in Prometheus only."""
    deadline = time.monotonic() + START_TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_PAUSE)


def filled_in(query: str) -> str:
    """A panel's query with everything chosen, as Grafana sends it."""
    query = re.sub(r"\$__(?:rate_interval|range)\b", RANGE, query)
    return re.sub(r"\$\w+", ".*", query)


def filled(query: str) -> str:
    """A query of an alert that answers also where it does not fire: 0 or 1 for what it compares."""
    return _COMPARISON.sub(lambda match: f"{match[0]} bool" if match[1] else match[0], query)


@every_panel
def test_every_query_of_every_panel_has_data(loaded: Prometheus, panel: Panel) -> None:
    without = [query for query in map(filled_in, panel.queries) if not loaded.values(query)]
    assert without == []


@every_alert
def test_every_expression_of_every_alert_has_data(loaded: Prometheus, rule: dict[str, Any]) -> None:
    assert loaded.values(filled(rule["expr"]))


def test_prometheus_finds_no_fault_in_the_rules(loaded: Prometheus) -> None:
    wait(lambda: all(rule["health"] != "unknown" for rule in loaded.rules()))
    assert [(rule["name"], rule.get("lastError")) for rule in loaded.rules() if rule["health"] != "ok"] == []
    assert {rule["name"] for rule in loaded.rules()} >= {rule["alert"] for rule in alerts()}


def test_what_was_pulled_is_what_is_counted(loaded: Prometheus) -> None:
    blobs = sum(len(images.named(f"{PROJECT}/{name}").blobs) + 1 for name in NAMES)
    counted = {
        'scope_proxy_cache_requests_total{kind="blob"}': 2 * blobs,
        'scope_proxy_cache_requests_total{kind="tag"}': 4 * len(NAMES),
        'scope_proxy_http_requests_total{route="ping"}': 1,
        'scope_proxy_http_requests_total{code="206"}': 2 * len(NAMES),
        'scope_proxy_token_requests_total{result="denied",upstream="cp.icr.io"}': 1,
        'scope_proxy_upstream_refused_total{upstream="cp.icr.io"}': 1,
        f'scope_proxy_upstream_up{{upstream="{DEAD}"}}': 0,
        'scope_proxy_upstream_up{upstream="cp.icr.io"}': 1,
        f'scope_proxy_rewrites_total{{upstream="{IDLE}"}}': 0,
        'scope_proxy_http_rejected_total{reason="bad_ns"}': 1,
        'scope_proxy_http_rejected_total{reason="bad_digest"}': 1,
        'scope_proxy_http_rejected_total{reason="method"}': 1,
        "scope_proxy_upstream_in_flight": 0,
        "scope_proxy_upstream_queue": 0,
    }
    assert {query: sum(loaded.values(query)) for query in counted} == counted


def test_a_hot_pull_moves_no_byte_from_the_upstream(loaded: Prometheus) -> None:
    moved = sum(loaded.values("scope_proxy_upstream_bytes_total"))
    sent = sum(loaded.values('scope_proxy_http_response_bytes_total{cache=~".+"}'))
    assert sent > 2 * moved > 0


def test_the_page_obeys_the_conventions(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection(proxy.admin_url.removeprefix("http://"), timeout=START_TIMEOUT)
    connection.request("GET", "/metrics")
    with connection.getresponse() as answer:
        page = answer.read()
    connection.close()
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, env=environment(), timeout=30, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_promtool_finds_no_fault_in_rules() -> None:
    require("promtool")
    assert "SUCCESS" in run(["promtool", "check", "rules", str(RULES)]).checked()


@pytest.mark.parametrize("case", sorted(CASES.glob("*.test.yaml")), ids=lambda path: path.name.partition(".")[0])
def test_rules_fire_when_they_have_to(case: Path) -> None:
    require("promtool")
    assert "FAILED" not in run(["promtool", "test", "rules", str(case)]).checked()
