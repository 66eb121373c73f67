"""Client certificates of TLS listeners: who may pull, and CAs that change while the proxy runs."""

import asyncio
import socket
import ssl

import bcrypt
import pytest
import trustme

from tests.fakes.certificates import CLIENT, GO_ACCEPTS, GO_REFUSES, Chain, Subject
from tests.fakes.client import WITHIN, NodeClient, read_head
from tests.fakes.proxy import manifest
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.tls_site import HOST, Site, serving

REFUSED = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)
"""How a client sees that the server ends the handshake: asyncio's server sends no alert."""


async def test_a_client_certificate_is_required(site: Site, registry: ScriptedRegistry) -> None:
    known, foreign = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(site.directory / "ca.crt")
    async with serving(site, registry, site.listener(auth="certificate")) as node:
        trusted = site.trusting(known.issue_cert("node-1.example", common_name="node-1"))
        assert (await node.over(trusted).get(manifest())).status == 200
        for refused in (site.trusting(), site.trusting(foreign.issue_cert("node-1.example"))):
            with pytest.raises(REFUSED):
                await node.over(refused).get(manifest())


def client_of(site: Site, chain: Chain) -> ssl.SSLContext:
    """A client that presents a chain to a listener that trusts what the chain says."""
    site.put("ca.crt", chain.trusted_pem.encode())
    return chain.load_into(site.trusting(), site.directory)


@pytest.mark.parametrize("certificates", GO_ACCEPTS)
async def test_client_certificates_that_go_accepts_pull(
    site: Site, registry: ScriptedRegistry, certificates: str
) -> None:
    client = client_of(site, GO_ACCEPTS[certificates](Subject("node-1.example", CLIENT)))
    async with serving(site, registry, site.listener(auth="certificate")) as node:
        try:
            status = (await node.over(client).get(manifest())).status
        except REFUSED:
            status = None
        assert status == 200


@pytest.mark.parametrize("certificates", GO_REFUSES)
async def test_client_certificates_that_go_refuses_do_not_pull(
    site: Site, registry: ScriptedRegistry, certificates: str
) -> None:
    client = client_of(site, GO_REFUSES[certificates](Subject("node-1.example", CLIENT)))
    async with serving(site, registry, site.listener(auth="certificate")) as node:
        with pytest.raises(REFUSED):
            await node.over(client).get(manifest())


async def test_a_client_certificate_is_one_of_two_ways(site: Site, registry: ScriptedRegistry) -> None:
    known, foreign = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(site.directory / "ca.crt")
    users = site.directory / "users"
    users.write_bytes(b"robot:" + bcrypt.hashpw(b"canary-password", bcrypt.gensalt(4)) + b"\n")
    listener = site.listener(auth=["certificate", "basic"], htpasswdFile=str(users))
    async with serving(site, registry, listener) as node:
        trusted = site.trusting(known.issue_cert("node-1.example", common_name="node-1"))
        assert (await node.over(trusted).get(manifest())).status == 200
        async with node.opened("GET", "/v2/") as (reader, _):
            status, _, _ = await read_head(reader)
        assert status in {200, 401}  # it is the password that decides
        with pytest.raises(REFUSED):
            await node.over(site.trusting(foreign.issue_cert("node-1.example"))).get(manifest())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_an_authority_that_was_removed_is_not_accepted_by_a_session_either(
    site: Site, registry: ScriptedRegistry, version: ssl.TLSVersion
) -> None:
    former, present = trustme.CA(), trustme.CA()
    former.cert_pem.write_to_path(site.directory / "ca.crt")
    before = site.trusting(former.issue_cert("node-1.example", common_name="node-1"))
    after = site.trusting(present.issue_cert("node-1.example", common_name="node-1"))
    before.maximum_version = after.maximum_version = version
    async with serving(site, registry, site.listener(auth="certificate")) as node:
        assert (await node.over(before).get(manifest())).status == 200
        session = await asyncio.to_thread(session_of, node, before)
        site.put("ca.crt", present.cert_pem.bytes())
        await until_accepted(node.over(after))
        with pytest.raises(REFUSED):
            await node.over(before).get(manifest())
        with pytest.raises(REFUSED):
            await asyncio.to_thread(session_of, node, before, session)


async def until_accepted(node: NodeClient) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                assert (await node.get("/v2/")).status == 200
            except REFUSED:
                continue
            return


def session_of(node: NodeClient, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSession:
    """The session of a connection on which a request was answered; asyncio's client cannot take one up again."""
    with (
        socket.create_connection((node.host, node.port), WITHIN) as plain,
        context.wrap_socket(plain, server_hostname=HOST, session=session) as connection,
    ):
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        if not connection.recv(65536):
            raise ConnectionResetError
        assert connection.session is not None
        return connection.session
