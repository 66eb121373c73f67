import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import trustme
from yarl import URL

from proxy.config.address import Origin
from proxy.config.model import Tls
from proxy.transport.addresses import AddressRefused, Network
from proxy.transport.forward_proxy import ForwardProxies
from proxy.transport.session import load_tls, without_certificate
from tests.unit.transport.support import Names, config, outgoing, serving, sessions

LOGIN = "Basic cm9ib3Q6czNjcmV0"  # robot:s3cret


async def fetched(url: str, environment: Mapping[str, str] | None = None, settings: str = "") -> str:
    """The body that a GET through the sessions brings."""
    async with sessions(settings, ForwardProxies.from_environment(environment or {})) as opened:
        response = await opened.request(outgoing(url, {"Authorization": "Bearer token"}))
        return await response.text()


async def test_a_request_goes_out_as_it_is_and_says_who_we_are() -> None:
    async with serving() as server:
        assert await fetched(f"{server.url}/v2/a%2Fb?x=%41") == "content"
    (request,) = server.requests
    assert request.raw_path == "/v2/a%2Fb?x=%41"
    assert request.headers["User-Agent"].startswith("scope-proxy/")
    assert request.headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in request.headers


async def test_redirects_are_left_to_the_caller_and_cookies_are_not_kept() -> None:
    async with serving() as server, sessions() as opened:
        server.answers["/a"] = 302, {"Location": "/b", "Set-Cookie": "s=1; Path=/"}
        for _ in range(2):
            response = await opened.request(outgoing(f"{server.url}/a"))
            assert response.status == 302
            await response.read()
    assert all("Cookie" not in headers for headers in server.headers)


async def test_plain_http_through_a_proxy_carries_its_login_in_the_request() -> None:
    async with serving() as proxy:
        environment = {"http_proxy": proxy.url.replace("://", "://robot:s3cret@")}
        assert await fetched("http://registry.test/v2/", environment) == "content"
    (request,) = proxy.requests
    assert str(request.url) == "http://registry.test/v2/"
    assert request.headers["Proxy-Authorization"] == LOGIN
    assert request.headers["Authorization"] == "Bearer token"


async def test_hosts_that_no_proxy_names_get_no_proxy_login() -> None:
    async with serving() as server:
        environment = {"http_proxy": "http://robot:s3cret@unused.test:1", "no_proxy": "127.0.0.1"}
        await fetched(f"{server.url}/v2/", environment)
    assert "Proxy-Authorization" not in server.headers[0]


class Tunnel:
    """A forward proxy for CONNECT: every host leads to one port of this machine."""

    def __init__(self, port: int) -> None:
        self.request_head = b""
        self.ended = asyncio.Event()
        self._port = port

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request_head = await reader.readuntil(b"\r\n\r\n")
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy(reader, inner_writer))
            group.create_task(self._copy(inner_reader, writer))
        self.ended.set()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        await writer.wait_closed()


class SecretServer:
    """Answers every request over TLS and keeps its head."""

    def __init__(self) -> None:
        self.head = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):  # the peer may have closed before the last TLS record
            await writer.wait_closed()


async def test_https_through_a_proxy_shows_its_login_to_the_proxy_alone(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("registry.test").configure_cert(tls)
    registry = SecretServer()
    inner = await asyncio.start_server(registry, "127.0.0.1", 0, ssl=tls)
    tunnel = Tunnel(inner.sockets[0].getsockname()[1])
    outer = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    async with inner, outer, asyncio.timeout(20):
        port = outer.sockets[0].getsockname()[1]
        settings = f"hosts: {{registry.test: {{tls: {{caFile: {tmp_path}/ca.pem}}}}}}"
        environment = {"https_proxy": f"http://robot:s3cret@127.0.0.1:{port}"}
        assert await fetched("https://registry.test/v2/", environment, settings) == "secret"
        await tunnel.ended.wait()
    assert tunnel.request_head.startswith(b"CONNECT registry.test:443 ")
    assert f"Proxy-Authorization: {LOGIN}".encode() in tunnel.request_head
    assert b"Bearer" not in tunnel.request_head
    assert b"Authorization: Bearer token" in registry.head
    assert b"Proxy-Authorization" not in registry.head


async def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    server = await asyncio.start_server(SecretServer(), "127.0.0.1", 0, ssl=tls)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await fetched(f"https://127.0.0.1:{port}/v2/")
        settings = f'hosts: {{"127.0.0.1:{port}": {{tls: {{insecureSkipVerify: true}}}}}}'
        assert await fetched(f"https://127.0.0.1:{port}/v2/", settings=settings) == "secret"


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "10.0.0.1", "169.254.169.254"])
async def test_a_literal_address_that_an_upstream_names_is_judged(host: str) -> None:
    named = replace(outgoing(f"https://{host}/x"), named_by=Origin.parse("https://registry.test"))
    async with sessions(lookups=Names(["8.8.8.8"])) as opened:
        with pytest.raises(AddressRefused):
            await opened.request(named)


