"""Clients that pull with credentials of their own: imagePullSecrets, rights on hits as on misses, and both dialects."""

import base64
import contextlib
import http.client
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.real.containerd import Node
from tests.real.content import Blob
from tests.real.cri import Auth, CriError
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT, Image, catalogue, named
from tests.real.processes import scratch
from tests.real.registry import Registry, open_registry
from tests.real.skopeo import Skopeo
from tests.real.strictness import Mode
from tests.real.through_proxy import FILES, MINI, OPERATOR, RULES, SCOPES, StartProxy, point_at, registries
from tests.real.token_server import OTHER, OTHER_PASSWORD, PASSWORD, USER, TokenServer
from tests.real.uploads import Uploader

pytestmark = pytest.mark.slow

RIGHT = Auth(username=USER, password=PASSWORD)
NO_RIGHT = {
    "other": Auth(username=OTHER, password=OTHER_PASSWORD),
    "wrong": Auth(username=USER, password="not-the-password"),
    "unknown": Auth(username="mallory", password=PASSWORD),
    "none": None,
}
"""Everybody who may not pull the private image; `other` is a user who may pull another one."""
PRIVATE, PRIVATE_NAME, OPEN_NAME = MINI, "cp/se-data-center-edge/mini-test", "cp/se-data-center-edge/ibm-operator"
NOT_DISTRIBUTED = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
REVOKED_WITHIN = 30.0  # seconds in which a test has to see the end of a right that lasts one more second


@pytest.fixture
def private(tokens: TokenServer) -> Image:
    """The private image: `other` has rights to the operator alone."""
    tokens.anonymous = False
    tokens.rights = {OTHER: frozenset({f"{PROJECT}/ibm-operator"})}
    return named(f"{PROJECT}/mini-test:1")


def hosts(registry: Registry, tokens: TokenServer) -> Mapping[str, object]:
    """No credential of the proxy's own."""
    return {registry.address: {"realms": [tokens.url]}}


