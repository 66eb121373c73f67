"""The parts themselves: what the other tests build on does what it says."""

import contextlib
import http.client
from collections.abc import Callable

import pytest

from tests.real import images
from tests.real.big_image import BigImage
from tests.real.containerd import Node
from tests.real.cri import Auth, CriError
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT, Image, catalogue
from tests.real.registry import Registry
from tests.real.skopeo import Skopeo
from tests.real.token_server import PASSWORD, REFRESH_TOKEN, USER, TokenServer

REGISTRY = "registry.example"  # a name that the node finds on loopback by its hosts.toml
INDEX_OF_ARTIFACTS = images.signature_list().reference
PULLED = [image for image in catalogue() if image.reference != INDEX_OF_ARTIFACTS]


@pytest.fixture
def direct(node: Node, registry: Registry) -> Node:
    """A node that asks the registry by the right names, without a path."""
    write_mirror(node.certs_d, REGISTRY, [registry.url])
    return node


@pytest.mark.parametrize("image", PULLED, ids=lambda image: image.reference)
def test_every_image_pulls_and_unpacks_by_its_right_name(direct: Node, tokens: TokenServer, image: Image) -> None:
    name = f"{REGISTRY}/{image.reference}"
    direct.cri.pull(name)
    info = direct.cri.status(name)
    assert info is not None
    assert info.digests == (f"{REGISTRY}/{image.repository}@{image.manifest.digest}",)
    direct.assert_complete(name, *image.files)
    assert tokens.scopes() == {f"repository:{image.repository}:pull"}


@pytest.mark.slow
def test_big_image_pulls_and_unpacks(direct: Node, big_image: BigImage) -> None:
    name = f"{REGISTRY}/{big_image.reference}"
    direct.cri.pull(name)
    direct.assert_complete(name, "big")
    assert big_image.layer_digest in direct.content()


def test_ctr_pulls_by_the_same_hosts_directory(direct: Node) -> None:
    name = f"{REGISTRY}/{PROJECT}/twelve-layers:1"
    direct.ctr.pull(name, user=f"{USER}:{PASSWORD}").checked()
    direct.assert_complete(name, *images.twelve_layers().files)


def test_removed_image_is_missing(direct: Node) -> None:
    name = f"{REGISTRY}/{PROJECT}/mini-test:1"
    direct.cri.pull(name)
    direct.cri.remove(name)
    assert direct.cri.images() == ()
    assert direct.cri.status(name) is None


def test_skopeo_copies_every_platform_of_an_index(skopeo: Skopeo, registry: Registry) -> None:
    image = images.multi_arch()
    skopeo.copy(f"{registry.address}/{image.reference}", "copy", every=True).checked()
    files = skopeo.copied("copy")
    assert files["manifest.json"] == image.manifest.data
    assert {blob.digest.removeprefix("sha256:") for blob in image.blobs} <= files.keys()


def test_skopeo_finds_a_registry_at_another_place(skopeo: Skopeo, registry: Registry) -> None:
    skopeo.locate("icr.io", f"{registry.address}/{PROJECT}")
    raw = skopeo.inspect_raw("icr.io/mini-test:1").checked()
    assert raw.encode() == images.named(f"{PROJECT}/mini-test:1").manifest.data


@pytest.mark.parametrize(
    "auth", [Auth(username=USER, password=PASSWORD), Auth(identity_token=REFRESH_TOKEN)], ids=["password", "identity"]
)
def test_registry_that_refuses_anonymous_pulls_takes_both_grants(direct: Node, tokens: TokenServer, auth: Auth) -> None:
    tokens.anonymous = False
    direct.cri.pull(f"{REGISTRY}/{PROJECT}/mini-test:1", auth)
    assert {(request.method, request.user, request.status) for request in tokens.requests} == {("POST", USER, 200)}


@pytest.mark.parametrize("auth", [None, Auth(username=USER, password="wrong")], ids=["anonymous", "wrong-password"])
def test_registry_that_refuses_anonymous_pulls_refuses(direct: Node, tokens: TokenServer, auth: Auth | None) -> None:
    tokens.anonymous = False
    with pytest.raises(CriError, match="401 Unauthorized"):
        direct.cri.pull(f"{REGISTRY}/{PROJECT}/mini-test:1", auth)
    assert {request.status for request in tokens.requests} == {401}


def test_two_nodes_run_at_once(direct: Node, start_node: Callable[..., Node]) -> None:
    other = start_node()
    direct.cri.pull(f"{REGISTRY}/{PROJECT}/mini-test:1")
    assert len(direct.cri.images()) == 1
    assert other.cri.images() == ()


def test_registry_lets_nobody_in_without_a_token(registry: Registry) -> None:
    connection = http.client.HTTPConnection(registry.address, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/v2/{PROJECT}/mini-test/manifests/1")
        answer = connection.getresponse()
        assert answer.status == 401
        assert f'scope="repository:{PROJECT}/mini-test:pull"' in answer.headers["WWW-Authenticate"]


def test_images_are_the_same_bytes_every_time() -> None:
    assert catalogue() == catalogue()
