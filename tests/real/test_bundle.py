"""Bundles with real parts: skopeo, crane and containerd read ours and write theirs; a node pulls without a registry."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real import images
from tests.real.containerd import Node
from tests.real.crane import crane, packed, unpacked
from tests.real.cri import CriError
from tests.real.hosts import write_mirror
from tests.real.images import PROJECT, Image
from tests.real.processes import Outcome, run, scratch
from tests.real.programs import require, require_tools
from tests.real.proxy_process import PROGRAM, Proxy
from tests.real.registry import Registry, open_registry
from tests.real.skopeo import Skopeo
from tests.real.uploads import Uploader
from tests.tools.catalogue import CRANE

pytestmark = pytest.mark.slow

REGISTRY = "reg.example"
MINI = f"{REGISTRY}/{PROJECT}/mini-test:1"
MULTI = f"{REGISTRY}/{PROJECT}/multi-arch:1"
DOCKER = f"{REGISTRY}/{PROJECT}/ibm-operator:1.2"
NAMES = {
    MINI: images.named(f"{PROJECT}/mini-test:1"),
    MULTI: images.multi_arch(),
    DOCKER: images.named(f"{PROJECT}/ibm-operator:1.2"),
}
NOWHERE = "http://127.0.0.1:1"


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache, and the command line that works on it."""

    directory: Path
    url: str
    offline: bool = False

    def run(self, *arguments: str | Path) -> Outcome:
        """Run `scope-proxy cache ...`."""
        file = self.directory / "config.yaml"
        cache = {"path": str(self.directory / "cache"), "reserveFree": "1Ki", "offline": self.offline}
        registries = {REGISTRY: {"endpoints": [self.url]}}
        file.write_text(json.dumps({"version": 1, "registries": registries, "cache": cache}))
        return run([*PROGRAM, "cache", *map(str, arguments), "--config", str(file)])

    def stored(self) -> set[str]:
        """The digests of all that is stored."""
        return {f"sha256:{file.name}" for file in (self.directory / "cache" / "blobs").rglob("*") if file.is_file()}


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch("bundle") as path:
        yield path


@pytest.fixture
def open_to_all() -> Iterator[Registry]:
    """A registry that lets everybody pull and push, and stops when a test says so."""
    require("docker-registry")
    with scratch("open-store") as store, open_registry(store) as registry:
        with contextlib.closing(Uploader(registry.address)) as uploader:
            for image in NAMES.values():
                uploader.push(image)
        yield registry


@pytest.fixture
def bundle(open_to_all: Registry, directory: Path) -> Path:
    """Our own bundle of all images; the registry that they were pulled from still runs."""
    (directory / "source").mkdir()
    source = Cache(directory / "source", open_to_all.url)
    source.run("prefetch", *NAMES).checked()
    source.run("export", *NAMES, "-o", directory / "bundle.tar").checked()
    return directory / "bundle.tar"


@pytest.fixture
def target(directory: Path) -> Cache:
    """A cache without a network."""
    (directory / "target").mkdir()
    return Cache(directory / "target", NOWHERE, offline=True)


def digests(image: Image) -> set[str]:
    return {each.digest for each in (image.manifest, *image.children, *image.blobs)}


def at(registry: Registry, name: str) -> str:
    """Where an image is at a registry."""
    return name.replace(REGISTRY, registry.address)


def raw(skopeo: Skopeo, registry: Registry, repository: str) -> bytes:
    return skopeo.inspect_raw(f"{registry.address}/{repository}").checked().encode()


@pytest.mark.parametrize("name", [MINI, MULTI])
def test_skopeo_reads_our_bundle(bundle: Path, open_to_all: Registry, skopeo: Skopeo, name: str) -> None:
    target = f"docker://{open_to_all.address}/copied/image:1"
    skopeo.move(f"oci-archive:{bundle}:{name}", target, every=True).checked()
    assert raw(skopeo, open_to_all, "copied/image:1") == NAMES[name].manifest.data


def test_skopeo_reads_a_bundle_of_one_image_of_dockers_type(
    bundle: Path, open_to_all: Registry, skopeo: Skopeo, directory: Path
) -> None:
    """Such an image skopeo does not find by its name."""
    assert bundle.exists()
    source = Cache(directory / "source", open_to_all.url)
    source.run("export", DOCKER, "-o", directory / "one.tar").checked()
    skopeo.move(f"oci-archive:{directory / 'one.tar'}", f"docker://{open_to_all.address}/copied/image:1").checked()
    assert raw(skopeo, open_to_all, "copied/image:1") == NAMES[DOCKER].manifest.data


