"""The images of the tests."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from tests.real import content
from tests.real.content import Blob, Layer, descriptor, gzip_layer, noise

PROJECT = "se-next-gen-docker-local"  # the Artifactory repository of the reported case
TWELVE = 12
LAYER_SIZE = 64 * 1024
ARTIFACT_TYPE = "application/vnd.example.signature"


@dataclass(frozen=True, slots=True)
class Image:
    """A manifest or index under a tag, with all that it refers to."""

    repository: str
    tag: str
    manifest: Blob
    blobs: tuple[Blob, ...]
    children: tuple[Blob, ...] = ()  # manifests of an index, pushed before it
    files: tuple[str, ...] = ()  # what is unpacked on this machine's platform

    @property
    def reference(self) -> str:
        """`<repository>:<tag>`."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class _Parts:
    manifest: Blob
    blobs: tuple[Blob, ...]


def catalogue() -> tuple[Image, ...]:
    """Every small image, those of the reported case twice: also where a node's path prefix would look for them."""
    names = ("mini-test", "cp/se-data-center-edge/mini-test")
    operators = ("ibm-operator", "cpopen/ibm-operator")
    return (
        *(_mini_test(f"{PROJECT}/{name}") for name in names),
        *(_operator(f"{PROJECT}/{name}", "1.2") for name in operators),
        _operator("hmirror/rabbitmqoperator/cluster-operator", "2.7.0"),
        multi_arch(),
        zstd(),
        twelve_layers(),
        signature(),
        signature_list(),
    )


def named(reference: str) -> Image:
    """The image `<repository>:<tag>` of the catalogue."""
    return next(image for image in catalogue() if image.reference == reference)


def multi_arch() -> Image:
    """An index of two platforms."""
    parts = {arch: _assemble([_layer(f"multi-arch-{arch}")], architecture=arch) for arch in ("amd64", "arm64")}
    entries = [
        descriptor(each.manifest, platform={"architecture": arch, "os": "linux"}) for arch, each in parts.items()
    ]
    index = content.json_blob(
        content.OCI_INDEX, {"schemaVersion": 2, "mediaType": content.OCI_INDEX, "manifests": entries}
    )
    blobs = tuple(blob for each in parts.values() for blob in each.blobs)
    here = "arm64" if platform.machine() == "aarch64" else "amd64"
    children = tuple(each.manifest for each in parts.values())
    return Image(f"{PROJECT}/multi-arch", "1", index, blobs, children, (f"multi-arch-{here}",))


def moved(number: int) -> Image:
    """What the tag `moving:1` points to after it was moved so many times."""
    return _image("moving", "1", _assemble([_layer(f"moved-{number}")]), f"moved-{number}")


def zstd() -> Image:
    """An image whose layer is packed with zstd."""
    layer = content.zstd_layer({"packed-with-zstd": noise("zstd", LAYER_SIZE)})
    return _image("zstd", "1", _assemble([layer]), "packed-with-zstd")


def twelve_layers() -> Image:
    """An image of twelve layers, each with a file of its own."""
    names = [f"layer-{number:02}" for number in range(1, TWELVE + 1)]
    return _image("twelve-layers", "1", _assemble([_layer(name) for name in names]), *names)


def signature() -> Image:
    """An artifact whose `subject` is the mini-test image; shaped so that containerd can unpack it as well."""
    subject = descriptor(_mini_test(f"{PROJECT}/mini-test").manifest)
    parts = _assemble([_layer("signature")], artifactType=ARTIFACT_TYPE, subject=subject)
    return _image("mini-test", "signature", parts, "signature")


def signature_list() -> Image:
    """The index of referrers under the tag that clients try where a registry has no referrers API."""
    subject = _mini_test(f"{PROJECT}/mini-test").manifest.digest
    artifact = signature().manifest
    body = {
        "schemaVersion": 2,
        "mediaType": content.OCI_INDEX,
        "manifests": [descriptor(artifact, artifactType=ARTIFACT_TYPE)],
    }
    return Image(f"{PROJECT}/mini-test", subject.replace(":", "-"), content.json_blob(content.OCI_INDEX, body), ())


def _mini_test(repository: str) -> Image:
    parts = _assemble([_layer("hello")])
    return Image(repository, "1", parts.manifest, parts.blobs, files=("hello",))


def _operator(repository: str, tag: str) -> Image:
    names = ("operator", "licence")
    layers = [gzip_layer({name: noise(name, LAYER_SIZE)}, content.DOCKER_LAYER) for name in names]
    config = content.config_of((layer.diff_id for layer in layers), media_type=content.DOCKER_CONFIG)
    parts = _assemble(layers, config=config, media_type=content.DOCKER_MANIFEST)
    return Image(repository, tag, parts.manifest, parts.blobs, files=names)


def _image(name: str, tag: str, parts: _Parts, *files: str) -> Image:
    return Image(f"{PROJECT}/{name}", tag, parts.manifest, parts.blobs, files=files)


def _layer(name: str) -> Layer:
    return gzip_layer({name: noise(name, LAYER_SIZE)})


def _assemble(
    layers: Sequence[Layer],
    *,
    architecture: str = "amd64",
    config: Blob | None = None,
    media_type: str = content.OCI_MANIFEST,
    **more: object,
) -> _Parts:
    config = config or content.config_of((layer.diff_id for layer in layers), architecture=architecture)
    body = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor(config),
        "layers": [descriptor(layer.blob) for layer in layers],
        **more,
    }
    return _Parts(content.json_blob(media_type, body), (config, *(layer.blob for layer in layers)))
