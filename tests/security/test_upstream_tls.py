"""TLS towards upstreams: a server that cannot prove its name gets no request, and nobody falls back to plain HTTP."""

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy.testbed.images import Image
from proxy.testbed.tokens import Rules
from tests.fakes.certificates import GO_ACCEPTS, GO_REFUSES, GO_REFUSES_NAMES, Subject
from tests.fakes.changes import Redirect
from tests.fakes.matching import on
from tests.fakes.proxy import LOGIN, ProxyUnderTest, blob, layer_of, manifest, settings, started
from tests.fakes.registry import ScriptedRegistry
from tests.fakes.world import ELSEWHERE, PUBLIC, World
from tests.security.tls import server_tls

pytestmark = pytest.mark.security

HOST = "registry.example"
CDN = "cdn.example"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


def expired(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate that was good until yesterday."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, not_before=NOW - 2 * DAY, not_after=NOW - DAY).configure_cert(context)
    return context


def not_yet(authority: trustme.CA) -> ssl.SSLContext:
    """A certificate that is good from tomorrow on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, not_before=NOW + DAY, not_after=NOW + 2 * DAY).configure_cert(context)
    return context


def self_signed(path: Path) -> ssl.SSLContext:
    """A certificate that only its own key speaks for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), NOW - DAY, NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = path / "self.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def old(authority: trustme.CA) -> ssl.SSLContext:
    """A good certificate, and no TLS newer than 1.1."""
    context = server_tls(authority, HOST)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


SERVERS: dict[str, Callable[[trustme.CA, Path], ssl.SSLContext | None]] = {
    "expired": lambda authority, _: expired(authority),
    "not yet valid": lambda authority, _: not_yet(authority),
    "self-signed": lambda _, path: self_signed(path),
    "unknown authority": lambda _, __: server_tls(trustme.CA(), HOST),
    "wrong name": lambda authority, _: server_tls(authority, "other.example"),
    "name of a parent": lambda authority, _: server_tls(authority, "example"),
    "wildcard one level down": lambda authority, _: server_tls(authority, f"*.{HOST}"),
    "address for a name": lambda authority, _: server_tls(authority, PUBLIC),
    "name with a tail": lambda authority, _: server_tls(authority, f"{HOST}.evil.example"),
    "tls 1.1": lambda authority, _: old(authority),
    "plain http": lambda _, __: None,
}


@asynccontextmanager
async def pulling(
    world: World, image: Image, tls: ssl.SSLContext | None, host: Any
) -> AsyncIterator[tuple[ProxyUnderTest, ScriptedRegistry]]:
    """A proxy for https://registry.example in front of a server that speaks this TLS."""
    async with ScriptedRegistry([image], Rules(dialect="none"), tls=tls) as registry:
        world.resolves(HOST, (PUBLIC,))
        world.serves(PUBLIC, 443, registry.url)
        world.knows(f"{PUBLIC}:443")
        async with started(settings([f"https://{HOST}"], login=LOGIN, host=host)) as proxy:
            world.knows(f"{proxy.node.host}:{proxy.node.port}")
            yield proxy, registry


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("server", SERVERS)
async def test_a_server_that_is_not_who_it_says_gets_no_request(
    world: World, image: Image, authority: trustme.CA, ca_file: Path, tmp_path: Path, server: str
) -> None:
    tls = await asyncio.to_thread(SERVERS[server], authority, tmp_path)
    async with pulling(world, image, tls, {"tls": {"caFile": str(ca_file)}}) as (proxy, registry):
        got = await proxy.node.get(manifest())
        assert (got.status, got.code) == (503, "UNAVAILABLE")
        assert registry.record.all() == ()
    world.assert_untouched()


async def test_without_a_ca_file_only_the_systems_authorities_count(
    world: World, image: Image, authority: trustme.CA
) -> None:
    async with pulling(world, image, server_tls(authority, HOST), {}) as (proxy, registry):
        assert (await proxy.node.get(manifest())).status == 503
        assert registry.record.all() == ()


async def test_a_good_certificate_pulls(world: World, image: Image, authority: trustme.CA, ca_file: Path) -> None:
    """The rows above would also pass if no certificate were good."""
    host = {"tls": {"caFile": str(ca_file)}}
    async with pulling(world, image, server_tls(authority, HOST), host) as (proxy, _):
        assert (await proxy.node.get(manifest())).body == image.manifest


@pytest.mark.parametrize("certificates", GO_ACCEPTS)
async def test_certificates_that_a_node_accepts_pull(
    world: World, image: Image, tmp_path: Path, certificates: str
) -> None:
    """With every Python: 3.13 by itself refuses most of these."""
    chain = GO_ACCEPTS[certificates](Subject(HOST))
    host = {"tls": {"caFile": str(chain.trust_file(tmp_path))}}
    async with pulling(world, image, chain.server(tmp_path), host) as (proxy, _):
        got = await proxy.node.get(manifest())
        assert got.status == 200
        assert got.body == image.manifest


@pytest.mark.parametrize("certificates", GO_REFUSES | GO_REFUSES_NAMES)
async def test_certificates_that_a_node_refuses_get_no_request(
    world: World, image: Image, tmp_path: Path, certificates: str
) -> None:
    chain = (GO_REFUSES | GO_REFUSES_NAMES)[certificates](Subject(HOST))
    host = {"tls": {"caFile": str(chain.trust_file(tmp_path))}}
    async with pulling(world, image, chain.server(tmp_path), host) as (proxy, registry):
        got = await proxy.node.get(manifest())
        assert got.status == 503
        assert got.code == "UNAVAILABLE"
        assert registry.record.all() == ()
    world.assert_untouched()


@pytest.mark.parametrize("server", ["expired", "wrong name", "unknown authority", "self-signed"])
async def test_what_is_not_verified_for_one_host_is_verified_for_every_other(
    world: World, image: Image, authority: trustme.CA, tmp_path: Path, server: str
) -> None:
    """`insecureSkipVerify` goes with the host that has it, not with where that host redirects to."""
    untrusted = await asyncio.to_thread(SERVERS[server], authority, tmp_path)
    async with (
        pulling(world, image, untrusted, {"tls": {"insecureSkipVerify": True}}) as (proxy, registry),
        ScriptedRegistry([image], Rules(dialect="none"), tls=server_tls(authority, CDN)) as cdn,
    ):
        assert (await proxy.node.get(manifest())).status == 200
        world.resolves(CDN, (ELSEWHERE,))
        world.serves(ELSEWHERE, 443, cdn.url)
        registry.script(on(kind="blob"), Redirect(f"https://{CDN}/v2/team/app/blobs/{layer_of(image)[0]}"))
        assert (await proxy.node.get(blob(layer_of(image)[0]))).status == 503
        assert cdn.record.all() == ()
