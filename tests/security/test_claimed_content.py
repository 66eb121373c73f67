"""A manifest opens the content that its media type says it holds, and nothing that it merely mentions."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from proxy.oci.descriptor import DOCKER_LIST, OCI_ARTIFACT
from proxy.testbed.answer import Bytes
from proxy.testbed.images import DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, make_image, sha256
from proxy.testbed.library import HeldManifest
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached
from tests.fakes.blobs import MIB, Generated
from tests.fakes.canaries import PASSWORD
from tests.fakes.client import NodeClient
from tests.fakes.proxy import REG, REWRITES, blob, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import ACCOUNTS, GUEST, OWNER, login, revoke

pytestmark = pytest.mark.security

SECRET = b"a layer of somebody else"
VICTIM = make_image("team/secret", "1", {"secret": SECRET})
"""An image that the author of the manifest may not pull; its digest is known to him."""
OWN = make_image("team/app", "1")
OTHER = "other.example"

_FIELDS = json.loads(OWN.manifest)
_CONFIG, (_LAYER,) = _FIELDS["config"], _FIELDS["layers"]
_CLAIMED = {"mediaType": "application/octet-stream", "digest": sha256(SECRET), "size": 1}
_CLAIMED_MANIFEST = {"mediaType": OCI_MANIFEST, "digest": VICTIM.digest, "size": 1}
_CLAIMS = [_CLAIMED, _CLAIMED_MANIFEST]
_ELSEWHERE = {"mediaType": OCI_LAYER, "urls": ["https://elsewhere.example/x"], "digest": _LAYER["digest"], "size": 1}


def _document(media_type: str, **fields: Any) -> str:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields})


def _with(document: str, text: str) -> str:
    """The document with more of it before its last brace: what a dictionary cannot hold."""
    return f"{document[:-1]}, {text}}}"


_IMAGE = _document(OCI_MANIFEST, config=_CONFIG, layers=[_LAYER])
_CLAIM = json.dumps(_CLAIMS)

OTHER_FIELDS: Mapping[str, tuple[str, str]] = {
    "image-blobs": (OCI_MANIFEST, _document(OCI_MANIFEST, config=_CONFIG, layers=[_LAYER], blobs=_CLAIMS)),
    "docker-image-blobs": (DOCKER_MANIFEST, _document(DOCKER_MANIFEST, config=_CONFIG, layers=[_LAYER], blobs=_CLAIMS)),
    "undeclared-image-blobs": (
        OCI_MANIFEST,
        json.dumps({"schemaVersion": 2, "config": _CONFIG, "layers": [_LAYER], "blobs": _CLAIMS}),
    ),
    "index-blobs": (OCI_INDEX, _document(OCI_INDEX, manifests=[], blobs=_CLAIMS)),
    "docker-list-blobs": (DOCKER_LIST, _document(DOCKER_LIST, manifests=[], blobs=_CLAIMS)),
    "artifact-layers": (OCI_ARTIFACT, _document(OCI_ARTIFACT, blobs=[_LAYER], layers=_CLAIMS)),
    "artifact-config": (OCI_ARTIFACT, _document(OCI_ARTIFACT, blobs=[_LAYER], config=_CLAIMED)),
    "artifact-manifests": (OCI_ARTIFACT, _document(OCI_ARTIFACT, blobs=[_LAYER], manifests=_CLAIMS)),
    "unknown-type": (
        OCI_MANIFEST,
        _document("application/vnd.example.manifest+json", config=_CONFIG, layers=[_LAYER, *_CLAIMS]),
    ),
    "config-as-a-list": (OCI_MANIFEST, _document(OCI_MANIFEST, config=[_CONFIG, *_CLAIMS], layers=[_LAYER])),
    "layers-as-an-object": (OCI_MANIFEST, _document(OCI_MANIFEST, config=_CONFIG, layers=_CLAIMED)),
    "subject": (OCI_MANIFEST, _document(OCI_MANIFEST, config=_CONFIG, layers=[_LAYER], subject=_CLAIMED_MANIFEST)),
}
"""Descriptors in fields that the media type does not define: no registry checks those."""

DOUBLES: Mapping[str, tuple[str, str]] = {
    "layers": (
        OCI_MANIFEST,
        _with(_document(OCI_MANIFEST, config=_CONFIG, layers=[_ELSEWHERE]), f'"layers": {_CLAIM}'),
    ),
    "layers-first": (
        OCI_MANIFEST,
        _with(_document(OCI_MANIFEST, config=_CONFIG, layers=_CLAIMS), f'"layers": {json.dumps([_LAYER])}'),
    ),
    "layers-escaped": (
        OCI_MANIFEST,
        _with(_document(OCI_MANIFEST, config=_CONFIG, layers=[_ELSEWHERE]), f'"l\\u0061yers": {_CLAIM}'),
    ),
    "config": (OCI_MANIFEST, _with(_IMAGE, f'"config": {json.dumps(_CLAIMED)}')),
    "digest": (
        OCI_MANIFEST,
        _document(OCI_MANIFEST, config=_CONFIG, layers=["@"]).replace(
            '"@"', _with(json.dumps(_LAYER), f'"digest": "{sha256(SECRET)}"')
        ),
    ),
    "urls": (
        OCI_MANIFEST,
        _document(OCI_MANIFEST, config=_CONFIG, layers=["@", _LAYER]).replace(
            '"@"', _with(json.dumps({**_CLAIMED, "urls": ["https://elsewhere.example/x"]}), '"urls": []')
        ),
    ),
    "media-type": (
        OCI_MANIFEST,
        _with(_document(OCI_ARTIFACT, config=_CONFIG, layers=_CLAIMS), f'"mediaType": "{OCI_MANIFEST}"'),
    ),
    "annotation": (
        OCI_MANIFEST,
        _with(_document(OCI_MANIFEST, config=_CONFIG, layers=_CLAIMS), '"annotations": {"a": "1", "a": "2"}'),
    ),
    "another-case": (OCI_MANIFEST, _with(_document(OCI_MANIFEST, config=_CONFIG, layers=_CLAIMS), '"Layers": []')),
    "another-case-of-an-unknown-key": (
        OCI_MANIFEST,
        _with(_document(OCI_MANIFEST, config=_CONFIG, layers=_CLAIMS), '"note": 1, "NOTE": 2'),
    ),
    "another-case-in-a-descriptor": (
        OCI_MANIFEST,
        _document(OCI_MANIFEST, config=_CONFIG, layers=[{**_CLAIMED, "size": 1, "Size": 2}]),
    ),
}
"""A key that stands twice: readers differ in which of them counts, and Go joins the two."""

CRAFTED = {**OTHER_FIELDS, **{f"double-{name}": made for name, made in DOUBLES.items()}}


def publish(registry: ScriptedRegistry, name: str, repository: str = "team/app") -> str:
    """Put a crafted manifest into a repository under the tag `crafted`; its digest."""
    media_type, text = CRAFTED[name]
    content = text.encode()
    held = registry.library.repository(repository)
    held.manifests[sha256(content)] = HeldManifest(sha256(content), media_type, Bytes(content))
    held.tags["crafted"] = sha256(content)
    return sha256(content)


def hide(registry: ScriptedRegistry) -> None:
    """Let a registry hold what the author of the manifest must not get."""
    registry.add(VICTIM)
    registry.library.repository("team/secret").blobs[sha256(SECRET)] = Bytes(SECRET)


async def assert_closed(node: NodeClient, *headers: tuple[str, str], name: str = "library/app") -> None:
    """Nobody gets at the secret through the repository of the crafted manifest."""
    for target in (blob(sha256(SECRET), name), manifest(sha256(SECRET), name), manifest(VICTIM.digest, name)):
        for method in ("HEAD", "GET"):
            got = await node.send(method, target, *headers)
            assert (got.status, SECRET in got.body, got.body == VICTIM.manifest) == (404, False, False), target


@pytest.mark.parametrize("name", CRAFTED)
async def test_what_a_manifest_only_mentions_is_not_opened_by_it(
    plain: ScriptedRegistry, tmp_path: Path, name: str
) -> None:
    hide(plain)
    digest = publish(plain, name)
    async with cached([plain.url], tmp_path / "cache") as node:
        assert (await node.get(blob(sha256(SECRET), "library/secret"))).body == SECRET
        assert (await node.get(manifest(name="library/secret"))).body == VICTIM.manifest
        assert (await node.get(manifest("crafted"))).status == 200
        assert (await node.get(manifest(digest))).status == 200
        await assert_closed(node)
    async with cached([plain.url], tmp_path / "cache") as node:  # what is read again from the files opens no more
        await assert_closed(node)


@pytest.mark.parametrize(
    "text", ['{"\u017fchemaVer\u017fion": 2, "manife\u017ft\u017f": []}', '{"schemaVersion": 2, "manifests": null}']
)
async def test_what_is_served_as_a_manifest_is_never_a_blob(plain: ScriptedRegistry, tmp_path: Path, text: str) -> None:
    """Go reads U+017F as an s; and a registry may take by its Content-Type what does not look like a manifest."""
    content = text.encode()
    held = plain.library.repository("team/app")
    held.manifests[sha256(content)] = HeldManifest(sha256(content), OCI_INDEX, Bytes(content))
    held.blobs[sha256(content)] = Bytes(content)
    async with cached([plain.url], tmp_path / "cache") as node:
        assert (await node.get(manifest(sha256(content)))).status == 200
        for method in ("HEAD", "GET"):
            assert (await node.send(method, blob(sha256(content)))).status == 404


@pytest.mark.parametrize("how", ["rebuilt", "kept"])
async def test_an_index_opens_manifests_and_no_blobs(plain: ScriptedRegistry, tmp_path: Path, how: str) -> None:
    """A registry takes an index whose entries are digests of blobs: they are none of its blobs for that."""
    hide(plain)
    entries = [_CLAIMED_MANIFEST, {**_CLAIMED_MANIFEST, "digest": sha256(SECRET)}]
    content = _document(OCI_INDEX, manifests=entries).encode()
    held = plain.library.repository("team/app")
    held.manifests[sha256(content)] = HeldManifest(sha256(content), OCI_INDEX, Bytes(content))
    held.tags["crafted"] = sha256(content)
    async with cached([plain.url], tmp_path / "cache") as node:
        assert (await node.get(blob(sha256(SECRET), "library/secret"))).body == SECRET
        assert (await node.get(manifest("crafted"))).status == 200
    if how == "rebuilt":
        (tmp_path / "cache" / "index.sqlite").unlink()
    async with cached([plain.url], tmp_path / "cache") as node:
        for method in ("HEAD", "GET"):
            assert (await node.send(method, blob(sha256(SECRET)))).status == 404
            assert (await node.send(method, manifest(sha256(SECRET)))).status == 404


async def test_a_confirmed_blob_is_no_manifest_of_the_repository(plain: ScriptedRegistry, tmp_path: Path) -> None:
    """What an upstream confirms under `/blobs/` says nothing of the repository's manifests."""
    hide(plain)
    plain.library.repository("team/app").blobs[VICTIM.digest] = Generated(5 * MIB)
    async with cached([plain.url], tmp_path / "cache") as node:
        assert (await node.head(blob(VICTIM.digest))).status == 200
        assert (await node.get(manifest(name="library/secret"))).body == VICTIM.manifest
        for method in ("HEAD", "GET"):
            assert (await node.send(method, manifest(VICTIM.digest))).status == 404


