"""Fixtures of real parts: registry, token server, nodes, skopeo, proxy."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.app_thread import serving
from tests.real import big_image as big
from tests.real.containerd import Node, containerd
from tests.real.cri import Auth
from tests.real.images import Image, catalogue
from tests.real.processes import scratch
from tests.real.programs import require
from tests.real.proxy_process import Proxy, serving_proxy
from tests.real.registry import Registry, open_registry, token_registry
from tests.real.signing import Signer
from tests.real.skopeo import Skopeo
from tests.real.token_server import TokenServer
from tests.real.uploads import Uploader

HERE = Path(__file__).parent
PREFIX = "/artifactory/api/docker/local/"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def store() -> Iterator[Path]:
    """The registry's files, with every small image."""
    require("docker-registry")
    with scratch("store") as directory:
        with open_registry(directory) as registry, contextlib.closing(Uploader(registry.address)) as uploader:
            for image in catalogue():
                uploader.push(image)
        yield directory


@pytest.fixture(scope="session")
def big_image(store: Path) -> big.BigImage:
    """The image with a layer of 1 GiB, made when a test first asks for it."""
    with open_registry(store) as registry, contextlib.closing(Uploader(registry.address)) as uploader:
        return big.push(uploader)


@pytest.fixture(scope="session")
def _signer() -> Signer:
    return Signer()


@pytest.fixture(scope="session")
def _token_server(_signer: Signer) -> Iterator[TokenServer]:
    server = TokenServer(_signer, {image.repository for image in catalogue()} | {big.REPOSITORY})
    with serving(server.app()) as url:
        server.url = url
        yield server


@pytest.fixture(scope="session")
def _registry(store: Path, _token_server: TokenServer, _signer: Signer) -> Iterator[Registry]:
    with token_registry(store, token_server=_token_server.url, signer=_signer) as registry:
        yield registry


@pytest.fixture
def tokens(_token_server: TokenServer) -> TokenServer:
    """The token server, as after a start: strict as Artifactory, with an empty record."""
    _token_server.reset()
    return _token_server


@pytest.fixture
def registry(_registry: Registry, tokens: TokenServer) -> Registry:
    """The registry that wants tokens of `tokens`."""
    assert tokens.requests == []
    return _registry


@pytest.fixture
def counted_registry(
    store: Path, _token_server: TokenServer, _signer: Signer, tokens: TokenServer
) -> Iterator[Registry]:
    """A registry of the test's own, that may be stopped and tells what it has served."""
    assert tokens.requests == []
    with token_registry(store, token_server=_token_server.url, signer=_signer, access_log=True) as registry:
        yield registry


@pytest.fixture
def push(store: Path) -> Callable[[Image], None]:
    """Put another image into the files of every registry."""

    def put(image: Image) -> None:
        with open_registry(store) as registry, contextlib.closing(Uploader(registry.address)) as uploader:
            uploader.push(image)

    return put


@pytest.fixture
def cache_directory() -> Iterator[Path]:
    """Where a proxy's cache goes; several proxies may use it one after the other."""
    with scratch("cache") as directory:
        yield directory / "cache"


@pytest.fixture(scope="session")
def _prefixed_registry(store: Path, _token_server: TokenServer, _signer: Signer) -> Iterator[Registry]:
    with token_registry(store, token_server=_token_server.url, signer=_signer, prefix=PREFIX) as registry:
        yield registry


@pytest.fixture
def prefixed_registry(_prefixed_registry: Registry, tokens: TokenServer) -> Registry:
    """A registry whose API root is below `PREFIX`, as Artifactory's."""
    assert tokens.requests == []
    return _prefixed_registry


@pytest.fixture
def start_node() -> Iterator[Callable[..., Node]]:
    """Start as many empty nodes as a test wants; credentials for their configuration by `host:port`."""
    require("containerd", "ctr", "runc", root=True)
    with contextlib.ExitStack() as nodes:

        def start(auths: Mapping[str, Auth] | None = None) -> Node:
            return nodes.enter_context(containerd(auths))

        yield start


@pytest.fixture
def node(start_node: Callable[..., Node]) -> Node:
    """One empty node."""
    return start_node()


@pytest.fixture
def skopeo() -> Iterator[Skopeo]:
    """skopeo with an empty configuration."""
    require("skopeo")
    with scratch("skopeo") as directory:
        yield Skopeo(directory)


@pytest.fixture
def start_proxy() -> Iterator[Callable[..., Proxy]]:
    """Start a proxy; the arguments are those of `proxy_process.serving_proxy`."""
    with contextlib.ExitStack() as proxies:

        def start(registries: Mapping[str, object], *args: Any, **more: Any) -> Proxy:
            return proxies.enter_context(serving_proxy(registries, *args, **more))

        yield start
