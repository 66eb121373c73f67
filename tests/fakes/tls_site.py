"""A TLS listener of the proxy, its files, and the CA that nodes trust."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.fakes.client import NodeClient
from tests.fakes.proxy import LOGIN, server_tuning, settings, started
from tests.fakes.registry import ScriptedRegistry

HOST = "127.0.0.1"
POLL = 0.02
"""Seconds between two looks at the files, by the proxy and by these tests."""


@dataclass(frozen=True, slots=True)
class Site:
    """The files of a listener, and the authority that nodes trust."""

    directory: Path
    authority: trustme.CA

    def write(self, leaf: trustme.LeafCert) -> None:
        """Put a certificate and its key in place, as a program that renews them does."""
        self.put("tls.crt", leaf.cert_chain_pems[0].bytes())
        self.put("tls.key", leaf.private_key_pem.bytes())

    def put(self, name: str, data: bytes) -> None:
        draft = self.directory / f"{name}.new"
        draft.write_bytes(data)
        draft.rename(self.directory / name)

    def listener(self, **clients: Any) -> dict[str, Any]:
        files = {"certFile": str(self.directory / "tls.crt"), "keyFile": str(self.directory / "tls.key")}
        if "certificate" in clients.get("auth", ""):
            files["clientCaFile"] = str(self.directory / "ca.crt")
        return {"address": f"{HOST}:0", "tls": files, "clients": clients}

    def trusting(self, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """What a node that trusts the authority connects with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path, trustme.CA())
    made.write(made.authority.issue_cert(HOST))
    return made


@asynccontextmanager
async def serving(
    site: Site, registry: ScriptedRegistry, listener: Mapping[str, Any] | None = None, **more: Any
) -> AsyncIterator[NodeClient]:
    configuration = settings([registry.url], login=LOGIN, **more) | {"listeners": [listener or site.listener()]}
    async with started(configuration, tuning=server_tuning(tls_reload=POLL)) as proxy:
        yield proxy.node.over(site.trusting())
