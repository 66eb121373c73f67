"""What the tests through the proxy share: the reported case's rules, and how a node is pointed at the proxy."""

from collections import Counter
from collections.abc import Callable, Mapping

from tests.real.containerd import Node
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT, named
from tests.real.proxy_process import Proxy
from tests.real.registry import Registry
from tests.real.token_server import PASSWORD, USER, TokenServer

StartProxy = Callable[..., Proxy]

MINI = "cp.icr.io/cp/se-data-center-edge/mini-test:1"
OPERATOR = "icr.io/cpopen/ibm-operator:1.2"
CLUSTER_OPERATOR = "docker.io/rabbitmqoperator/cluster-operator:2.7.0"

FILES = {
    MINI: named(f"{PROJECT}/mini-test:1").files,
    OPERATOR: named(f"{PROJECT}/ibm-operator:1.2").files,
    CLUSTER_OPERATOR: named("hmirror/rabbitmqoperator/cluster-operator:2.7.0").files,
}
"""What is unpacked of each image."""

SCOPES = {
    MINI: f"repository:{PROJECT}/mini-test:pull",
    OPERATOR: f"repository:{PROJECT}/ibm-operator:pull",
    CLUSTER_OPERATOR: "repository:hmirror/rabbitmqoperator/cluster-operator:pull",
}
"""The one scope of each image."""

RULES = {
    "cp.icr.io": {"pattern": "^cp/se-data-center-edge/(.+)$", "replacement": f"{PROJECT}/$1"},
    "icr.io": {"pattern": "^cpopen/(.+)$", "replacement": f"{PROJECT}/$1"},
    "docker.io": {"pattern": "(.*)", "replacement": "hmirror/$1"},
}
"""The rules of both reports of k3s issue 11191."""


def registries(endpoint: str, **more: object) -> dict[str, object]:
    """The `registries` section of the reported case."""
    return {name: {"endpoints": [endpoint], "rewrites": [rule], **more} for name, rule in RULES.items()}


def hosts(registry: Registry, tokens: TokenServer, password: str = PASSWORD) -> Mapping[str, object]:
    """The `hosts` section: credentials, and the token server, which has a port of its own."""
    return {registry.address: {"credentials": {"username": USER, "password": password}, "realms": [tokens.url]}}


def point_at(node: Node, proxy: Proxy) -> None:
    """Have the node ask the proxy for every registry of the rules, and nobody else."""
    for name in RULES:
        write_mirror(node.certs_d, name, [proxy.url], server=proxy.url)


def assert_one_scope(tokens: TokenServer, *images: str) -> None:
    """The token server got one request for each image's one scope, and no other."""
    requested_scopes = Counter(request.scopes for request in tokens.requests)
    assert requested_scopes == {(SCOPES[image],): 1 for image in images}
    assert {request.status for request in tokens.requests} == {200}
