"""Bundles that somebody has prepared, and what an import gives to whom."""

import asyncio
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import main
from proxy.testbed.images import OCI_INDEX, OCI_MANIFEST, Image, make_image, sha256
from proxy.testbed.tokens import Rules
from tests.cache.serving import cached, way
from tests.fakes.bundles import REF_NAME, blob_path, indexed, layout, listed, write_tar
from tests.fakes.proxy import REG, REWRITES, UPSTREAM, blob, layer_of, manifest
from tests.fakes.registry import ScriptedRegistry
from tests.security.clients import GUEST, OWNER, login

pytestmark = pytest.mark.security

OTHER = "other.example"
NAME = f"{REG}/library/app:1"
IMAGE = make_image(UPSTREAM, "1")
OFFLINE = {"offline": True}
ALLOW = ({"action": "allow"},)
ENDPOINTS = ("http://127.0.0.1:1", "http://127.0.0.1:2")
Files = dict[str, bytes]


def run(directory: Path, *arguments: str | Path, **sections: Any) -> Result:
    """`scope-proxy cache` with a configuration of two registries, and of further sections."""
    registries = {
        REG: {"endpoints": [ENDPOINTS[0]], "rewrites": list(REWRITES)},
        OTHER: {"endpoints": [ENDPOINTS[1]], "rewrites": list(REWRITES)},
    }
    cache = {"path": str(directory), "reserveFree": "1Ki"}
    config = directory.with_suffix(".yaml")
    config.write_text(json.dumps({"version": 1, "registries": registries, "cache": cache, **sections}))
    return CliRunner().invoke(main, ["cache", *map(str, arguments), "--config", str(config)])


def imported(directory: Path, bundle: Path, registry: str = REG, **sections: Any) -> str:
    """The output of an import that succeeds."""
    result = run(directory, "import", bundle, "--registry", registry, **sections)
    assert result.exit_code == 0, result.output
    return result.output


def refused(directory: Path, bundle: Path, registry: str = REG) -> str:
    """The one line of an import that fails, after which no image is known."""
    result = run(directory, "import", bundle, "--registry", registry)
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
    [line] = result.output.splitlines()
    assert line.startswith(f"scope-proxy: {bundle}: ")
    assert list(directory.glob("repositories/*/*/*/*")) == []
    assert list(directory.glob("ingest/*")) == []
    return line


def files(image: Image = IMAGE, name: str = NAME) -> Files:
    return layout((image, {REF_NAME: name}))


def wrong_layer(found: Files) -> Files:
    digest, content = layer_of(IMAGE)
    return {**found, blob_path(digest): bytes(len(content))}


def short_layer(found: Files) -> Files:
    digest, content = layer_of(IMAGE)
    return {**found, blob_path(digest): content[:-1]}


def no_layer(found: Files) -> Files:
    return {name: content for name, content in found.items() if name != blob_path(layer_of(IMAGE)[0])}


def wrong_manifest(found: Files) -> Files:
    return {**found, blob_path(IMAGE.digest): IMAGE.manifest + b" "}


def no_manifest(found: Files) -> Files:
    return {name: content for name, content in found.items() if name != blob_path(IMAGE.digest)}


def as_index(found: Files) -> Files:
    return {**found, **indexed([listed(IMAGE.manifest, OCI_INDEX, {REF_NAME: NAME})])}


def index_of(*children: tuple[bytes, str]) -> bytes:
    entries = [listed(content, media_type) for content, media_type in children]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def too_deep(found: Files) -> Files:
    content, more = index_of((IMAGE.manifest, OCI_MANIFEST)), dict[str, bytes]()
    for _ in range(6):
        more[blob_path(sha256(content))] = content
        content = index_of((content, OCI_INDEX))
    more[blob_path(sha256(content))] = content
    return {**found, **more, **indexed([listed(content, OCI_INDEX, {REF_NAME: NAME})])}


def without_a_platform(found: Files) -> Files:
    content = index_of((b"{}", OCI_MANIFEST))
    entry = listed(content, OCI_INDEX, {REF_NAME: NAME})
    return {**found, blob_path(sha256(content)): content, **indexed([entry])}


def too_many_digests(found: Files) -> Files:
    content = index_of(*((str(number).encode(), OCI_MANIFEST) for number in range(3000)))
    entry = listed(content, OCI_INDEX, {REF_NAME: NAME})
    return {**found, blob_path(sha256(content)): content, **indexed([entry])}


