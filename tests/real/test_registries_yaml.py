"""A k3s registries.yaml, read unchanged: real containerd pulls by its rules."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.testbed.images import demo_images
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Account, Rules
from tests.fakes.app_thread import entered
from tests.real.containerd import Node
from tests.real.hosts import write_mirror
from tests.real.proxy_process import serving_registries_yaml

pytestmark = pytest.mark.slow

REGISTRIES = """# /etc/rancher/k3s/registries.yaml as it stood on the nodes
mirrors:
  cp.icr.io:
    endpoint:
      - "{endpoint}"
    rewrite:
      "^cp/se-data-center-edge/(.+)$": "se-next-gen-docker-local/$1"
  docker.io:
    endpoint: ["{endpoint}"]
    rewrite: {{"(.*)": "hmirror/$1"}}
configs:
  "{host}":
    auth: {{username: robot, password: secret}}
"""


@pytest.fixture
def strict() -> Iterator[StrictRegistry]:
    """A strict registry with its token server on the same origin, which a registries.yaml can name."""
    registry = StrictRegistry(demo_images(), Rules(refuse=404, accounts=(Account("robot", "secret"),)))
    with entered(registry):
        yield registry


def test_rules_and_credentials_of_the_file_apply(node: Node, strict: StrictRegistry, tmp_path: Path) -> None:
    file = tmp_path / "registries.yaml"
    file.write_text(REGISTRIES.format(endpoint=strict.url, host=strict.url.removeprefix("http://")))
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(serving_registries_yaml(file))
        for name in ("cp.icr.io", "docker.io"):
            write_mirror(node.certs_d, name, [proxy.url])
        node.cri.pull("cp.icr.io/cp/se-data-center-edge/mini-test:1")
        node.cri.pull("docker.io/rabbitmqoperator/cluster-operator:2.7.0")
    assert [(seen.scopes, seen.status) for seen in strict.record.tokens] == [
        (("repository:se-next-gen-docker-local/mini-test:pull",), 200),
        (("repository:hmirror/rabbitmqoperator/cluster-operator:pull",), 200),
    ]