def test_crane_reads_our_bundle(bundle: Path, open_to_all: Registry, skopeo: Skopeo, directory: Path) -> None:
    require_tools(CRANE)
    layout = unpacked(bundle, directory / "layout")
    crane("push", "--index", layout, f"{open_to_all.address}/copied/all:1").checked()
    listed = json.loads(raw(skopeo, open_to_all, "copied/all:1"))["manifests"]
    assert {entry["digest"] for entry in listed} == {image.manifest.digest for image in NAMES.values()}
    for image in NAMES.values():
        crane("validate", "--remote", f"{open_to_all.address}/copied/all@{image.manifest.digest}").checked()


def test_containerd_reads_our_bundle(bundle: Path, node: Node) -> None:
    node.ctr.run("images", "import", "--all-platforms", "--no-unpack", str(bundle)).checked()
    listed = node.ctr.run("images", "list", "--quiet").checked().split()
    assert set(NAMES) <= set(listed)
    assert all(name == digest for name, digest in node.content().items())
    assert set().union(*map(digests, NAMES.values())) <= set(node.content())


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_of_skopeo_is_imported(
    open_to_all: Registry, skopeo: Skopeo, target: Cache, directory: Path, name: str
) -> None:
    theirs = directory / "skopeo.tar"
    skopeo.move(f"docker://{at(open_to_all, name)}", f"oci-archive:{theirs}:{name}", every=True).checked()
    assert target.run("import", theirs, "--registry", REGISTRY).checked().startswith(f"{name}: ")
    assert target.stored() == digests(NAMES[name])


def test_a_bundle_of_skopeo_without_a_name_gets_one(
    open_to_all: Registry, skopeo: Skopeo, target: Cache, directory: Path
) -> None:
    theirs = directory / "skopeo.tar"
    skopeo.move(f"docker://{at(open_to_all, MINI)}", f"oci-archive:{theirs}").checked()
    assert f"add --name {REGISTRY}/REPOSITORY:TAG" in target.run("import", theirs, "--registry", REGISTRY).errors
    output = target.run("import", theirs, "--registry", REGISTRY, "--name", MINI).checked()
    assert output.startswith(f"{MINI}: ")


def test_a_bundle_of_crane_is_imported(open_to_all: Registry, target: Cache, directory: Path) -> None:
    require_tools(CRANE)
    layout = directory / "layout"
    crane("pull", "--format", "oci", "--annotate-ref", at(open_to_all, MULTI), layout).checked()
    theirs = packed(layout, directory / "crane.tar")
    # The name has the address that crane pulled from, which is no registry of the cluster.
    assert f"add --registry {open_to_all.address}" in target.run("import", theirs, "--registry", REGISTRY).errors
    target.run("import", theirs, "--registry", REGISTRY, "--name", MULTI).checked()
    assert target.stored() == digests(NAMES[MULTI])


def test_a_bundle_of_containerd_is_imported(open_to_all: Registry, node: Node, target: Cache, directory: Path) -> None:
    write_mirror(node.certs_d, REGISTRY, [open_to_all.url], server=NOWHERE)
    node.cri.pull(MINI)
    theirs = directory / "containerd.tar"
    node.ctr.run("images", "export", str(theirs), MINI).checked()
    assert target.run("import", theirs, "--registry", REGISTRY).checked().startswith(f"{MINI}: ")
    assert target.stored() == digests(NAMES[MINI])


def test_containerd_pulls_from_an_imported_bundle_with_the_registry_stopped(
    bundle: Path,
    open_to_all: Registry,
    cache_directory: Path,  # removed after the proxy has ended
    start_proxy: Callable[..., Proxy],
    start_node: Callable[[], Node],
) -> None:
    """The proxy is empty, offline and running when the bundle arrives; every image pulls, by tag and by digest."""
    open_to_all.process.stop()
    cache = {"path": str(cache_directory), "reserveFree": "1Ki", "offline": True, "tagAge": "0s"}
    proxy = start_proxy({REGISTRY: {"endpoints": [open_to_all.url]}}, cache=cache, workers=2)
    node = start_node()
    write_mirror(node.certs_d, REGISTRY, [proxy.url], server=proxy.url)
    with pytest.raises(CriError, match="not found"):
        node.cri.pull(MINI)
    proxy.cache("import", str(bundle), "--registry", REGISTRY).checked()
    for name, image in NAMES.items():
        node.cri.pull(name)
        node.assert_complete(name, *image.files)
    second = start_node()
    write_mirror(second.certs_d, REGISTRY, [proxy.url], server=proxy.url)
    second.cri.pull(f"{MULTI.removesuffix(':1')}@{NAMES[MULTI].manifest.digest}")
    assert second.unpacked_files() >= set(NAMES[MULTI].files)
    with pytest.raises(CriError, match="not found"):
        second.cri.pull(f"{REGISTRY}/{PROJECT}/never-exported:1")
