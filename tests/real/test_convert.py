"""What `scope-proxy convert` makes of real-shaped files works: real containerd pulls every image that they were for."""

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.real.containerd import Node
from tests.real.converted import convert, place, serving
from tests.real.hosts import NOWHERE
from tests.real.images import PROJECT, named
from tests.real.processes import free_port
from tests.real.programs import has_ipv6, not_here
from tests.real.registry import Registry
from tests.real.relay import relay
from tests.real.token_server import PASSWORD, REFRESH_TOKEN, TokenServer

pytestmark = pytest.mark.slow

FILES = Path(__file__).parent / "registries"
MINI = f"{PROJECT}/mini-test:1"
OPERATOR = f"{PROJECT}/ibm-operator:1.2"
CLUSTER = "hmirror/rabbitmqoperator/cluster-operator:2.7.0"
ARTICLE_MINI = "cp.icr.io/cp/se-data-center-edge/mini-test:1"
ARTICLE_OPERATOR = "icr.io/cpopen/ibm-operator:1.2"
PULLS = {
    "anchors": {ARTICLE_MINI: MINI, ARTICLE_OPERATOR: OPERATOR},
    "article": {ARTICLE_MINI: MINI, ARTICLE_OPERATOR: OPERATOR},
    "artifactory-path": {"registry.k8s.io/mini-test:1": MINI},
    "auth-under-registry": {ARTICLE_MINI: MINI},
    "auth-under-url": {ARTICLE_MINI: MINI},
    "backslash": {ARTICLE_OPERATOR: OPERATOR},
    "base64-auth": {ARTICLE_OPERATOR: OPERATOR},
    "direct": {"{host}/" + MINI: MINI},
    "fail-over": {ARTICLE_OPERATOR: OPERATOR},
    "identity-token": {ARTICLE_OPERATOR: OPERATOR},
    "ipv6": {f"registry.example.com/{MINI}": MINI},
    "path": {"ghcr.io/mini-test:1": MINI, "ghcr.io/ibm-operator:1.2": OPERATOR},
    "port": {"registry.example.com:5000/team/mini-test:1": MINI},
    "several-rewrites": {
        "quay.io/cpopen/ibm-operator:1.2": OPERATOR,
        "quay.io/rabbitmqoperator/cluster-operator:2.7.0": CLUSTER,
    },
    "swr": {"docker.io/rabbitmqoperator/cluster-operator:2.7.0": CLUSTER},
    "tls": {ARTICLE_MINI: MINI},
    "wildcard": {f"quay.example.com/{MINI}": MINI, "{host}/" + OPERATOR: OPERATOR},
    "wildcard-host": {
        "quay.example.com/mini-test:1": MINI,
        "docker.io/rabbitmqoperator/cluster-operator:2.7.0": CLUSTER,
    },
}
"""What each file is for: images as pods name them, and where they are."""
QUESTIONS = {
    "auth-under-registry": "whose key is the registry's name",
    "auth-under-url": "nothing ever matched the key",
    "several-rewrites": "k3s tries overlapping rules in random order",
    "tls": "is it there where the proxy runs?",
}
"""The prompts for the operator."""
SECRETS = (PASSWORD, REFRESH_TOKEN, "cm9ib3Q6cm9ib3QtcGFzc3dvcmQ=")


@pytest.fixture
def addresses(registry: Registry, prefixed_registry: Registry, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What stands for the placeholders of the files."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    with contextlib.ExitStack() as stack:
        secure = f"localhost:{stack.enter_context(relay(registry.address, '127.0.0.1', tls))}"
        ipv6 = f"[::1]:{stack.enter_context(relay(registry.address, '::1')) if has_ipv6() else free_port()}"
        yield {
            "{registry}": registry.url,
            "{host}": registry.address,
            "{prefixed}": prefixed_registry.url,
            "{prefixed_host}": prefixed_registry.address,
            "{tls}": f"https://{secure}",
            "{tls_host}": secure,
            "{ca}": str(tmp_path / "ca.pem"),
            "{ipv6}": f"http://{ipv6}",
            "{ipv6_host}": ipv6,
            "{nowhere}": NOWHERE,
        }


def filled(text: str, addresses: dict[str, str]) -> str:
    """A text with addresses in place of its placeholders."""
    for placeholder, address in addresses.items():
        text = text.replace(placeholder, address)
    return text


def realms(text: str, addresses: dict[str, str], tokens: TokenServer) -> list[str]:
    """The token server has an origin of its own, which no registries.yaml can name; the doctor tells it."""
    keys = ("{host}", "{prefixed_host}", "{tls_host}", "{ipv6_host}")
    used = [addresses[key] for key in keys if addresses[key] in text]
    return [part for host in used for part in ("--realm", f"{host}={tokens.url}")]


def test_every_file_has_its_images() -> None:
    assert sorted(PULLS) == sorted(file.stem for file in FILES.glob("*.yaml"))
    assert len(PULLS) >= 12


@pytest.mark.parametrize("name", sorted(PULLS))
def test_a_converted_file_pulls_all_that_the_old_one_was_for(
    name: str, node: Node, addresses: dict[str, str], tokens: TokenServer, tmp_path: Path
) -> None:
    if name == "ipv6" and not has_ipv6():
        not_here("the loopback interface has no IPv6 address")
    tokens.anonymous = False
    file = tmp_path / "registries.yaml"
    file.write_text(filled((FILES / f"{name}.yaml").read_text(), addresses))
    proxy = f"http://127.0.0.1:{free_port()}"
    made = convert(file, tmp_path / "out", proxy, *realms(file.read_text(), addresses, tokens))

    assert made.outcome.status == (1 if name in QUESTIONS else 0), made.outcome.errors
    assert QUESTIONS.get(name, "") in made.outcome.errors
    open_parts = [made.text(part) for part in ("config.yaml", "registries.yaml", "changes.txt")]
    assert not any(secret in text for secret in SECRETS for text in [*open_parts, made.outcome.errors])
    made.mount_secrets()
    assert made.check().status == 0, made.check().errors
    place(node.certs_d, made.text("registries.yaml"))
    pulls = {filled(image, addresses): where for image, where in PULLS[name].items()}
    with serving(made.directory / "config.yaml"):
        for image, where in pulls.items():
            node.cri.pull(image)
            node.assert_complete(image, *named(where).files)
    assert {request.scopes for request in tokens.requests} == {
        (f"repository:{where.rpartition(':')[0]}:pull",) for where in pulls.values()
    }
    assert {request.status for request in tokens.requests} == {200}
