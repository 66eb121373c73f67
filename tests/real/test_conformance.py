"""The OCI conformance suite at docker-registry, and at the same registry through the proxy: nothing is lost on the way.

The suite reads through the proxy, and pushes its content to the registry itself.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes.app_thread import serving
from tests.real.conformance import PUSHED_TO, Case, Content, by_key, content_of, passes, push_and_read, read
from tests.real.front import front
from tests.real.programs import require_tools
from tests.real.registry import Registry, Served, open_registry
from tests.real.through_proxy import StartProxy, hosts
from tests.real.token_server import PASSWORD, USER, TokenServer
from tests.tools.catalogue import CONFORMANCE

pytestmark = pytest.mark.slow

NEEDS_NO_CONTENT = {"ping", "empty/tag list", "missing-manifest/by-digest", "missing-manifest/by-tag"}
BYTES_ARE_COMPARED = {
    "image/pull/manifest-by-tag",
    "large-manifest/pull/manifest-by-digest",
    "sha256 blobs/range requests/range 500-1499",
    "artifacts-with-subject/pull/blob-get",
}
"""Some tests of content that the suite knows, and so compares byte by byte."""

by_each_address = pytest.mark.parametrize(
    ("registry_name", "settings", "repository"),
    [
        ("registry.test", {}, PUSHED_TO),
        (
            "icr.io",
            {"rewrites": [{"pattern": "^suite/(.+)$", "replacement": "conformance/$1"}]},
            "icr.io/suite/repo1",
        ),
    ],
    ids=["default-registry", "path-prefix-and-rewrite"],
)


@pytest.fixture(scope="module")
def push_report(store: Path) -> list[Case]:
    """How the suite's tests end that push its content to the registry and read it there."""
    require_tools(CONFORMANCE)
    with open_registry(store) as registry:
        return push_and_read(registry.address, PUSHED_TO)


@pytest.fixture
def content(store: Path, push_report: list[Case]) -> Content:
    """What was pushed."""
    assert push_report
    return content_of(store, PUSHED_TO)


@by_each_address
def test_what_passes_at_the_registry_passes_through_the_proxy_cold_and_warm(
    counted_registry: Registry,
    tokens: TokenServer,
    cache_directory: Path,
    start_proxy: StartProxy,
    content: Content,
    registry_name: str,
    settings: Mapping[str, object],
    repository: str,
) -> None:
    tokens.repositories, tokens.anonymous = frozenset({PUSHED_TO}), False
    direct = read(counted_registry.address, PUSHED_TO, content, (USER, PASSWORD))
    assert_everything_is_read(direct, content)
    proxy = start_proxy(
        {registry_name: {"endpoints": [counted_registry.url], **settings}},
        hosts(counted_registry, tokens),
        defaultRegistry=registry_name,
        cache={"path": str(cache_directory), "reserveFree": "1Ki"},
    )
    cold = read(proxy.address, repository, content)
    fetched = content_sent(counted_registry)
    warm = read(proxy.address, repository, content)
    for name, cases in {"at the registry": direct, "cold": cold, "warm": warm}.items():
        sys.stderr.write(f"\n{name}: {passes(cases).total()} of {len(by_key(cases))} tests pass\n")
    assert regressions(direct, cold) == []
    assert regressions(direct, warm) == []
    assert content_sent(counted_registry) == fetched


def test_reads_of_a_client_that_pushes_to_the_registry_pass_through_the_proxy(
    store: Path, push_report: list[Case], cache_directory: Path, start_proxy: StartProxy
) -> None:
    with open_registry(store) as registry:
        # The suite moves tags, and reads at once what it has pushed.
        proxy = start_proxy(
            {"registry.test": {"endpoints": [registry.url]}},
            defaultRegistry="registry.test",
            cache={"path": str(cache_directory), "reserveFree": "1Ki", "tagAge": "0s", "negativeAge": "0s"},
        )
        with serving(front(proxy.address, registry.address)) as url:
            through = push_and_read(url.removeprefix("http://"), "conformance/through")
    direct, results = passes(push_report), passes(through)
    sys.stderr.write(f"\n{direct.total()} tests pass at the registry, {results.total()} through the proxy\n")
    assert direct - results == Counter()
    assert set(direct) >= BYTES_ARE_COMPARED


def assert_everything_is_read(cases: list[Case], content: Content) -> None:
    """The registry holds what the suite is known to push, and every test of that passes there.

    docker-registry reports the SHA-256 digest of blobs that were pushed under a SHA-512 one, which the suite refuses.
    """
    assert len(content.tags) >= 14
    assert len(content.manifests) >= 36
    assert len(content.blobs) >= 90
    wanted = {("read-only/head/manifest-head-by-tag", f"HEAD manifests/{tag}") for tag in content.tags}
    wanted |= {("read-only/pull/manifest-by-tag", f"GET manifests/{tag}") for tag in content.tags}
    for digest in content.manifests:
        wanted.add(("read-only/head/manifest-head-by-digest", f"HEAD manifests/{digest}"))
        wanted.add(("read-only/pull/manifest-by-digest", f"GET manifests/{digest}"))
    for digest in content.blobs:
        wanted |= {
            ("read-only/head/blob-head", f"HEAD blobs/{digest}"),
            ("read-only/pull/blob-get", f"GET blobs/{digest}"),
        }
    results = by_key(cases)
    assert wanted <= set(results)
    assert {key for key in wanted if results[key].status != "passed" and "sha512:" not in key[1]} == set()
    assert {(name, "") for name in NEEDS_NO_CONTENT} <= {
        key for key, case in results.items() if case.status == "passed"
    }


def regressions(direct: list[Case], through: list[Case]) -> list[str]:
    """The tests that pass at the registry and do not pass through the proxy, with the suite's reason."""
    results = by_key(through)
    passing = [case.key for case in direct if case.status == "passed"]
    return [
        f"{key}: {results[key].reason if key in results else 'not run'}"
        for key in passing
        if key not in results or results[key].status != "passed"
    ]


def content_sent(registry: Registry) -> list[Served]:
    """The manifests and blobs that the registry has sent."""
    return registry.served("GET", "manifests/") + registry.served("GET", "blobs/")
