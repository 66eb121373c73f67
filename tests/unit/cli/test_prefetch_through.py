"""`cache prefetch --through`: a running proxy fetches the images into its own cache, as a node would have it do."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme
from aiohttp import web
from click.testing import CliRunner, Result

from proxy.cli.main import main
from proxy.config.address import Origin
from proxy.config.load import Loaded, parse_config
from proxy.oci.reference import ImageReference
from proxy.prefetch.instances import NotReady, WantedListeners, ready_listeners
from proxy.prefetch.listener import ListenerAddress, ListenerClient, PrefetchFailed, listener_session
from proxy.prefetch.through import ThroughPrefetch
from proxy.runtime.run import running
from proxy.testbed.images import demo_images
from proxy.testbed.strict_registry import StrictRegistry
from proxy.testbed.tokens import Account, Rules
from proxy.transport.verification import client_context
from tests.fakes.app_thread import entered, serving
from tests.fakes.canaries import PASSWORD
from tests.fakes.proxy import authority
from tests.unit.cli.test_cache import INDEX, MINI, contents, demo_image
from tests.unit.cli.test_prefetch import MIB, held

USER = "robot"
NAMES = [f"docker.io/app:{tag}" for tag in ("one", "two", "three")]


@pytest.fixture
def registry() -> Iterator[StrictRegistry]:
    images = [held(tag, 2 * MIB, repository="hmirror/library/app") for tag in ("one", "two", "three")]
    server = StrictRegistry([*demo_images(), *images], Rules(refuse=404, accounts=(Account(USER, PASSWORD),)))
    with entered(server):
        yield server


def configuration(registry: StrictRegistry, directory: Path, *, is_cached: bool = True, **more: Any) -> Loaded:
    """A proxy with a cache below the directory, and credentials for the registry."""
    rules = {"cp.icr.io": ("^(.+)$", "se-next-gen-docker-local/$1"), "docker.io": ("^(.+)$", "hmirror/$1")}
    registries = {
        name: {"endpoints": [registry.url], "rewrites": [{"pattern": pattern, "replacement": replacement}]}
        for name, (pattern, replacement) in rules.items()
    }
    document = {
        "version": 1,
        "admin": None,
        "listeners": [{"address": "127.0.0.1:0", **more.pop("listener", {})}],
        "registries": registries,
        "hosts": {authority(registry.url): {"credentials": {"username": USER, "password": PASSWORD}}},
        "cache": {"path": str(directory / "cache"), "reserveFree": "1Ki", **more.pop("cache", {})},
        **more,
    }
    if not is_cached:
        del document["cache"]
    return parse_config(json.dumps(document), "test.yaml")


@contextmanager
def proxy(registry: StrictRegistry, directory: Path, **more: Any) -> Iterator[str]:
    """A proxy that runs; the URL of its listener."""
    loaded = configuration(registry, directory, **more)
    addresses: list[str] = []

    @asynccontextmanager
    async def started() -> AsyncIterator[None]:
        async with running(loaded) as state:
            addresses.extend(state.addresses)
            yield

    with entered(started()):
        yield f"{'https' if loaded.config.listeners[0].tls else 'http'}://{addresses[0]}"


def run(url: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    command = ["cache", "prefetch", "--through", url, *arguments]
    return CliRunner().invoke(main, command, env=dict(environment or {}))


def stored(directory: Path) -> set[str]:
    return {f"sha256:{file.name}" for file in (directory / "cache" / "blobs").rglob("*") if file.is_file()}


def test_running_proxy_has_the_images_in_its_cache(registry: StrictRegistry, tmp_path: Path) -> None:
    with proxy(registry, tmp_path) as url:
        result = run(url, MINI, INDEX)
        assert result.exit_code == 0, result.output
        again = run(url, MINI)
    wanted = contents(demo_image("se-next-gen-docker-local/mini-test"))
    assert stored(tmp_path) == wanted | contents(demo_image("hmirror/rabbitmqoperator/cluster-operator"))
    assert f"{MINI}: " in result.output
    assert "0 B of it fetched" in again.output


def test_one_platform_is_fetched(registry: StrictRegistry, tmp_path: Path) -> None:
    with proxy(registry, tmp_path) as url:
        assert run(url, INDEX, "--platform", "linux/arm64").exit_code == 0
    index = demo_image("hmirror/rabbitmqoperator/cluster-operator")
    chosen = next(platform for platform in index.platforms if platform.platform == "linux/arm64")
    assert stored(tmp_path) == {index.digest} | contents(chosen)


def test_image_that_the_proxy_does_not_serve_fails_with_its_reason(registry: StrictRegistry, tmp_path: Path) -> None:
    with proxy(registry, tmp_path) as url:
        result = run(url, "quay.io/app:1", MINI)
    assert result.exit_code == 1
    assert "quay.io/app:1: failed: the proxy responded with 403: " in result.output
    assert "1 of 2 images failed" in result.output


def test_images_that_evict_one_another_fail_and_the_check_downloads_nothing(
    registry: StrictRegistry, tmp_path: Path
) -> None:
    with proxy(registry, tmp_path, cache={"maxSize": "5Mi"}) as url:
        result = run(url, *NAMES)
    assert result.exit_code == 1
    assert "is not complete in the proxy's cache: " in result.output
    assert "the images together need 6.0 MiB; increase the proxy's maxSize" in result.output
    images = [held(tag, 2 * MIB, repository="hmirror/library/app") for tag in ("one", "two", "three")]
    complete = [contents(image) <= stored(tmp_path) for image in images]
    failed = re.search(r"(\d) of 3 images failed", result.output)
    assert failed is not None
    assert int(failed[1]) >= complete.count(False) >= 1  # one of them may have come back since it was checked


def test_proxy_without_a_cache_fails(registry: StrictRegistry, tmp_path: Path) -> None:
    with proxy(registry, tmp_path, is_cached=False) as url:
        result = run(url, MINI)
    assert result.exit_code == 1
    assert "the proxy does not cache it" in result.output


@pytest.fixture
def login(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "users").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return "--username", USER, "--password-file", str(tmp_path / "password")


def test_listener_with_users_gets_the_login(registry: StrictRegistry, tmp_path: Path, login: Sequence[str]) -> None:
    clients = {"auth": "basic", "htpasswdFile": str(tmp_path / "users")}
    with proxy(registry, tmp_path, listener={"clients": clients}) as url:
        refused, accepted = run(url, MINI), run(url, MINI, *login)
        by_environment = run(url, MINI, *login[2:], environment={"SCOPE_PROXY_USERNAME": USER})
    assert refused.exit_code == 1
    assert "requires authentication: use --username and --password-file" in refused.output
    assert accepted.exit_code == 0, accepted.output
    assert by_environment.exit_code == 0
    assert PASSWORD not in refused.output + accepted.output


@pytest.mark.parametrize("challenge", ["basic", "bearer"])
def test_listener_for_clients_credentials_gets_the_login(
    registry: StrictRegistry, tmp_path: Path, login: Sequence[str], challenge: str
) -> None:
    clients: dict[str, Any] = {"auth": "upstream", "challenge": challenge}
    if challenge == "bearer":
        (tmp_path / "key").write_text("k" * 64 + "\n")
        clients |= {"externalURL": "https://elsewhere.example", "tokenKeyFile": str(tmp_path / "key")}
    with proxy(registry, tmp_path, listener={"clients": clients}, hosts={}) as url:
        result = run(url, MINI, *login)
    assert result.exit_code == 0, result.output
    assert stored(tmp_path) == contents(demo_image("se-next-gen-docker-local/mini-test"))


def test_tls_is_verified_and_client_certificates_are_sent(registry: StrictRegistry, tmp_path: Path) -> None:
    issuer = trustme.CA()
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issuer.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    client = issuer.issue_cert("client.example", common_name="client")
    client.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    client.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    files = {"certFile": str(tmp_path / "tls.pem"), "keyFile": str(tmp_path / "tls.pem")}
    listener = {"clients": {"auth": "certificate"}, "tls": {**files, "clientCaFile": str(tmp_path / "ca.pem")}}
    trusting = ["--ca-file", str(tmp_path / "ca.pem")]
    certificate = ["--cert-file", str(tmp_path / "cert.pem"), "--key-file", str(tmp_path / "key.pem")]
    with proxy(registry, tmp_path, listener=listener) as url:
        untrusting = run(url, MINI, *certificate)
        result = run(url, MINI, *trusting, *certificate)
    assert untrusting.exit_code == 1
    assert "certificate" in untrusting.output
    assert result.exit_code == 0, result.output


def test_what_is_not_scope_proxy_gets_no_credential(login: Sequence[str]) -> None:
    seen: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", handle)
    with serving(app) as url:
        result = run(url, MINI, *login)
    assert result.exit_code == 1
    assert "something that is not scope-proxy responds" in result.output
    assert set(seen) == {None}


@pytest.mark.parametrize(
    "arguments",
    [["--instances", "localhost"], ["--wait", "3"], ["--username", "robot"], ["--ca-file", "x.pem"]],
    ids=lambda arguments: arguments[0],
)
def test_options_of_running_proxies_need_one(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["cache", "prefetch", MINI, *arguments])
    assert result.exit_code == 2
    assert f"{arguments[0]} is for --through URL" in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--username", "robot"], "--username and --password-file together"),
        (["--cert-file", "x.pem"], "--cert-file and --key-file together"),
        (["--ca-file", "/nonexistent/ca.pem"], "cannot use --ca-file /nonexistent/ca.pem"),
        (["--username", "r", "--password-file", "/nonexistent/p"], "cannot read the password"),
    ],
)
def test_wrong_usage_is_reported(arguments: list[str], problem: str) -> None:
    result = run("http://127.0.0.1:1", MINI, *arguments)
    assert result.exit_code == 2
    assert problem in result.output


async def test_every_instance_is_waited_for_and_fetches_by_itself(registry: StrictRegistry, tmp_path: Path) -> None:
    addresses: list[list[str]] = [[], ["127.0.0.1"]]

    async def lookup(name: str) -> list[str]:
        assert name == "instances.example"
        return addresses.pop(0) if len(addresses) > 1 else addresses[0]

    loaded = await asyncio.to_thread(configuration, registry, tmp_path)
    async with running(loaded) as state:
        port = int(state.addresses[0].rpartition(":")[2])
        origin = Origin("http", "proxy.example", port)
        tls = client_context()
        [listener] = await ready_listeners(WantedListeners(origin, "instances.example"), tls, 30, lookup)
        assert listener == ListenerAddress(origin, "127.0.0.1")
        async with listener_session(listener, tls, 3) as session:
            prefetch = ThroughPrefetch(ListenerClient(session, origin))
            image = await prefetch.fetch(ImageReference.parse(MINI), frozenset(), lambda _: None)
            assert await prefetch.problems([image]) == [None]
        two = WantedListeners(origin, "instances.example", 2)
        with pytest.raises(NotReady, match="has 1 of 2 addresses"):
            await ready_listeners(two, tls, 0, lookup)


async def test_busy_proxy_is_asked_again_and_wrong_bytes_fail() -> None:
    served = [web.Response(status=504, headers={"Retry-After": "0"}), web.Response(status=503)]

    async def handle(_: web.Request) -> web.Response:
        return served.pop(0) if served else web.Response(body=b"{}")

    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", handle)
    digest = "sha256:" + "0" * 64
    with serving(app) as url:
        listener = ListenerAddress(Origin.parse(url))
        async with listener_session(listener, client_context(), 1) as session:
            prefetch = ThroughPrefetch(ListenerClient(session, listener.origin, pause=0.01))
            with pytest.raises(PrefetchFailed, match="digest mismatch"):
                await prefetch.fetch(ImageReference.parse(f"docker.io/app@{digest}"), frozenset(), lambda _: None)
    assert served == []