async def test_a_name_that_an_upstream_names_is_judged_when_it_is_resolved() -> None:
    named = replace(outgoing("https://cdn.test/x"), named_by=Origin.parse("https://registry.test"))
    async with sessions(lookups=Names(["8.8.8.8"], ["8.8.4.4", "10.0.0.1"])) as opened:
        with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
            await opened.request(named)
    assert isinstance(caught.value.__cause__, AddressRefused)


async def test_an_origin_that_the_configuration_names_is_not_judged() -> None:
    async with serving() as server:
        settings = f"hosts: {{registry.test: {{redirects: ['{server.url}']}}}}"
        named = replace(outgoing(f"{server.url}/x"), named_by=Origin.parse("https://registry.test"))
        async with sessions(settings, lookups=Names(["8.8.8.8"])) as opened:
            assert opened.is_listed(server.origin, Origin.parse("https://registry.test"))
            assert (await opened.request(named)).status == 200


async def test_the_network_of_an_upstream_is_that_of_all_its_addresses() -> None:
    async with sessions(lookups=Names(["8.8.8.8", "10.0.0.1"])) as opened:
        origin = Origin.parse("https://registry.test")
        for _ in range(2):  # the second time from memory
            assert await opened.networks(origin) == {Network.PUBLIC, Network.PRIVATE}
        assert await opened.networks(Origin.parse("http://0x7f.1")) == {Network.LOOPBACK}


async def test_each_origin_has_a_gate_of_its_configured_size() -> None:
    async with sessions("hosts: {r.example: {maxConnections: 7}}") as opened:
        gate = opened.host_limit(Origin.parse("https://r.example"))
        assert repr(gate) == "0 of 7 in flight, 0 waiting"
        assert opened.host_limit(Origin.parse("https://r.example")) is gate
        assert opened.host_limit(Origin.parse("https://r.example:8443")) is not gate


def test_secrets_are_not_in_the_repr_of_a_request() -> None:
    request = replace(outgoing("https://r.example", {"Authorization": "Bearer s3cret"}), form={"password": "s3cret"})
    assert "s3cret" not in repr(request)
    assert request.url == URL("https://r.example")


@pytest.mark.parametrize("tls", ["caFile: {0}", "certFile: {0}, keyFile: {0}"])
def test_a_certificate_that_cannot_be_used_is_named_with_its_host(tmp_path: Path, tls: str) -> None:
    path = tmp_path / "broken.pem"
    for written in (False, True):
        if written:
            path.write_text("no certificate")
        with pytest.raises(ValueError, match=rf"hosts\.r\.example\.tls\.c\w+: cannot use {path}.*: \w[\w ]+$"):
            load_tls(config(f"hosts: {{r.example: {{tls: {{{tls.format(path)}}}}}}}"))


@pytest.mark.security
def test_contexts_verify_and_are_of_tls_1_2_at_least() -> None:
    settings = config("hosts: {r.example: {tls: {insecureSkipVerify: true}}}")
    contexts = load_tls(settings)
    assert len(contexts) == 2
    for tls, context in contexts.items():
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert (context.verify_mode is ssl.CERT_REQUIRED) != tls.insecure_skip_verify


@pytest.mark.security
def test_a_client_certificate_is_not_shown_where_an_upstream_redirects_to() -> None:
    tls = Tls.model_validate({"caFile": "/ca.crt", "certFile": "/client.crt", "keyFile": "/client.key"})
    assert without_certificate(tls) == Tls.model_validate({"caFile": "/ca.crt"})
    assert without_certificate(Tls.model_validate({"insecureSkipVerify": True})).insecure_skip_verify


@pytest.mark.security
async def test_a_redirect_uses_a_session_without_the_certificate_of_the_host() -> None:
    async with serving() as server:
        named = replace(outgoing(f"{server.url}/x"), named_by=server.origin, redirected=True)
        async with sessions() as opened:
            await opened.request(outgoing(f"{server.url}/x"))
            await opened.request(named)
            assert (len(opened._own), len(opened._named)) == (1, 1)