def ask(
    address: str, target: str, auth: Auth | None, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """One request as any program on the node can send it."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    sent = dict(headers or {})
    if auth is not None:
        sent["Authorization"] = "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
    try:
        connection.request(method, target, headers=sent)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("mode", [Mode.ARTIFACTORY, Mode.TOLERANT], ids=["strict", "tolerant"])
def test_right_secret_pulls_and_nobody_else_gets_anything_from_the_warm_cache(
    start_node: Callable[[], Node],
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    cache_directory: Path,
    private: Image,
    mode: Mode,
) -> None:
    tokens.mode = mode
    proxy = start_proxy(
        registries(registry.url),
        hosts(registry, tokens),
        clients={"auth": "upstream"},
        cache={"path": str(cache_directory)},
    )
    owner = start_node()
    point_at(owner, proxy)
    owner.cri.pull(PRIVATE, RIGHT)
    owner.assert_complete(PRIVATE, *FILES[PRIVATE])
    for auth in NO_RIGHT.values():
        node = start_node()
        point_at(node, proxy)
        with pytest.raises(CriError):
            node.cri.pull(PRIVATE, auth)
        assert node.content() == {}
    layer = private.blobs[-1].digest
    attempts = [
        f"/v2/{PRIVATE_NAME}/manifests/1",
        f"/v2/{PRIVATE_NAME}/manifests/{private.manifest.digest}",
        f"/v2/{OPEN_NAME}/manifests/{private.manifest.digest}",
        f"/v2/{PRIVATE_NAME}/blobs/{layer}",
        f"/v2/{OPEN_NAME}/blobs/{layer}",
    ]
    for auth in NO_RIGHT.values():
        for target in attempts:
            for method, headers in (("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-9"})):
                status, body = ask(proxy.address, f"{target}?ns=cp.icr.io", auth, method, headers)
                assert status in {401, 403, 404}, (target, auth)
                assert private.manifest.data not in body
                assert private.blobs[-1].data not in body


def test_joining_a_download_in_flight_takes_the_same_right(
    registry: Registry, tokens: TokenServer, start_proxy: StartProxy, cache_directory: Path, private: Image
) -> None:
    proxy = start_proxy(
        registries(registry.url),
        hosts(registry, tokens),
        clients={"auth": "upstream"},
        cache={"path": str(cache_directory)},
    )
    target = f"/v2/{PRIVATE_NAME}/blobs/{private.blobs[-1].digest}?ns=cp.icr.io"
    for auth in (RIGHT, NO_RIGHT["other"], RIGHT):
        status, body = ask(proxy.address, target, auth)
        assert (status == 200) == (auth is RIGHT)
        assert (body == private.blobs[-1].data) == (auth is RIGHT)


def test_taking_the_right_away_upstream_ends_access_within_the_age_of_a_proof(
    registry: Registry, tokens: TokenServer, start_proxy: StartProxy, cache_directory: Path, private: Image
) -> None:
    proxy = start_proxy(
        registries(registry.url),
        hosts(registry, tokens),
        clients={"auth": "upstream", "proofAge": "1s"},
        cache={"path": str(cache_directory)},
    )
    target = f"/v2/{PRIVATE_NAME}/blobs/{private.blobs[-1].digest}?ns=cp.icr.io"
    assert ask(proxy.address, target, RIGHT)[0] == 200
    tokens.rights[USER] = frozenset()  # tokens that were given stay good for docker-registry
    deadline = time.monotonic() + REVOKED_WITHIN
    while (status := ask(proxy.address, target, RIGHT)[0]) == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status == 403


def test_error_of_a_wrong_secret_is_what_the_kubelet_shows(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, private: Image
) -> None:
    assert private.tag == "1"
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens), clients={"auth": "upstream"}))
    with pytest.raises(CriError) as refusal:
        node.cri.pull(PRIVATE, NO_RIGHT["other"])
    assert f"for {SCOPES[PRIVATE]} as other" in str(refusal.value)


@pytest.fixture
def bearer() -> object:
    """The listener whose clients get tokens of ours."""
    with scratch("keys") as directory:
        keys = directory / "token-keys"
        keys.write_text("0123456789abcdef0123456789abcdef-a-key-of-this-test\n")
        yield {"auth": "upstream", "challenge": "bearer", "externalURL": "{url}", "tokenKeyFile": str(keys)}


@pytest.mark.parametrize("rewriting", [False, True], ids=["plain", "rewriting"])
def test_bearer_with_containerd_asks_one_scope_upstream(
    node: Node,
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    bearer: Mapping[str, object],
    private: Image,
    rewriting: bool,
) -> None:
    # A path prefix makes a plain containerd do what a rewriting, unpatched k3s does: its POST to /token has two scopes.
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens), clients=bearer)
    image = "cp.icr.io/mini-test:1" if rewriting else PRIVATE
    endpoint = f"{proxy.url}/v2/{PROJECT}" if rewriting else proxy.url
    write_mirror(node.certs_d, "cp.icr.io", [endpoint], override_path=rewriting)
    node.cri.pull(image, RIGHT)
    assert private.manifest.digest in node.content()
    assert {request.scopes for request in tokens.requests} == {(SCOPES[PRIVATE],)}
    assert {request.user for request in tokens.requests} == {USER}


def test_bearer_refuses_containerd_without_the_right(
    node: Node,
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    bearer: Mapping[str, object],
    private: Image,
) -> None:
    assert private.tag == "1"
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens), clients=bearer))
    for auth in NO_RIGHT.values():
        with pytest.raises(CriError):
            node.cri.pull(PRIVATE, auth)
    assert node.content() == {}
    node.cri.pull(OPERATOR, NO_RIGHT["other"])


@pytest.mark.parametrize("dialect", ["basic", "bearer"])
def test_skopeo_copies_with_its_own_credentials(
    skopeo: Skopeo,
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    bearer: Mapping[str, object],
    private: Image,
    dialect: str,
) -> None:
    clients = bearer if dialect == "bearer" else {"auth": "upstream"}
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens), clients=clients)
    image = f"{proxy.address}/cp.icr.io/{PRIVATE_NAME}:1"
    skopeo.copy(image, "copy", user=f"{USER}:{PASSWORD}").checked()
    assert skopeo.copied("copy")["manifest.json"] == private.manifest.data
    assert {request.scopes for request in tokens.requests} == {(SCOPES[PRIVATE],)}
    for user in (f"{OTHER}:{OTHER_PASSWORD}", f"{USER}:wrong", None):
        assert skopeo.copy(image, "not", user=user).status != 0


@pytest.mark.parametrize("dialect", ["basic", "bearer"])
def test_public_images_need_no_credentials(
    node: Node,
    skopeo: Skopeo,
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    bearer: Mapping[str, object],
    dialect: str,
) -> None:
    clients = bearer if dialect == "bearer" else {"auth": "upstream", "allowAnonymous": True}
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens), clients=clients)
    point_at(node, proxy)
    node.cri.pull(PRIVATE)
    node.assert_complete(PRIVATE, *FILES[PRIVATE])
    skopeo.copy(f"{proxy.address}/cp.icr.io/{PRIVATE_NAME}:1", "copy").checked()
    assert {request.user for request in tokens.requests} == {None}
    assert set(RULES) >= {"cp.icr.io"}


@pytest.mark.parametrize("how", ["other-field", "key-twice"])
def test_a_manifest_that_the_registry_accepts_opens_nothing_that_it_only_claims(
    store: Path,
    registry: Registry,
    tokens: TokenServer,
    start_proxy: StartProxy,
    cache_directory: Path,
    private: Image,
    how: str,
) -> None:
    """docker-registry checks no field that the type does not have, and reads the second array into the first."""
    proxy = start_proxy(
        registries(registry.url),
        hosts(registry, tokens),
        clients={"auth": "upstream"},
        cache={"path": str(cache_directory)},
    )
    secret = private.blobs[-1]
    for target in (f"manifests/{private.tag}", f"blobs/{secret.digest}"):
        assert ask(proxy.address, f"/v2/{PRIVATE_NAME}/{target}?ns=cp.icr.io", RIGHT)[0] == 200
    own = next(image for image in catalogue() if image.repository == f"{PROJECT}/ibm-operator")
    crafted = _crafted(how, own, [secret.digest, private.manifest.digest])
    with open_registry(store) as writable, contextlib.closing(Uploader(writable.address)) as uploader:
        uploader.put_manifest(own.repository, f"crafted-{how}", crafted)  # asserts 201
    allowed = NO_RIGHT["other"]
    assert ask(proxy.address, f"/v2/{OPEN_NAME}/manifests/crafted-{how}?ns=cp.icr.io", allowed)[0] == 200
    for digest in (secret.digest, private.manifest.digest):
        for kind in ("blobs", "manifests"):
            for method in ("GET", "HEAD"):
                status, body = ask(proxy.address, f"/v2/{OPEN_NAME}/{kind}/{digest}?ns=cp.icr.io", allowed, method)
                assert (status, body in {secret.data, private.manifest.data}) == (404, False), (kind, method)


def _crafted(how: str, own: Image, wanted: list[str]) -> Blob:
    """A manifest of an own image that claims to hold other digests as well."""
    fields = json.loads(own.manifest.data)
    claims = json.dumps([{"mediaType": "application/octet-stream", "digest": digest, "size": 1} for digest in wanted])
    if how == "other-field":
        return Blob(own.manifest.media_type, f'{json.dumps(fields)[:-1]}, "blobs": {claims}}}'.encode())
    elsewhere = {"mediaType": NOT_DISTRIBUTED, "urls": ["https://elsewhere.example/layer"]}
    fields["layers"] = [{**elsewhere, "digest": own.blobs[-1].digest, "size": 1}] * len(wanted)
    return Blob(own.manifest.media_type, f'{json.dumps(fields)[:-1]}, "layers": {claims}}}'.encode())
