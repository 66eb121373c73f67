"""A node that goes on to the registry itself shows that one's error: what docs/troubleshooting.md says of it."""

from pathlib import Path

import pytest

from tests.real.containerd import Node
from tests.real.cri import CriError
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT
from tests.real.proxy_process import PROJECT_ROOT
from tests.real.registry import open_registry
from tests.real.through_proxy import StartProxy

REGISTRY = "icr.invalid"
"""A name that no DNS knows, as on a node that reaches no registry by itself."""
MISSING = f"{REGISTRY}/{PROJECT}/mini-test:missing"


def test_a_missing_image_shows_the_last_hosts_error_and_only_the_proxys_log_has_the_reason(
    node: Node, store: Path, start_proxy: StartProxy
) -> None:
    with open_registry(store) as registry:
        proxy = start_proxy({REGISTRY: {"endpoints": [registry.url]}})
        write_mirror(node.certs_d, REGISTRY, [proxy.url], server=f"https://{REGISTRY}")
        with pytest.raises(CriError) as fallback:
            node.cri.pull(MISSING)
        write_mirror(node.certs_d, REGISTRY, [proxy.url], server=proxy.url)
        with pytest.raises(CriError) as ended:
            node.cri.pull(MISSING)
    message = f"dial tcp: lookup {REGISTRY}"
    assert (message in str(fallback.value), message in str(ended.value)) == (True, False)
    assert "not found" in str(ended.value)
    assert f"does not have {PROJECT}/mini-test manifests/missing" in proxy.log()
    assert "dial tcp: lookup icr.io" in (PROJECT_ROOT / "docs" / "troubleshooting.md").read_text()