@pytest.mark.parametrize("name", ["image-blobs", "index-blobs", "artifact-layers", "double-layers", "double-config"])
async def test_nor_across_registries_for_clients_with_their_own_credentials(tmp_path: Path, name: str) -> None:
    rules = Rules(accounts=ACCOUNTS)
    async with ScriptedRegistry([], rules) as private, ScriptedRegistry([OWN], rules) as public:
        hide(private)
        publish(public, name, "team/open")
        registries = {
            REG: {"endpoints": [public.url], "rewrites": list(REWRITES)},
            OTHER: {"endpoints": [private.url], "rewrites": list(REWRITES)},
        }
        listener = {"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}
        revoke(private, replace(OWNER, repositories=("team/secret",)))
        async with cached([public.url], tmp_path / "cache", registries=registries, listeners=[listener]) as node:
            owned = blob(sha256(SECRET), "library/secret", OTHER)
            assert (await node.get(owned, login(OWNER))).body == SECRET
            got = await node.get(manifest(name="library/secret", registry=OTHER), login(OWNER))
            assert got.body == VICTIM.manifest
            assert (await node.get(manifest("crafted", "library/open"), login(GUEST))).status == 200
            await assert_closed(node, login(GUEST), name="library/open")


@pytest.mark.parametrize("name", ["image-blobs", "index-blobs", "artifact-layers", "double-layers", "double-config"])
async def test_nor_past_access_rules(plain: ScriptedRegistry, tmp_path: Path, name: str) -> None:
    hide(plain)
    publish(plain, name)
    hashes = {user: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode() for user in ("owner", "guest")}
    (tmp_path / "htpasswd").write_text("".join(f"{user}:{text}\n" for user, text in hashes.items()))
    listener = {"address": "127.0.0.1:0", "clients": {"auth": "basic", "htpasswdFile": str(tmp_path / "htpasswd")}}
    access = [
        {"action": "deny", "repositories": "library/secret", "clients": "guest"},
        {"action": "allow"},
    ]
    async with cached([plain.url], tmp_path / "cache", listeners=[listener], access=access) as node:
        owner, guest = (login(replace(OWNER, username=user)) for user in ("owner", "guest"))
        assert (await node.get(blob(sha256(SECRET), "library/secret"), owner)).body == SECRET
        assert (await node.get(manifest(name="library/secret"), owner)).body == VICTIM.manifest
        assert (await node.get(manifest(name="library/secret"), guest)).status == 403
        assert (await node.get(manifest("crafted"), guest)).status == 200
        await assert_closed(node, guest)
