"""TLS listeners: which protocols, which certificate is sent, and files that change while the proxy runs."""

import asyncio
import ssl
import time
import warnings
from pathlib import Path

import pytest
import trustme

from proxy.runtime.run import StartError
from proxy.testbed.images import Image
from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import Written
from tests.fakes.client import WITHIN, NodeClient, read_answer
from tests.fakes.proxy import UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.tls_site import HOST, POLL, Site, serving

HANDSHAKE = b"\x16"
"""The type of a record with which a server begins that takes a client on; it closes where it does not."""
CONNECTIONS = 5
"""So many in a row see the same certificate."""


async def certificate_for(node: NodeClient) -> bytes:
    """The certificate that a new connection gets, in DER."""
    async with asyncio.timeout(WITHIN), node.opened("GET", "/v2/") as (reader, writer):
        await read_answer(reader, "GET")
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return der


def der_of(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


async def until_sent(node: NodeClient, leaf: trustme.LeafCert) -> None:
    async with asyncio.timeout(WITHIN):
        while await certificate_for(node) != der_of(leaf):
            pass


async def until_told(logs: Written, text: str) -> None:
    async with asyncio.timeout(WITHIN):
        while not any(text in line for line in logs.lines):
            await asyncio.to_thread(time.sleep, POLL)


async def test_a_pull_over_tls(site: Site, registry: ScriptedRegistry, image: Image) -> None:
    digest, body = layer_of(image)
    async with serving(site, registry) as node:
        assert (await node.get(manifest())).body == image.manifest
        assert (await node.get(blob(digest))).body == body
        assert (await node.head(blob(digest))).header("Content-Length") == str(len(body))


async def test_http_1_1_is_agreed_on_and_nothing_is_compressed(site: Site, registry: ScriptedRegistry) -> None:
    context = site.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(site, registry) as node, node.over(context).opened("GET", "/v2/") as (_, writer):
        connection = writer.get_extra_info("ssl_object")
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.compression() is None
        assert connection.version() == "TLSv1.3"


@pytest.mark.parametrize(("version", "taken"), [("TLSv1_1", False), ("TLSv1_2", True)])
async def test_tls_1_2_is_the_oldest_version(
    site: Site, registry: ScriptedRegistry, logs: Written, version: str, taken: bool
) -> None:
    async with serving(site, registry) as node:
        reader, writer = await asyncio.open_connection(node.host, node.port)
        writer.write(hello_of(version))
        async with asyncio.timeout(WITHIN):
            answer = await reader.read(1)
        writer.close()
    assert (answer == HANDSHAKE) == taken
    assert any("UNSUPPORTED_PROTOCOL" in line for line in logs.lines) != taken


def hello_of(version: str) -> bytes:
    """What a client begins with that speaks one version only."""
    context, outgoing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.MemoryBIO()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


async def test_a_large_blob_has_the_right_bytes_cold_and_stored(
    site: Site, registry: ScriptedRegistry, tmp_path: Path
) -> None:
    digest = registry.add_blob(UPSTREAM, Generated(24 * MIB + 4321)).digest
    async with serving(site, registry, cache={"path": str(tmp_path / "cache")}) as node:
        for way in ("miss", "hit"):
            got = await node.get(blob(digest), keep_body=False)
            assert (got.sha256, got.header("X-Cache")) == (digest, way)
        part = await node.get(blob(digest), ("Range", "bytes=262143-"))
        assert part.status == 206
        assert part.body == b"".join(Generated(24 * MIB + 4321).pieces(262143, 24 * MIB + 4321))


async def test_a_changed_certificate_is_for_the_next_connection_and_open_ones_go_on(
    site: Site, registry: ScriptedRegistry
) -> None:
    renewed = site.authority.issue_cert(HOST)
    async with serving(site, registry) as node, node.opened("GET", "/v2/") as (reader, writer):
        assert (await read_answer(reader, "GET")).status == 200
        site.write(renewed)
        await until_sent(node, renewed)
        writer.write(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_answer(reader, "GET")).status == 200


async def test_a_secret_of_kubernetes_that_is_swapped_is_a_change(site: Site, registry: ScriptedRegistry) -> None:
    def mount(name: str, leaf: trustme.LeafCert) -> None:
        version = site.directory / name
        version.mkdir()
        Site(version, site.authority).write(leaf)
        (site.directory / "..data.new").symlink_to(name)
        (site.directory / "..data.new").rename(site.directory / "..data")

    first, second = site.authority.issue_cert(HOST), site.authority.issue_cert(HOST)
    mount("..1", first)
    for file in ("tls.crt", "tls.key"):
        (site.directory / file).unlink()
        (site.directory / file).symlink_to(f"..data/{file}")
    async with serving(site, registry) as node:
        assert await certificate_for(node) == der_of(first)
        mount("..2", second)
        await until_sent(node, second)


@pytest.mark.parametrize("broken", ["half-written", "another key", "gone"])
async def test_a_pair_that_cannot_be_used_is_reported_once_and_the_old_one_stays(
    site: Site, registry: ScriptedRegistry, logs: Written, broken: str
) -> None:
    old, renewed = site.authority.issue_cert(HOST), site.authority.issue_cert(HOST)
    site.write(old)
    async with serving(site, registry) as node:
        match broken:
            case "half-written":
                site.put("tls.crt", renewed.cert_chain_pems[0].bytes()[:200])
                complaint = f"listeners[0].tls.certFile: {site.directory}/tls.crt contains no valid PEM certificate"
            case "another key":
                site.put("tls.crt", renewed.cert_chain_pems[0].bytes())
                complaint = (
                    f"listeners[0].tls.keyFile: {site.directory}/tls.key is not the key of the first certificate"
                )
            case _:
                (site.directory / "tls.key").unlink()
                complaint = f"listeners[0].tls.keyFile: cannot read {site.directory}/tls.key: No such file"
        await until_told(logs, complaint)
        for _ in range(CONNECTIONS):
            assert await certificate_for(node) == der_of(old)
        assert sum("stay in use" in line for line in logs.lines) == 1
        site.write(renewed)
        await until_sent(node, renewed)
    assert not [line for line in logs.lines if "PRIVATE KEY" in line]


async def test_a_handshake_that_stalls_is_cut(site: Site, registry: ScriptedRegistry) -> None:
    async with serving(site, registry, timeouts={"request": "200ms"}) as node:
        reader, writer = await asyncio.open_connection(node.host, node.port)
        writer.write(b"\x16\x03\x01")  # a record begins
        async with asyncio.timeout(WITHIN):
            assert await reader.read() == b""
        writer.close()
        assert (await node.get("/v2/")).status == 200


async def test_plain_http_on_a_tls_listener_gets_nothing(site: Site, registry: ScriptedRegistry) -> None:
    async with serving(site, registry) as node:
        reader, writer = await asyncio.open_connection(node.host, node.port)
        writer.write(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(WITHIN):
            answer = await reader.read()
        writer.close()
        assert b"HTTP" not in answer


async def test_a_certificate_that_cannot_be_used_keeps_the_proxy_from_starting(
    site: Site, registry: ScriptedRegistry
) -> None:
    (site.directory / "tls.crt").unlink()
    with pytest.raises(StartError, match=r"listeners\[0\]\.tls\.certFile: cannot read .*/tls\.crt: No such file"):
        async with serving(site, registry):
            pass
