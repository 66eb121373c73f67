import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.transport.verification import client_context
from tests.cache.serving import cached, descriptors, eventually, open_files
from tests.fakes.client import NodeClient
from tests.fakes.fixtures import budgets, image, logs, near_plain, never, plain, registry, second, store
from tests.fakes.registry import ScriptedRegistry

__all__ = ["budgets", "image", "logs", "near_plain", "never", "plain", "registry", "second", "store"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the cache is."""
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
async def no_open_files(tmp_path: Path) -> AsyncIterator[None]:
    """No file of the cache stays open, and no descriptor of any kind is left over."""
    before = descriptors()
    yield
    await eventually(lambda: not open_files(tmp_path))
    await eventually(lambda: descriptors() <= before)


@pytest.fixture
async def node(plain: ScriptedRegistry, directory: Path) -> AsyncIterator[NodeClient]:
    """A node in front of a proxy with an empty cache in front of the plain registry."""
    async with cached([plain.url], directory) as node:
        yield node


@pytest.fixture(params=["plain", "tls"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], ssl.SSLContext | None]:
    """A listener's settings, and what nodes connect to it with."""
    if request.param == "plain":
        return {"address": "127.0.0.1:0"}, None
    authority, nodes = trustme.CA(), client_context()
    authority.configure_trust(nodes)
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    files = {"certFile": str(tmp_path / "tls.pem"), "keyFile": str(tmp_path / "tls.pem")}
    return {"address": "127.0.0.1:0", "tls": files}, nodes
