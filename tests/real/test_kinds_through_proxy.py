"""Every kind of image and client through the proxy: byte-exact, unpacked, one scope."""

import json
from hashlib import sha256

import pytest

from tests.real.big_image import BigImage
from tests.real.containerd import Node
from tests.real.images import PROJECT, named
from tests.real.registry import Registry
from tests.real.skopeo import Skopeo
from tests.real.strictness import STRICT_MODES, Mode
from tests.real.through_proxy import StartProxy, hosts, point_at, registries
from tests.real.token_server import TokenServer

pytestmark = pytest.mark.slow

every_strict_mode = pytest.mark.parametrize("mode", STRICT_MODES, ids=lambda mode: mode.name.lower())
BIG_TIMEOUT = 300


@pytest.mark.parametrize(
    ("name", "tag"), [("multi-arch", "1"), ("zstd", "1"), ("twelve-layers", "1")], ids=["index", "zstd", "12-layers"]
)
@every_strict_mode
def test_kind_pulls_and_unpacks(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, mode: Mode, name: str, tag: str
) -> None:
    tokens.mode, tokens.anonymous = mode, False
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens)))
    image = f"icr.io/cpopen/{name}:{tag}"
    node.cri.pull(image)
    node.assert_complete(image, *named(f"{PROJECT}/{name}:{tag}").files)
    assert [request.scopes for request in tokens.requests] == [(f"repository:{PROJECT}/{name}:pull",)]


@pytest.mark.timeout(BIG_TIMEOUT)
def test_layer_of_one_gibibyte_pulls_and_unpacks(
    node: Node, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, big_image: BigImage
) -> None:
    tokens.anonymous = False
    point_at(node, start_proxy(registries(registry.url), hosts(registry, tokens)))
    image = big_image.reference.replace(f"{PROJECT}/", "icr.io/cpopen/")
    node.cri.pull(image, timeout=BIG_TIMEOUT)
    node.assert_complete(image)
    repository = big_image.reference.rpartition(":")[0]
    assert [request.scopes for request in tokens.requests] == [(f"repository:{repository}:pull",)]


@every_strict_mode
@pytest.mark.parametrize("name", ["mini-test:1", "multi-arch:1", "zstd:1", "mini-test:signature"])
def test_skopeo_copies_by_path_prefix(
    skopeo: Skopeo, registry: Registry, tokens: TokenServer, start_proxy: StartProxy, mode: Mode, name: str
) -> None:
    tokens.mode, tokens.anonymous = mode, False
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens))
    skopeo.locate("icr.io", f"{proxy.address}/icr.io")
    skopeo.copy(f"icr.io/cpopen/{name}", "copy", every=True).checked()
    files = skopeo.copied("copy")
    image = named(f"{PROJECT}/{name}")
    assert files["manifest.json"] == image.manifest.data
    blobs = {file: data for file, data in files.items() if len(file) == sha256().digest_size * 2}
    assert {file: sha256(data).hexdigest() for file, data in blobs.items()} == {file: file for file in blobs}
    assert {digest.digest.removeprefix("sha256:") for digest in image.blobs} <= set(blobs)
    assert tokens.scopes() == {f"repository:{PROJECT}/{name.partition(':')[0]}:pull"}


def test_artifact_with_a_subject_is_found_by_its_fallback_tag(
    skopeo: Skopeo, registry: Registry, tokens: TokenServer, start_proxy: StartProxy
) -> None:
    # docker-registry 2.8 has no referrers API: clients look for the tag sha256-<digest of the subject>.
    proxy = start_proxy(registries(registry.url), hosts(registry, tokens))
    skopeo.locate("icr.io", f"{proxy.address}/icr.io")
    subject = named(f"{PROJECT}/mini-test:1").manifest.digest
    index = json.loads(skopeo.inspect_raw(f"icr.io/cpopen/mini-test:{subject.replace(':', '-')}").checked())
    signature = json.loads(skopeo.inspect_raw("icr.io/cpopen/mini-test:signature").checked())
    assert [entry["digest"] for entry in index["manifests"]] == [
        named(f"{PROJECT}/mini-test:signature").manifest.digest
    ]
    assert signature["subject"]["digest"] == subject
