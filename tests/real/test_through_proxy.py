"""The cure: the same node pulls the same images through the proxy, which asks for one scope."""

from collections.abc import Callable

import pytest

from tests.real.containerd import Node
from tests.real.cri import Auth, CriError
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT
from tests.real.registry import Registry
from tests.real.strictness import STRICT_MODES, Mode
from tests.real.through_proxy import (
    CLUSTER_OPERATOR,
    FILES,
    MINI,
    OPERATOR,
    RULES,
    SCOPES,
    StartProxy,
    assert_one_scope,
    hosts,
    point_at,
    registries,
)
from tests.real.token_server import TokenServer

every_mode = pytest.mark.parametrize("mode", [*STRICT_MODES, Mode.TOLERANT], ids=lambda mode: mode.name.lower())
every_image = pytest.mark.parametrize("image", SCOPES, ids=["mini-test", "operator", "cluster-operator"])
POD_SECRET = Auth(username="pod", password="of-another-registry")
with_and_without_credentials = pytest.mark.parametrize("auth", [None, POD_SECRET], ids=["anonymous", "pod-secret"])


@every_mode
@with_and_without_credentials
def test_both_reports_pull_over_cri_with_one_scope_each(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, mode: Mode, auth: Auth | None
) -> None:
    tokens.mode, tokens.anonymous = mode, False
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens)))
    for image in SCOPES:
        node.cri.pull(image, auth)
        node.assert_complete(image, *FILES[image])
    assert_one_scope(tokens, *SCOPES)


@every_mode
@every_image
def test_pulls_with_ctr(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, mode: Mode, image: str
) -> None:
    tokens.mode, tokens.anonymous = mode, False
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens)))
    node.ctr.pull(image).checked()
    node.assert_complete(image, *FILES[image])
    assert_one_scope(tokens, image)


def test_public_registry_gets_no_credentials(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    point_at(node, start_proxy(registries(registry.url), {registry.address: {"realms": [tokens.url]}}))
    node.cri.pull(MINI)
    assert_one_scope(tokens, MINI)
    assert tokens.requests[0].user is None


def test_second_node_costs_no_further_token(
    start_node: Callable[[], Node], registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens))
    for _ in range(2):
        node = start_node()
        point_at(node, proxy)
        node.cri.pull(MINI)
        node.assert_complete(MINI, *FILES[MINI])
    assert_one_scope(tokens, MINI)


@pytest.mark.parametrize(
    ("registry_name", "image", "prefix"),
    [
        ("cp.icr.io", "cp.icr.io/mini-test:1", PROJECT),
        ("icr.io", "icr.io/ibm-operator:1.2", PROJECT),
        ("docker.io", CLUSTER_OPERATOR, "hmirror"),
    ],
    ids=["anchored", "anchored-too", "everything"],
)
def test_node_that_still_rewrites_pulls_as_well(
    node: Node,
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    registry_name: str,
    image: str,
    prefix: str,
) -> None:
    # A path prefix makes a plain containerd send what a rewriting k3s sends: the rewritten path with the old ns=.
    more = {"nodeRewrites": True} if registry_name == "docker.io" else {}
    proxy = start_proxy(registries(registry.url, **more), hosts(registry, tokens))
    write_mirror(node.certs_d, registry_name, [f"{proxy.url}/v2/{prefix}"], override_path=True)
    node.cri.pull(image)
    assert len(tokens.requests) == 1
    assert tokens.requests[0].scopes[0] in SCOPES.values()


def test_prefixing_twice_fails_without_node_rewrites(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens))
    write_mirror(node.certs_d, "docker.io", [f"{proxy.url}/v2/hmirror"], override_path=True)
    with pytest.raises(CriError):
        node.cri.pull(CLUSTER_OPERATOR)
    assert tokens.scopes() == {"repository:hmirror/hmirror/rabbitmqoperator/cluster-operator:pull"}


def test_endpoint_with_a_path_prefix_is_part_of_the_scope(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    rules = {name: {"pattern": rule["pattern"], "replacement": "$1"} for name, rule in RULES.items()}
    sections = {
        name: {"endpoints": [f"{registry.url}/v2/{PROJECT}"], "rewrites": [rules[name]]}
        for name in ("cp.icr.io", "icr.io")
    }
    point_at(node, start_proxy(sections, hosts(registry, tokens)))
    node.cri.pull(MINI)
    node.cri.pull(OPERATOR)
    assert_one_scope(tokens, MINI, OPERATOR)


def test_root_that_replaces_v2_is_no_part_of_the_scope(
    node: Node, prefixed_registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    endpoint = f"{prefixed_registry.url}/artifactory/api/docker/local/v2"
    point_at(node, start_proxy(registries(endpoint), hosts(prefixed_registry, tokens)))
    node.cri.pull(MINI)
    node.assert_complete(MINI, *FILES[MINI])
    assert_one_scope(tokens, MINI)


@pytest.mark.parametrize("client", ["cri", "ctr"])
def test_reason_of_a_refusal_is_in_the_error_that_containerd_returns(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, client: str
) -> None:
    tokens.mode, tokens.anonymous = Mode.GHCR, False
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens, password="not-the-password")))
    if client == "cri":
        with pytest.raises(CriError) as refusal:
            node.cri.pull(MINI)
        message = str(refusal.value)
    else:
        message = node.ctr.pull(MINI).errors
    assert "answered 401 for repository:se-next-gen-docker-local/mini-test:pull" in message
    assert "not-the-password" not in message


def test_registry_that_is_not_configured_is_named_in_the_error(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens))
    write_mirror(node.certs_d, "quay.io", [proxy.url], server=proxy.url)
    with pytest.raises(CriError, match=r"registry quay\.io "):
        node.cri.pull("quay.io/some/image:1")
    assert tokens.requests == []


def test_image_that_is_not_there_is_not_found(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens)))
    with pytest.raises(CriError, match="not found"):
        node.cri.pull("cp.icr.io/cp/se-data-center-edge/mini-test:no-such-tag")