def large_manifest(found: Files) -> Files:
    content = IMAGE.manifest + b" " * (4 << 20)
    entry = listed(content, OCI_MANIFEST, {REF_NAME: NAME})
    return {**found, blob_path(sha256(content)): content, **indexed([entry])}


def ambiguous(found: Files) -> Files:
    content = IMAGE.manifest.rstrip().removesuffix(b"}") + b', "manifests": []}'
    entry = listed(content, OCI_MANIFEST, {REF_NAME: NAME})
    return {**found, blob_path(sha256(content)): content, **indexed([entry])}


def changed_index(content: bytes) -> Callable[[Files], Files]:
    return lambda found: {**found, "index.json": content}


def changed_type(media_type: object) -> Callable[[Files], Files]:
    entry = {**listed(IMAGE.manifest, OCI_MANIFEST, {REF_NAME: NAME}), "mediaType": media_type}
    return lambda found: {**found, **indexed([entry])}


HOSTILE: Mapping[str, tuple[Callable[[Files], Files], str]] = {
    "wrong layer": (wrong_layer, "have another digest: the bundle is damaged"),
    "short layer": (short_layer, "bytes and not"),
    "no layer": (no_layer, "is missing: export or copy the image again"),
    "wrong manifest": (wrong_manifest, "have another digest: the bundle is damaged"),
    "no manifest": (no_manifest, "is missing"),
    "manifest as index": (as_index, "is listed as"),
    "too deep": (too_deep, "nested more than 4 levels deep"),
    "no platform": (without_a_platform, "no platform of it is in the bundle"),
    "too many digests": (too_many_digests, "more digests than cache.maxManifestDigests"),
    "large manifest": (large_manifest, "at most 4194304 are read"),
    "image and index": (ambiguous, "cannot be used"),
    "deep JSON": (changed_index(b"[" * 100_000), "index.json"),
    "deep object": (changed_index(b'{"a":' * 100_000), "index.json"),
    "no object": (changed_index(b"[]"), "index.json is not a JSON object"),
    "no manifests": (changed_index(b'{"schemaVersion": 2, "manifests": []}'), "it has no images"),
    "no list": (changed_index(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX}).encode()), "it has no images"),
    "type that is a list": (changed_type([]), "which is not a manifest"),
    "type that is an object": (changed_type({}), "which is not a manifest"),
    "two lists": (
        changed_index(b'{"schemaVersion": 2, "manifests": [], "manifests": [{}]}'),
        "its index.json cannot be used: ",
    ),
    "bad digest": (
        changed_index(
            json.dumps(
                {"schemaVersion": 2, "manifests": [{"mediaType": OCI_MANIFEST, "digest": "sha256:../../x", "size": 1}]}
            ).encode()
        ),
        "invalid digest",
    ),
    "no layout": (lambda found: {name: found[name] for name in found if name != "oci-layout"}, "it has no oci-layout"),
    "other version": (
        lambda found: {**found, "oci-layout": b'{"imageLayoutVersion": "2.0.0"}'},
        "not of version 1.0.0",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bundle_that_is_not_what_it_says_changes_no_image_and_is_one_error(tmp_path: Path, case: str) -> None:
    change, words = HOSTILE[case]
    bundle = write_tar(tmp_path / "b.tar", change(files()))
    assert words in refused(tmp_path / "cache", bundle)


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


@pytest.mark.parametrize(
    "hostile",
    [
        entry("../outside"),
        entry("/outside"),
        entry("blobs/sha256/../../../outside"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("link", tarfile.LNKTYPE, "/etc/passwd"),
        entry("blobs", tarfile.SYMTYPE, "/etc"),
        entry("pipe", tarfile.FIFOTYPE),
        entry("null", tarfile.CHRTYPE),
        entry("index.json"),
    ],
    ids=lambda found: f"{found.type!r} {found.name}",
)
def test_an_entry_that_leads_elsewhere_is_refused(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    """Wherever it stands: nothing of the bundle is stored before all of its entries were read."""
    bundle = write_tar(tmp_path / "b.tar", files())
    with tarfile.open(bundle, "a") as archive:
        archive.addfile(hostile, io.BytesIO())
    refused(tmp_path / "cache", bundle)
    assert list((tmp_path / "cache").glob("blobs/*/*/*")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "cache.yaml"]


def test_a_bundle_that_is_a_link_or_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.tar").symlink_to(write_tar(tmp_path / "b.tar", files()))
    for name in ("link.tar", "no-such.tar", "."):
        assert "there is no such file, or it is not a regular file" in refused(tmp_path / "cache", tmp_path / name)


def test_who_names_the_layer_of_another_registry_has_to_bring_its_bytes(tmp_path: Path) -> None:
    """Neither leaving it out nor sending others makes a bundle give away what the cache has of another registry."""
    imported(tmp_path / "cache", write_tar(tmp_path / "a.tar", files()), access=list(ALLOW))
    known = set((tmp_path / "cache").glob("repositories/*/*/*/*"))
    for change in (no_layer, wrong_layer):
        bundle = write_tar(tmp_path / "b.tar", change(files(name=f"{OTHER}/library/app:1")))
        result = run(tmp_path / "cache", "import", bundle, "--registry", OTHER, access=list(ALLOW))
        assert result.exit_code == 1, result.output
        assert set((tmp_path / "cache").glob("repositories/*/*/*/*")) == known
    provenance = [path.read_text() for path in (tmp_path / "cache").glob("provenance/*/*/*")]
    layer = layer_of(IMAGE)[0].partition(":")[2]
    [of_layer] = (tmp_path / "cache").glob(f"provenance/*/*/{layer}")
    assert len(provenance) == 1 + len(IMAGE.blobs)
    assert ENDPOINTS[1] not in of_layer.read_text()


def registries(first: str = ENDPOINTS[0]) -> dict[str, Any]:
    return {
        REG: {"endpoints": [first], "rewrites": list(REWRITES)},
        OTHER: {"endpoints": [ENDPOINTS[1]], "rewrites": list(REWRITES)},
    }


async def test_with_access_rules_an_import_counts_for_its_registry_alone(tmp_path: Path) -> None:
    directory, (digest, content) = tmp_path / "cache", layer_of(IMAGE)
    await asyncio.to_thread(imported, directory, write_tar(tmp_path / "b.tar", files()), access=list(ALLOW))
    async with cached((), directory, cache=OFFLINE, registries=registries(), access=list(ALLOW)) as node:
        assert (await node.get(manifest())).body == IMAGE.manifest
        assert (await node.get(blob(digest))).body == content
        for target in (
            manifest(registry=OTHER),
            manifest(IMAGE.digest, registry=OTHER),
            blob(digest, registry=OTHER),
            manifest(IMAGE.digest, "library/other"),
            blob(digest, "library/other"),
        ):
            assert (await node.get(target)).status == 404, target
            assert (await node.head(target)).status == 404, target


async def test_and_only_while_its_registry_has_the_same_endpoints(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    await asyncio.to_thread(imported, directory, write_tar(tmp_path / "b.tar", files()), access=list(ALLOW))
    moved = registries("http://127.0.0.1:3")
    async with cached((), directory, cache=OFFLINE, registries=moved, access=list(ALLOW)) as node:
        assert (await node.get(manifest(IMAGE.digest))).status == 404
        assert (await node.get(blob(layer_of(IMAGE)[0]))).status == 404


async def test_access_rules_deny_what_was_imported(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    rules = [{"action": "deny", "repositories": ["library/app"]}, {"action": "allow"}]
    await asyncio.to_thread(imported, directory, write_tar(tmp_path / "b.tar", files()), access=rules)
    async with cached((), directory, cache=OFFLINE, registries=registries(), access=rules) as node:
        for target in (manifest(), manifest(IMAGE.digest), blob(layer_of(IMAGE)[0])):
            assert (await node.get(target)).status == 403, target


async def test_clients_with_their_own_credentials_get_an_import_only_by_a_right_that_the_upstream_proves(
    tmp_path: Path,
) -> None:
    directory, (digest, content) = tmp_path / "cache", layer_of(IMAGE)
    async with ScriptedRegistry([IMAGE], Rules(accounts=(OWNER, GUEST))) as server:
        entries = {REG: {"endpoints": [server.url], "rewrites": list(REWRITES)}}
        listeners = [{"address": "127.0.0.1:0", "clients": {"auth": "upstream"}}]
        bundle = write_tar(tmp_path / "b.tar", files())
        await asyncio.to_thread(imported, directory, bundle, registries=entries, listeners=listeners)
        async with cached((), directory, registries=entries, listeners=listeners) as node:
            assert (await node.get(blob(digest), login(GUEST))).status in {401, 403, 404}
            assert (await node.get(blob(digest))).status == 401
            got = await node.get(blob(digest), login(OWNER))
            assert (got.status, got.body, way(got)) == (200, content, "hit")
        assert {call.method for call in server.record.of("blob")} <= {"HEAD"}
